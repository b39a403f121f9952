package replicate

import (
	"testing"

	"github.com/kinsy/kinsy/pkg/elect"
)

// TestTooFewReplicas: rows are committed by chunks while too few Replicas answer, and by
// receipts again later.
func TestTooFewReplicas(t *testing.T) {
	for name, away := range map[string]func(w *world, n *testNode, on bool){
		"silent": func(w *world, n *testNode, on bool) { w.isolate(n, on) },
		"gone": func(_ *world, n *testNode, on bool) {
			if on {
				n.stop()
			} else {
				n.start()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a, b, c := w.trio()
			a.put("key", "0")
			w.same(a, b, c)
			away(w, b, true)
			away(w, c, true)
			for _, value := range []string{"1", "2", "3"} {
				began := w.clock.look()
				a.put("key", value)
				if took := w.clock.look() - began; took > 5*testSuspicion {
					t.Errorf("a write took %s", took)
				}
				if end, shown := a.archive.Uploaded(), a.index.Head().ID; end < shown {
					t.Errorf("row %d is acknowledged, the chain ends at %d", shown, end)
				}
				if got := a.get("key"); got != value {
					t.Errorf("read %q after %q", got, value)
				}
			}
			away(w, b, false)
			away(w, c, false)
			p := w.primary()
			p.put("key", "4")
			for _, n := range []*testNode{a, b, c} {
				if n != w.primary() {
					n.awaitFollow(w.primary())
				}
			}
			for _, n := range []*testNode{a, b, c} {
				n.store.down(true)
			}
			if w.primary().put("key", "5"); b.get("key") != "5" {
				t.Error("receipts do not commit any more")
			}
			for _, n := range []*testNode{a, b, c} {
				n.store.down(false)
			}
			w.same(a, b, c)
		})
	}
}

// TestRuleN: the Primary and N Replicas are enough, and fewer are not.
func TestRuleN(t *testing.T) {
	w := newWorld(t)
	w.rule = 2
	a, b, c := w.trio()
	if got := w.cluster(); got.Rule != 2 || got.RuleBefore != 2 {
		t.Fatalf("cluster.json has the rules %d and %d", got.Rule, got.RuleBefore)
	}
	a.store.down(true)
	a.put("key", "1")
	for _, n := range []*testNode{b, c} {
		if n.log.Head().ID < a.index.Head().ID {
			t.Errorf("node %s does not hold what is acknowledged", n.name)
		}
	}
	w.isolate(c, true)
	value := call(func() error {
		_, err := a.tryPut(within(patient), "key", "2")
		return err
	})
	w.eventually("the row at the other Replica", func() bool { return b.log.Head().ID > a.index.Head().ID })
	stillWaits(t, "a write that one Replica of two holds", value)
	a.store.down(false)
	want(t, "the write, once object storage answers", <-value, nil)
	w.isolate(c, false)
	if got := c.get("key"); got != "2" {
		t.Errorf("read %q", got)
	}
	a.stop() // any one node holds everything
	p := w.primary(a)
	if got := p.get("key"); got != "2" {
		t.Errorf("after the election: %q", got)
	}
}

// TestRuleObjectStorage: nothing is acknowledged that the chain does not hold, whoever
// else does.
func TestRuleObjectStorage(t *testing.T) {
	w := newWorld(t)
	w.rule = elect.ObjectStorage
	a, b, c := w.trio()
	a.put("key", "1")
	if end, shown := a.archive.Uploaded(), a.index.Head().ID; end < shown {
		t.Errorf("row %d is acknowledged, the chain ends at %d", shown, end)
	}
	if got := b.get("key"); got != "1" {
		t.Errorf("read %q", got)
	}
	a.store.down(true)
	waits := call(func() error {
		_, err := a.tryPut(within(patient), "key", "2")
		return err
	})
	w.eventually("the row at the Replicas", func() bool {
		id := a.index.Head().ID
		return b.log.Head().ID > id && c.log.Head().ID > id
	})
	stillWaits(t, "a write that is not in the chain", waits)
	if _, err := a.tryGet(within(3*testSuspicion), "key"); err == nil {
		t.Error("a read is confirmed without object storage")
	}
	a.store.down(false)
	want(t, "the write, once object storage answers", <-waits, nil)
	a.stop()
	p := w.primary(a)
	if got := p.get("key"); got != "2" {
		t.Errorf("after the election: %q", got)
	}
	p.put("key", "3")
	if b.get("key") != "3" || c.get("key") != "3" {
		t.Error("reads are stale")
	}
}

// TestRuleChanges at a fence: what the flags of a new Primary's Elector say.
func TestRuleChanges(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.trio()
	w.rule = 1
	for _, n := range []*testNode{a, b, c} {
		n.stop()
		n.start()
		n.put("key", n.name)
	}
	w.eventually("the new rule", func() bool {
		got := w.cluster()
		return got.Rule == 1 && got.RuleBefore == 1
	})
	if got := a.get("key"); got != "c" {
		t.Errorf("read %q", got)
	}
}
