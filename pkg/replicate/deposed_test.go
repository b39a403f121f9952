package replicate

import (
	"errors"
	"testing"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

var errDisk = errors.New("disk gives no answer")

// failOnce fails the next append, after it has written if keep.
func (l *faultyLog) failOnce(keep bool) {
	failed := false
	l.failAppends(func([]sqllog.Row) (bool, error) {
		if failed {
			return false, nil
		}
		failed = true
		return keep, errDisk
	})
}

// TestCutOffPrimary: one that reaches neither the others nor object storage tells its
// clients nothing; when it is back its rows are cut off, their clients hear that the
// outcome is not known, and it follows.
func TestCutOffPrimary(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.trio()
	a.put("key", "before")
	a.store.down(true)
	w.isolate(a, true)
	lost := call(func() error {
		_, err := a.tryPut(within(patient), "lost", "x")
		return err
	})
	w.eventually("the row in the log", func() bool { return a.log.Head().ID > a.index.Head().ID })
	p := w.primary(a)
	p.put("key", "after")
	if value, err := a.tryGet(within(3*testSuspicion), "key"); err == nil {
		t.Errorf("a Primary that is cut off reads %q", value)
	}
	stillWaits(t, "the write at the old Primary", lost)
	if !a.leads() {
		t.Error("the old Primary knows that it is deposed")
	}
	a.store.down(false)
	w.isolate(a, false)
	want(t, "the write at the old Primary", <-lost, ErrDeposed)
	if got := a.local("lost"); got != "" {
		t.Errorf("a row that was not committed is shown: %q", got)
	}
	if got := a.get("key"); got != "after" {
		t.Errorf("the old Primary reads %q", got)
	}
	a.awaitFollow(w.primary())
	w.same(a, b, c)
	w.eventually("equal logs", func() bool { return a.log.Head() == b.log.Head() && b.log.Head() == c.log.Head() })
	if !w.logged("cut") {
		t.Error("nothing was cut off the log of the old Primary")
	}
	if a.put("key", "more"); b.get("key") != "more" {
		t.Error("the old Primary does not take writes")
	}
}

// TestIsolatedPrimaryWithObjectStorage: what its chunks have committed before the fence
// of the next one is kept, anything later is refused.
func TestIsolatedPrimaryWithObjectStorage(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.trio()
	w.isolate(a, true)
	acked := ""
	for i := range 200 {
		if _, err := a.tryPut(within(patient), "key", string(rune('a'+i%26))); err != nil {
			break
		}
		acked = string(rune('a' + i%26))
		if !a.leads() {
			break
		}
	}
	p := w.primary(a)
	if got := p.get("key"); got != acked {
		// One more may have been committed whose client was told that nobody knows.
		t.Logf("read %q, acknowledged %q", got, acked)
		if got < acked && acked != "z" {
			t.Errorf("%q was acknowledged, %q is read", acked, got)
		}
	}
	w.isolate(a, false)
	w.same(a, b, c)
}

// TestAppendFails: the Primary steps down, its log recovers, and the cluster goes on,
// whether the rows are on its disk or not.
func TestAppendFails(t *testing.T) {
	for name, keep := range map[string]bool{"kept": true, "not kept": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a, b, c := w.trio()
			before := w.cluster().Epoch
			a.log.failOnce(keep)
			_, err := a.tryPut(within(patient), "unknown", "x")
			want(t, "a write whose append fails", err, ErrDeposed)
			w.eventually("another epoch", func() bool { return w.cluster().Epoch > before })
			a.put("key", "a")
			if c.get("key") != "a" || b.put("key", "b") == 0 || a.get("key") != "b" {
				t.Error("reads are stale")
			}
			w.same(a, b, c)
			if a.log.Broken() != nil {
				t.Error("the log is not recovered")
			}
		})
	}
}

