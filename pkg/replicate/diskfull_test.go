package replicate

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/pkg/peer/peerpb"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// refuses requires that a node refuses writes for want of space, and reads.
func (n *testNode) refuses(key, value string) {
	n.w.Helper()
	_, err := n.tryPut(within(patient), key, value)
	if !errors.Is(err, ErrNoSpace) && status.Code(err) != codes.ResourceExhausted {
		n.w.Fatalf("a write at %s, whose cluster has no room: %v", n.name, err)
	}
	if got := n.get(key); got == value {
		n.w.Fatalf("%s reads %q, which was refused", n.name, got)
	}
}

// elapse waits until so many suspicion times have passed.
func (w *world) elapse(times time.Duration) {
	w.Helper()
	until := w.clock.look() + times*testSuspicion
	w.eventually("time to pass", func() bool { return w.clock.look() >= until })
}

// TestFullPrimaryGivesWay: one other node is elected, once; the full one follows it when
// it has room, and has lost nothing.
func TestFullPrimaryGivesWay(t *testing.T) {
	for name, room := range map[string]space{"small writes": tight, "no write": nothing} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a, b, c := w.trio()
			before := w.cluster().Epoch
			a.log.fill(room)
			if _, err := a.tryPut(within(patient), "unknown", "x"); err == nil {
				t.Error("a write whose append fails is acknowledged by the Primary that has no room")
			}
			b.put("key", "b")
			if p := w.primary(a); p.get("key") != "b" || a.leads() {
				t.Errorf("%s leads", p.name)
			}
			w.eventually("a full disk in the status", func() bool { s := a.m.Status(); return !s.Healthy && s.NoSpace })
			w.elapse(10)
			if e := w.cluster().Epoch; e != before+1 {
				t.Errorf("%d elections were held", e-before)
			}
			a.log.fill(ample)
			a.put("key", "a")
			if got := c.get("key"); got != "a" {
				t.Errorf("read %q", got)
			}
			w.same(a, b, c)
			w.eventually("health", func() bool { return a.m.Status().Healthy })
		})
	}
}

// TestFullPrimaryOfTwo: the third node is away, so that the full one has to promise if
// the other is to be elected.
func TestFullPrimaryOfTwo(t *testing.T) {
	t.Run("small writes", func(t *testing.T) {
		w := newWorld(t)
		a, b, c := w.trio()
		c.stop()
		a.put("key", "1")
		a.log.fill(tight)
		_, _ = a.tryPut(within(patient), "key", "2")
		b.put("key", "3")
		if !b.leads() {
			t.Error("the Primary has no room, and another node has")
		}
	})
	t.Run("no write", func(t *testing.T) {
		w := newWorld(t)
		a, b, c := w.trio()
		c.stop()
		a.put("key", "1")
		before := w.cluster().Epoch
		a.log.fill(nothing)
		_, err := a.tryPut(within(patient), "unknown", "x")
		want(t, "a write that finds no room", err, ErrUnavailable)
		a.refuses("key", "2")
		b.refuses("key", "2")
		w.elapse(10)
		if e := w.cluster().Epoch; e != before || !a.leads() {
			t.Errorf("%d elections were held that could not be won", e-before)
		}
		a.log.fill(ample)
		b.put("key", "3")
		if got := a.get("unknown"); got != "x" {
			t.Errorf("the rows that waited for room are %q", got)
		}
	})
}

