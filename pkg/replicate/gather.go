package replicate

import "time"

const (
	// gatherFrom is how long a commit takes at least for the next group to wait for
	// the clients that were just answered.
	gatherFrom = 5 * time.Millisecond
	// gatherShare of a commit's time is how long it waits at most, and gatherGap
	// how long for the next one of them.
	gatherShare = 2
	gatherGap   = 8 * time.Millisecond
)

// crowd knows how many clients are about to write. Where a commit takes long, as a
// chunk in object storage does, clients that write again as soon as they are
// answered would otherwise split into two groups that take turns, each of which
// waits while the other one is on its way. A group therefore waits for those that
// were answered last for as long as they keep coming. Primary.mu guards it.
type crowd struct {
	expected int           // changes that the forming group would have if all wrote again
	until    time.Time     // when waiting for them ends
	arrived  chan struct{} // size one: somebody came
}

// committedLocked notes a commit that took from started until now, of so many
// changes, while others came into the forming group.
func (c *crowd) committedLocked(started time.Time, writers, waiting int) {
	c.expected, c.until = 0, time.Time{}
	if took := time.Since(started); took >= gatherFrom {
		c.expected = writers + waiting
		c.until = time.Now().Add(took / gatherShare)
	}
}

// arrivedLocked tells a leader that waits that the forming group has grown.
func (c *crowd) arrivedLocked() {
	select {
	case c.arrived <- struct{}{}:
	default:
	}
}

// gather waits until the clients that were just answered have had time to write
// again. It is called with appendMu held: no other commit is under way.
func (p *Primary) gather() {
	gap := time.NewTimer(gatherGap)
	defer gap.Stop()
	for {
		p.mu.Lock()
		done := p.closed || p.forming.writers >= p.crowd.expected || !time.Now().Before(p.crowd.until)
		p.mu.Unlock()
		if done {
			return
		}
		select {
		case <-p.crowd.arrived:
			gap.Reset(gatherGap)
		case <-gap.C:
			return
		case <-p.stop:
			return
		}
	}
}
