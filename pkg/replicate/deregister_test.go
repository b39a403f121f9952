package replicate

import (
	"testing"
	"time"

	"github.com/kinsy/kinsy/internal/wallclock"
	"github.com/kinsy/kinsy/pkg/elect"
)

// watch is a second look at who is gone at a Primary, with a clock of the test's. It changes no voter.
func (n *testNode) watch(now func() time.Time) *membership {
	s := newMembership(n.m, n.m.primary(), n.w.cluster())
	s.now = now
	return s
}

// TestGoneForHowLong: a voter is to be taken away when it is gone for longer than it
// may be, in one piece, and only while the others can do without it.
func TestGoneForHowLong(t *testing.T) {
	w := newWorld(t)
	w.setup = func(c *MemberConfig) { c.DeregisterAfter = 3 * time.Minute }
	a, b, c := w.trio()
	now := time.Now()
	s := a.watch(func() time.Time { return now })
	after := func(d time.Duration, want elect.NodeID, when string) {
		t.Helper()
		now = now.Add(d)
		if got := s.leaver(); got != want {
			t.Errorf("%s: %v is to leave, want %v", when, got, want)
		}
	}
	healthy := func(n *testNode, want bool) {
		t.Helper()
		w.eventually("what the primary knows of "+n.name, func() bool { return a.m.healthy(n.id) == want })
	}
	after(0, 0, "all are there")
	c.stop()
	healthy(c, false)
	healthy(b, true)
	after(0, 0, "c has gone")
	after(3*time.Minute, 0, "not for longer than it may")
	c.start()
	healthy(c, true)
	healthy(b, true)
	after(time.Second, 0, "c was back in time")
	c.stop()
	healthy(c, false)
	healthy(b, true)
	after(time.Second, 0, "the time begins anew")
	after(3*time.Minute, 0, "not for longer than it may, again")
	b.store.down(true) // nobody is to be elected
	b.peers.leave()
	healthy(b, false)
	after(time.Second, 0, "too long, but b does not answer")
	after(time.Hour, 0, "neither b nor c answers")
	if v := w.cluster().Members; len(v) != 3 {
		t.Errorf("the voters are %v", v)
	}
}

// TestGoneForGood: with 0 nobody is taken away; else whoever is gone for too long.
func TestGoneForGood(t *testing.T) {
	for name, limit := range map[string]time.Duration{"never": 0, "after a time": time.Minute} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.setup = func(c *MemberConfig) { c.DeregisterAfter = limit }
			a, b, c := w.trio()
			now := time.Now()
			s := a.watch(func() time.Time { return now })
			c.stop()
			w.eventually("the loss", func() bool { return !a.m.healthy(c.id) && a.m.healthy(b.id) })
			s.leaver()
			now = now.Add(1000 * time.Hour)
			want := c.id
			if limit == 0 {
				want = 0
			}
			if got := s.leaver(); got != want {
				t.Errorf("%v is to leave, want %v", got, want)
			}
		})
	}
}

// TestGoneByAClockThatJumps: the wall clock of the Primary does not count.
func TestGoneByAClockThatJumps(t *testing.T) {
	w := newWorld(t)
	w.setup = func(c *MemberConfig) { c.DeregisterAfter = 3 * time.Minute }
	a, b, c := w.trio()
	var clock wallclock.Clock
	s := a.watch(clock.Now)
	c.stop()
	w.eventually("the loss", func() bool { return !a.m.healthy(c.id) && a.m.healthy(b.id) })
	for _, by := range []time.Duration{0, time.Hour, -time.Hour, 24 * time.Hour} {
		clock.Set(by)
		if got := s.leaver(); got != 0 {
			t.Errorf("with the clock off by %s %v is to leave", by, got)
		}
	}
}

// TestTooFewToGoOn: two of three voters are gone for too long. Both keep their votes, and
// each is a voter that counts when it is back.
func TestTooFewToGoOn(t *testing.T) {
	w := newWorld(t)
	w.setup = func(c *MemberConfig) { c.DeregisterAfter = testSuspicion }
	a, b, c := w.trio()
	now := time.Now()
	s := a.watch(func() time.Time { return now })
	// At once, so that neither is taken away while the other one is there.
	w.isolate(a, true)
	b.store.down(true)
	c.store.down(true)
	w.eventually("the loss", func() bool { return !a.m.healthy(b.id) && !a.m.healthy(c.id) })
	s.leaver()
	for range 3 {
		now = now.Add(time.Hour)
		if got := s.leaver(); got != 0 {
			t.Fatalf("%v is to leave", got)
		}
	}
	a.put("key", "value") // object storage commits
	if v := w.cluster().Members; len(v) != 3 {
		t.Errorf("the voters are %v", v)
	}
	b.store.down(false)
	c.store.down(false)
	w.isolate(a, false)
	w.voters(a, b, c)
	if got := b.get("key"); got != "value" {
		t.Errorf("read %q", got)
	}
}
