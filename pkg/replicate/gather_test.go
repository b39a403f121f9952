package replicate

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// TestClientsOfSlowCommitsShareAGroup: those that write again as soon as they are
// answered do not split into two groups that take turns, which would be twice as
// many groups.
func TestClientsOfSlowCommitsShareAGroup(t *testing.T) {
	a := newFakeArchive()
	groups := 0
	a.commit = func([]sqllog.Row) error {
		groups++
		<-time.After(20 * time.Millisecond) // what is tested is how time is used
		return nil
	}
	b := newBed(t, Config{Archive: a})
	const clients, rounds = 20, 20
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			for range rounds {
				b.write(put(fmt.Sprintf("key-%d", i), "v"))
			}
		})
	}
	all.Wait()
	if groups > rounds*3/2 {
		t.Errorf("%d groups for %d rounds of %d clients", groups, rounds, clients)
	}
}

// TestCrowd: whom the next group waits for, and for how long.
func TestCrowd(t *testing.T) {
	b := newBed(t, Config{})
	c := &b.p.crowd
	committed := func(took time.Duration, writers, waiting int) (patience time.Duration) {
		b.p.mu.Lock()
		defer b.p.mu.Unlock()
		c.committedLocked(time.Now().Add(-took), writers, waiting)
		return time.Until(c.until)
	}
	if committed(time.Millisecond, 10, 10); c.expected != 0 {
		t.Errorf("after a fast commit %d are waited for", c.expected)
	}
	if p := committed(time.Second, 10, 3); c.expected != 13 || p < 900*time.Millisecond {
		t.Errorf("after a slow commit %d are waited for, %s long", c.expected, p)
	}
	b.p.gather() // nobody comes
	if p := committed(time.Second, 10, 3); p > 300*time.Millisecond {
		t.Errorf("after nobody came the next ones are waited for %s", p)
	}
	b.p.mu.Lock()
	b.p.forming.writers = 12
	b.p.mu.Unlock()
	over := call(func() error {
		b.p.gather()
		return nil
	})
	b.p.mu.Lock()
	b.p.forming.writers = 13
	c.arrivedLocked()
	b.p.mu.Unlock()
	want(t, "the gathering", <-over, nil)
	if p := committed(time.Second, 1, 0); c.strange || p < 900*time.Millisecond {
		t.Errorf("after all came the next ones are waited for %s", p)
	}
}