// TestAppendFailsAlone: a cluster of one node goes on when its log has recovered.
func TestAppendFailsAlone(t *testing.T) {
	w := newWorld(t)
	a := w.add("a").awaitLead()
	a.put("key", "1")
	down := true
	a.log.failRecovery(func() error {
		if down {
			down = false
			return errDisk
		}
		return nil
	})
	a.log.failOnce(false)
	if _, err := a.tryPut(within(patient), "key", "2"); err == nil {
		t.Error("a write whose append fails is acknowledged")
	}
	a.put("key", "3")
	if got := a.get("key"); got != "3" {
		t.Errorf("read %q", got)
	}
}

// TestReplicaAppendFails: it recovers, and takes the rows again.
func TestReplicaAppendFails(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.trio()
	b.log.failOnce(true)
	c.log.failOnce(false)
	a.put("key", "1")
	a.put("key", "2")
	if b.get("key") != "2" || c.get("key") != "2" {
		t.Error("a Replica whose log failed reads stale")
	}
	w.same(a, b, c)
}

// TestLateWrite: a client that still has a hold of a Primary that is gone is sent on,
// and nothing ends for it.
func TestLateWrite(t *testing.T) {
	w := newWorld(t)
	a, b, _ := w.trio()
	p := a.m.primary()
	w.moveTo(b)
	_, err := p.Txn(ctx, writes(put("key", "value")))
	want(t, "a write at a Primary that is gone", err, errHandingOver)
	_, err = p.LeaseKeepAlive(ctx, 1)
	want(t, "a keep-alive at a Primary that is gone", err, errHandingOver)
	select {
	case err := <-a.fatal:
		t.Errorf("the node was to end: %v", err)
	default:
	}
	a.put("key", "value")
}

// TestCloseInEveryRole: nothing is left behind, whatever hangs.
func TestCloseInEveryRole(t *testing.T) {
	t.Run("candidate", func(t *testing.T) {
		w := newWorld(t)
		a, b, c := w.trio()
		for _, n := range []*testNode{b, c} {
			n.store.set(func(_ object.Op, key string) error {
				if len(key) >= 6 && key[:6] == "chunks" {
					return object.ErrUnavailable
				}
				return nil
			})
		}
		a.stop()
		w.eventually("a candidate", func() bool {
			return b.m.control.state().role.String() == "candidate" || c.m.control.state().role.String() == "candidate"
		})
	})
	t.Run("primary and replicas that hang", func(t *testing.T) {
		w := newWorld(t)
		a, b, c := w.trio()
		w.net.hush(a.id, b.id, true) // frames pile up; the stream does not break
		w.net.hush(b.id, a.id, true)
		for range 40 {
			a.put("key", "value")
		}
		a.closeMember()
		c.closeMember()
	})
	t.Run("clients that wait", func(t *testing.T) {
		w := newWorld(t)
		a, b, c := w.trio()
		a.stop()
		b.stop() // c has no majority
		waits := call(func() error {
			_, err := c.tryPut(ctx, "key", "value")
			return err
		})
		w.eventually("no primary", func() bool { return c.m.Primary() == 0 || c.m.metrics.silentFor(w.clock.look()) > 0 })
		c.closeMember()
		select {
		case <-waits:
		case <-time.After(leaderPatience - time.Second):
			t.Error("a client waits although the node is closed")
			<-waits
		}
	})
}

// TestCommitThatPanics: what is pending cannot be told from what is committed any more,
// so that the node ends, with no lock held.
func TestCommitThatPanics(t *testing.T) {
	w := newWorld(t)
	a := w.add("a").awaitLead()
	a.log.failAppends(func([]sqllog.Row) (bool, error) { panic("bad disk") })
	if _, err := a.tryPut(within(patient), "key", "value"); err == nil {
		t.Error("the write was acknowledged")
	}
	select {
	case err := <-a.fatal:
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("the node ended for %v", err)
		}
	case <-within(patient).Done():
		t.Fatal("the node goes on")
	}
	// Until the process has ended it takes no part any more: the others elect without it.
	a.m.control.mu.Lock()
	defer a.m.control.mu.Unlock()
	if !a.m.control.closed {
		t.Error("the node still elects and answers")
	}
}
