package elect

import (
	"slices"
	"time"

	"github.com/kinsy/kinsy/internal/rules"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// candidatePatience is how many times the suspicion time a Candidate may take
// before it counts as lost.
const candidatePatience = 10

// hear notes that the Primary, or Candidate, of an epoch is there.
func (c *Core) hear(from NodeID, e sqllog.Epoch, candidate bool) {
	switch {
	case !candidate:
		c.candidate = -1
	case c.candidate < 0 || c.heardFrom != e:
		c.candidate = c.now
	}
	c.primary, c.heardFrom, c.heard = from, e, c.now
}

// hears gives the Primary that was heard of in half the suspicion time, 0 for none.
// A Candidate counts as long as there is patience for it.
func (c *Core) hears() (NodeID, sqllog.Epoch) {
	switch {
	case c.role == Primary:
		return c.cfg.Self, c.epoch
	case c.primary == 0 || c.now-c.heard > c.cfg.Suspicion/2 || c.impatient():
		return 0, 0
	}
	return c.primary, c.heardFrom
}

// goneHeartbeats is how many heartbeats may be missing of a Primary that seems to be
// gone.
const goneHeartbeats = 2

// Gone tells that nobody listens where the Primary of an epoch did: it is suspected
// soon, unless it is heard.
func (c *Core) Gone(now time.Duration, n NodeID, e sqllog.Epoch) {
	c.pass(now)
	if c.role == Replica && c.primary == n && c.heardFrom == e {
		c.heard = min(c.heard, c.now-c.cfg.Suspicion+goneHeartbeats*c.cfg.Heartbeat)
	}
}

func (c *Core) impatient() bool {
	return c.candidate >= 0 && c.now-c.candidate > candidatePatience*c.cfg.Suspicion
}

// suspects reports whether the Primary has been silent for too long.
func (c *Core) suspects() bool {
	return c.role != Primary && (c.now-c.heard > c.cfg.Suspicion || c.impatient())
}

func (c *Core) onHeartbeat(from NodeID, m Heartbeat) {
	if m.Epoch < c.promise && !rules.Broken(rules.OldEpochsRefused) {
		c.send(from, HeartbeatAck{Epoch: m.Epoch, Round: m.Round, Promise: c.promise})
		return
	}
	if c.role != Replica {
		if m.Epoch <= c.epoch || rules.Broken(rules.DeposedStops) {
			return // an epoch has one Primary; a lower one is told so by its own followers
		}
		c.stepDown()
	}
	if c.primary == from && c.heardFrom > m.Epoch {
		return
	}
	c.hear(from, m.Epoch, m.Candidate)
	c.send(from, HeartbeatAck{Epoch: m.Epoch, Round: m.Round, Promise: c.promise, Full: c.full})
	if m.Candidate {
		return
	}
	c.election.heardPrimary(c, m.Epoch)
	if m.Epoch > c.promise {
		c.ask(m.Epoch)
	}
	c.follow()
}

// follow begins to follow the Primary that is heard, once its epoch is promised.
func (c *Core) follow() {
	if c.role != Replica || c.primary == 0 || c.primary == c.cfg.Self || c.candidate >= 0 {
		return
	}
	if c.heardFrom == c.promise && c.heardFrom > c.following {
		c.following = c.heardFrom
		c.emit(Follow{Primary: c.primary, Epoch: c.heardFrom})
	}
}

// heartbeat tells everybody that this Primary, or Candidate, is there.
func (c *Core) heartbeat() {
	c.beat = c.now + c.cfg.Heartbeat
	c.hear(c.cfg.Self, c.epoch, c.role == Candidate)
	c.sendRound()
}

// sendRound sends the next round to all members and observers.
func (c *Core) sendRound() {
	m := Heartbeat{Epoch: c.epoch, Candidate: c.role == Candidate}
	if c.role == Primary {
		c.rounds.sent++
		c.rounds.wanted = false
		m.Round = c.rounds.sent
	}
	for _, n := range c.cluster.Members {
		if n != c.cfg.Self {
			c.send(n, m)
		}
	}
	if c.role == Primary {
		for _, n := range c.observers {
			if n != c.cfg.Self && !c.cluster.IsMember(n) {
				c.send(n, m)
			}
		}
		c.confirm()
	}
}

func (c *Core) onHeartbeatAck(from NodeID, m HeartbeatAck) {
	if c.role == Replica || m.Epoch != c.epoch {
		return
	}
	if m.Promise > c.epoch { // whoever says so, cluster.json has that epoch: there is no other way to one
		if c.refused < 0 {
			c.refused = c.now
		}
		return
	}
	if c.role == Primary && m.Round == 0 && c.rounds.sent > 0 && !c.cluster.IsMember(from) && !slices.Contains(c.observers, from) {
		c.send(from, Heartbeat{Epoch: c.epoch, Round: c.rounds.sent}) // it hears nobody, and may take itself for a member
	}
	if c.role == Primary && c.rounds.ack(from, m.Round) {
		c.confirm()
	}
}

// Read gives the round that confirms a linearizable read that arrives now: once
// Confirmed names it, or a later one, this node was the Primary after the read had
// arrived. It reports false if this node is not the Primary.
func (c *Core) Read(now time.Duration) (round uint64, ok bool) {
	c.pass(now)
	if c.role != Primary {
		return 0, false
	}
	if rules.Broken(rules.PingAfterArrival) && c.rounds.confirmed > 0 {
		c.emit(Confirmed{Epoch: c.epoch, Round: c.rounds.confirmed})
		return c.rounds.confirmed, true
	}
	round = c.rounds.sent + 1
	if c.rounds.confirmed == c.rounds.sent {
		c.sendRound()
	} else {
		c.rounds.wanted = true
	}
	return round, true
}

// rounds confirm reads: each is a ping to everybody.
type rounds struct {
	sent, confirmed uint64
	wanted          bool // a read waits for the round after sent
	acks            map[NodeID]uint64
}

// ack notes an answer and reports whether it is news.
func (r *rounds) ack(from NodeID, round uint64) bool {
	if round <= r.acks[from] || round > r.sent {
		return false
	}
	if r.acks == nil {
		r.acks = make(map[NodeID]uint64)
	}
	r.acks[from] = round
	return true
}

// confirm finds the newest round that enough members have answered, and begins the
// next one if somebody waits for it.
func (c *Core) confirm() {
	if c.promise > c.epoch && !rules.Broken(rules.DeposedStops) {
		return
	}
	need := c.cluster.Rule.CommitNeed(len(c.cluster.Members))
	if need == 0 {
		return
	}
	var answered []uint64
	for _, n := range c.cluster.Members {
		if n == c.cfg.Self {
			answered = append(answered, c.rounds.sent)
		} else {
			answered = append(answered, c.rounds.acks[n])
		}
	}
	round := kth(answered, need)
	if round <= c.rounds.confirmed {
		return
	}
	c.rounds.confirmed = round
	c.emit(Confirmed{Epoch: c.epoch, Round: round})
	if c.rounds.wanted && round == c.rounds.sent {
		c.sendRound()
	}
}