// TestAllDisksFull: reads go on, writes are refused, nobody is elected; and all goes on
// when there is room.
func TestAllDisksFull(t *testing.T) {
	for name, others := range map[string]int{"alone": 0, "three": 2} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a := w.add("a").awaitLead()
			if others > 0 {
				w.add("b")
				w.add("c")
				w.voters(w.nodes...)
				a = w.primary()
			}
			a.put("key", "1")
			w.same(w.nodes...)
			before := w.cluster().Epoch
			for _, n := range w.nodes {
				n.log.fill(nothing)
			}
			_, err := a.tryPut(within(patient), "unknown", "x")
			want(t, "a write that finds no room", err, ErrUnavailable)
			for _, n := range w.nodes {
				n.refuses("key", "2")
			}
			if s := a.m.Status(); s.Healthy || !s.NoSpace || len(s.Errors) != 1 {
				t.Errorf("status is %+v", s)
			}
			w.elapse(10)
			if e := w.cluster().Epoch; e != before || !a.leads() {
				t.Errorf("%d elections were held", e-before)
			}
			for _, n := range w.nodes {
				n.log.fill(ample)
			}
			for _, n := range w.nodes {
				n.put("key", n.name)
			}
			if got := a.get("unknown"); got != "x" {
				t.Errorf("the rows that waited for room are %q", got)
			}
			w.same(w.nodes...)
			w.eventually("health", func() bool { return a.m.Status().Healthy })
			if e := w.cluster().Epoch; e != before {
				t.Errorf("%d elections were held", e-before)
			}
		})
	}
}

// TestFullDiskUnderLoad: groups that form behind the one that has no room wait with it.
func TestFullDiskUnderLoad(t *testing.T) {
	w := newWorld(t)
	a := w.add("a").awaitLead()
	entered, leave := make(chan struct{}), make(chan struct{})
	a.log.failAppends(func([]sqllog.Row) (bool, error) {
		entered <- struct{}{}
		<-leave
		return false, sqllog.ErrFull
	})
	write := func(key string) <-chan error {
		return call(func() error { _, err := a.tryPut(within(patient), key, "x"); return err })
	}
	over := []<-chan error{write("first")}
	<-entered
	forming := func(n int) {
		w.eventually("writes behind it", func() bool {
			p := a.m.primary()
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.forming.writers == n
		})
	}
	for i, key := range []string{"second", "third"} {
		over = append(over, write(key))
		forming(i + 1)
	}
	a.log.fill(nothing)
	close(leave)
	for _, result := range over {
		want(t, "a write that finds no room", <-result, ErrUnavailable)
	}
	a.refuses("fourth", "x")
	a.log.fill(ample)
	a.put("fourth", "x")
	for _, key := range []string{"first", "second", "third"} {
		if got := a.get(key); got != "x" {
			t.Errorf("%s is %q", key, got)
		}
	}
}

// TestFullReplica: it does not count, says why, keeps its vote, and catches up.
func TestFullReplica(t *testing.T) {
	w := newWorld(t)
	w.setup = func(c *MemberConfig) { c.DeregisterAfter = 2 * testSuspicion }
	a, b, c := w.trio()
	c.log.fill(nothing)
	a.put("key", "1")
	w.eventually("a Primary that does not count on it", func() bool { return !a.m.healthy(c.id) })
	s := c.m.State()
	if s.Health != peerpb.Health_HEALTH_DEGRADED || !strings.Contains(strings.Join(s.Problems, ";"), sqllog.ErrFull.Error()) || !c.m.Status().NoSpace {
		t.Errorf("it is %s: %v", s.Health, s.Problems)
	}
	w.elapse(10)
	if a.put("key", "2"); b.get("key") != "2" || !w.cluster().IsMember(c.id) {
		t.Errorf("the voters are %v", w.cluster().Members)
	}
	if got := a.m.successor(c.id); got != 0 {
		t.Error("it may be chosen as Primary")
	}
	c.log.fill(ample)
	w.same(a, b, c)
	w.eventually("health", func() bool { return c.m.Status().Healthy && a.m.healthy(c.id) })
}

// TestNoElectionAmongFullDisks: without room for a promise no election can be won, and
// none is held until there is room.
func TestNoElectionAmongFullDisks(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.trio()
	b.log.fill(nothing)
	c.log.fill(nothing)
	a.put("key", "1") // by object storage
	w.eventually("full disks", func() bool { return b.m.room.full.Load() && c.m.room.full.Load() })
	before := w.cluster().Epoch
	a.stop()
	w.elapse(30)
	if e := w.cluster().Epoch; e != before {
		t.Errorf("%d elections were held", e-before)
	}
	b.log.fill(ample)
	c.log.fill(ample)
	if got := b.get("key"); got != "1" {
		t.Errorf("read %q", got)
	}
	b.put("key", "2")
}
