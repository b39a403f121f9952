package replicate

import (
	"errors"
	"fmt"
	"os"
	"testing"
)

// moveTo makes a node Primary. A third one may be first, where this one is slow to
// answer; then it is asked.
func (w *world) moveTo(n *testNode) {
	w.Helper()
	for p := w.primary(); p != n; p = w.primary() {
		for _, other := range w.nodes {
			if other != p && other.running {
				other.awaitFollow(p)
			}
		}
		if err := p.m.MovePrimary(within(patient), n.id); err == nil {
			n.awaitLead()
		} else if !errors.Is(err, ErrNoSuccessor) {
			w.Fatalf("from %s to %s: %v", p.name, n.name, err)
		}
	}
}

// TestCatchUp: a Replica that was away gets what it missed, from wherever that is.
func TestCatchUp(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.trio()
	a.put("key", "0")
	w.same(a, b, c)
	miss := func(value string) {
		t.Helper()
		c.stop()
		for i := range 20 {
			a.put("key", fmt.Sprint(i))
		}
		a.put("key", value)
	}
	caughtUp := func(value string) {
		t.Helper()
		c.start()
		if got := c.get("key"); got != value {
			t.Errorf("after it caught up: %q, want %q", got, value)
		}
		w.same(a, b, c)
	}

	miss("memory")
	if n := a.m.primary().quorum.recent.after(c.log.Head().ID, 1); n.behind {
		t.Fatal("the rows are not in memory")
	}
	caughtUp("memory")

	miss("log")
	w.moveTo(b)
	if n := b.m.primary().quorum.recent.after(c.log.Head().ID, 1); !n.behind {
		t.Fatal("the rows are in memory")
	}
	caughtUp("log")
	if w.logged("catching up from object storage") {
		t.Error("object storage was asked for rows that the log has")
	}

	miss("chain")
	rows := b.index.Rows()
	if _, err := a.m.Compact(within(patient), a.index.Revision(), true); err != nil {
		t.Fatal(err)
	}
	w.eventually("removal", func() bool { return b.index.Rows() < rows && a.index.Rows() == b.index.Rows() })
	w.moveTo(a)
	caughtUp("chain")
	if !w.logged("catching up from object storage") {
		t.Error("the Replica did not ask object storage")
	}
}

// TestEmptyDisk: a disk that is emptied while its node is away is another voter, which
// holds everything.
func TestEmptyDisk(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.trio()
	for i := range 20 {
		a.put(fmt.Sprint("key", i), "x")
	}
	c.stop()
	before := c.id
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(c.path + suffix); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	w.gone.Store(before, true)
	c.start()
	if c.id == before {
		t.Fatal("another disk has the same identity")
	}
	w.voters(a, b, c)
	for i := range 20 {
		if c.get(fmt.Sprint("key", i)) != "x" {
			t.Errorf("key %d is missing", i)
		}
	}
	w.same(a, b, c)
}

// TestReplicaCatchesUpUnderLoad: streams break and begin again while everybody writes.
func TestReplicaCatchesUpUnderLoad(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.trio()
	a.put("there", "x")
	end := w.load(a, b)
	for i := range 6 {
		c.stop()
		want := a.index.Head().ID + 20
		w.eventually("more rows", func() bool { return a.index.Head().ID > want })
		c.start()
		if i%2 == 0 {
			c.awaitFollow(w.primary())
		}
	}
	done, errs := end()
	t.Logf("%d requests", done)
	for _, err := range errs {
		if w.cluster().Epoch == 1 && !isLeaseError(err) {
			t.Error(err)
		}
	}
	w.same(a, b, c)
}
