package replicate

import "time"

const (
	// gatherFrom is how long a commit takes at least for the next group to wait for
	// the clients that were just answered.
	gatherFrom = 5 * time.Millisecond
	// It waits at most as long as that commit took, and half of that for the next one
	// of them; a gatherShare of both where the wait before did not bring half of them.
	gatherShare = 4
)

// crowd knows how many clients are about to write. Where a commit takes long, as a
// chunk in object storage does, clients that write again as soon as they are
// answered would otherwise split into two groups that take turns, each of which
// waits while the other one is on its way. A group therefore waits for those that
// were answered last for as long as they keep coming. Writes that come by a clock of
// their own do not come sooner for it, and are soon not waited for. Primary.mu
// guards it.
type crowd struct {
	expected int           // changes that the forming group would have if all wrote again
	until    time.Time     // when waiting for them ends
	gap      time.Duration // how long the next one is waited for
	strange  bool          // those waited for last did not come
	arrived  chan struct{} // size one: somebody came
}

// committedLocked notes a commit that took from started until now, of so many
// changes, while others came into the forming group.
func (c *crowd) committedLocked(started time.Time, writers, waiting int) {
	c.expected, c.until = 0, time.Time{}
	if took := time.Since(started); took >= gatherFrom {
		c.expected = writers + waiting
		if c.strange {
			took /= gatherShare
		}
		c.until, c.gap = time.Now().Add(took), took/2
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
	p.mu.Lock()
	before := p.forming.writers
	missing, patience := p.crowd.expected-before, p.crowd.gap
	if missing <= 0 {
		p.crowd.strange = p.crowd.strange && p.crowd.expected == 0
	}
	p.mu.Unlock()
	if missing <= 0 {
		return
	}
	defer func() {
		p.mu.Lock()
		p.crowd.strange = 2*(p.forming.writers-before) < missing
		p.mu.Unlock()
	}()
	gap := time.NewTimer(patience)
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
			gap.Reset(patience)
		case <-gap.C:
			return
		case <-p.stop:
			return
		}
	}
}
