package elect

import (
	"slices"
	"time"

	"github.com/kinsy/kinsy/internal/rules"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// stage is how far an election is.
type stage uint8

const (
	watching   stage = iota // nothing is suspected, or the node waits to try again
	asking                  // the others are asked whether they hear a Primary
	locking                 // the Elector's lock is being taken
	raising                 // the epoch is being raised
	auditing                // the members are asked for a promise
	appointing              // one of them is to become Primary
)

func (s stage) String() string {
	return [...]string{"watching", "asking", "locking", "raising", "auditing", "appointing"}[s]
}

// election is what a node does to get a Primary where there is none.
type election struct {
	stage     stage
	notBefore time.Duration // when another one may begin
	deadline  time.Duration // of the stage
	again     time.Duration // when the messages of the stage are sent again
	holder    bool          // this node has taken the Elector's lock
	deferred  bool          // another Elector was left to act

	seq      uint64
	silent   map[NodeID]bool // who answered that it hears no Primary
	handOver bool            // this node is the Primary and wants another one
	prefer   NodeID
	lost     NodeID // the Primary that is silent

	cluster Cluster             // as raised
	answers map[NodeID]Position // of the audit
	full    map[NodeID]bool     // who of them has no room for rows
	enough  time.Duration       // when enough of them were there; negative before
	chosen  NodeID
}

func (e *election) init() { e.enough = -1 }

// heardPrimary ends an election that is not needed any more. An epoch that is being
// raised has to have a Primary: the one that is heard loses the chain to it.
func (e *election) heardPrimary(c *Core, epoch sqllog.Epoch) {
	e.deferred = false
	if e.stage == watching {
		e.notBefore = 0
	}
	if e.stage != watching && e.stage != raising && epoch >= e.cluster.Epoch && epoch >= c.promising {
		e.rest(c, 0)
	}
}

// rest ends an attempt; another one may begin after a time.
func (e *election) rest(c *Core, after time.Duration) {
	e.stage, e.handOver, e.prefer, e.lost = watching, false, 0, 0
	e.notBefore = c.now + after
}

// yield leaves the election to another node, which audits for an epoch.
func (e *election) yield(c *Core, epoch sqllog.Epoch) {
	e.holder = false
	switch {
	case e.stage == watching:
		e.notBefore = max(e.notBefore, c.now+c.cfg.Suspicion/2)
	case e.stage == raising:
		// What is being raised may be above it: nobody else would act on that epoch.
	case e.cluster.Epoch < epoch || e.stage < auditing:
		e.backOff(c)
	}
}

// backOff ends an attempt for a random time, so that two Electors do not keep each
// other from success.
func (e *election) backOff(c *Core) {
	most := int64(c.cfg.Suspicion / 2)
	e.rest(c, c.cfg.Heartbeat+time.Duration(c.random(most)))
}

func (c *Core) random(n int64) int64 {
	if c.cfg.Random == nil {
		return n / 2
	}
	return c.cfg.Random(n)
}

// isElector reports whether this node holds the Elector's lock as far as it knows,
// and can elect: a holder that votes no more must not keep others from it.
func (c *Core) isElector() bool { return c.election.holder && c.mayElect() }

// Elector reports whether this node holds the Elector's lock as far as it knows,
// and how far an election of its is. Whoever holds it renews it.
func (c *Core) Elector() (holder bool, stage string) {
	return c.isElector(), c.election.stage.String()
}

// tickElection moves an election on by time.
func (c *Core) tickElection() {
	e := &c.election
	switch {
	case e.stage == watching:
		c.watch()
	case c.now >= e.deadline:
		c.overdue()
	case c.now >= e.again && (e.stage == auditing || e.stage == appointing):
		c.sendStage()
	case e.stage == auditing:
		c.choose()
	}
}

// watch begins an election where one is needed.
func (c *Core) watch() {
	e := &c.election
	if c.now < e.notBefore {
		return
	}
	if c.role == Primary {
		if c.refused >= 0 && c.now-c.refused > c.cfg.Suspicion {
			e.prefer = c.cfg.Self
			c.takeLock(true)
		}
		return
	}
	if !c.suspects() || c.full {
		return
	}
	e.stage, e.deadline = asking, c.now+c.cfg.Suspicion/4
	e.seq++
	e.silent, e.lost = map[NodeID]bool{c.cfg.Self: true}, c.primary
	for _, n := range c.cluster.Members {
		if n != c.cfg.Self {
			c.send(n, Ask{Seq: e.seq})
		}
	}
	c.countSilent()
}

// overdue ends a stage that took too long.
func (c *Core) overdue() {
	e := &c.election
	if e.stage == asking && c.mayElect() && len(e.silent) >= c.cluster.AuditNeed() {
		c.takeLock(false) // fewer than a majority can elect; that the lock has expired is enough
		return
	}
	e.backOff(c)
}

// mayElect reports whether this node may elect: a voter, or, where nobody has to agree
// and the chain alone decides, any node, since all voters' disks may be lost.
func (c *Core) mayElect() bool {
	return c.cluster.IsMember(c.cfg.Self) || len(c.cluster.Members) > 0 && c.cluster.AuditNeed() == 0
}

// electorate is who is audited, and may be appointed: the voters, and this node where
// nobody has to agree.
func (c *Core) electorate() []NodeID {
	cl := c.election.cluster
	if cl.IsMember(c.cfg.Self) || cl.AuditNeed() > 0 {
		return cl.Members
	}
	return append(slices.Clone(cl.Members), c.cfg.Self)
}

func (c *Core) onAsk(from NodeID, m Ask) {
	p, epoch := c.hears()
	if p == 0 && c.unable {
		return // an election would wait for this node's promise in vain
	}
	c.send(from, Answer{Seq: m.Seq, Primary: p, Epoch: epoch, Elector: c.isElector() || c.goesFirst(from)})
}

// goesFirst reports whether this node, which is about to elect, does so before
// another one that asks: of two that ask each other it is the one with the lower id.
func (c *Core) goesFirst(other NodeID) bool {
	stage := c.election.stage
	return c.mayElect() && (stage > asking || stage == asking && c.cfg.Self < other)
}

func (c *Core) onAnswer(from NodeID, m Answer) {
	e := &c.election
	if e.stage != asking || m.Seq != e.seq || !c.cluster.IsMember(from) {
		return
	}
	switch {
	case m.Primary != 0:
		if m.Primary != c.cfg.Self {
			c.send(m.Primary, HeartbeatAck{Epoch: m.Epoch, Promise: c.promise, Full: c.full}) // it may not know that this node is there
		}
		if m.Primary != c.cfg.Self && m.Epoch >= c.promise {
			c.meet(m.Primary, m.Epoch)
		}
		e.backOff(c)
		return
	case m.Elector && !e.deferred && !e.holder:
		e.deferred = true // it is about to act
		e.rest(c, c.cfg.Suspicion/2)
		return
	}
	e.silent[from] = true
	c.countSilent()
}

// meet begins to follow a Primary that another node hears. Its heartbeats are still
// to be heard.
func (c *Core) meet(p NodeID, epoch sqllog.Epoch) {
	if c.role != Replica || c.cluster.IsMember(c.cfg.Self) {
		return // a member gets heartbeats, or is cut off
	}
	c.hear(p, epoch, false)
	if epoch > c.promise {
		c.ask(epoch)
	}
	c.follow()
}

// countSilent goes on once a majority hears no Primary.
func (c *Core) countSilent() {
	if !c.mayElect() {
		return
	}
	if n := len(c.cluster.Members); len(c.election.silent) >= n/2+1 {
		c.takeLock(true)
	}
}

func (c *Core) takeLock(force bool) {
	e := &c.election
	if e.holder {
		c.raise()
		return
	}
	e.stage, e.deadline = locking, c.now+10*c.cfg.Suspicion
	c.emit(TakeLock{Force: force})
}

// Locked tells whether the Elector's lock is this node's now.
func (c *Core) Locked(now time.Duration, ok bool) {
	c.pass(now)
	e := &c.election
	if ok {
		e.holder = true
	}
	switch {
	case e.stage != locking:
	case ok:
		c.raise()
	default:
		e.backOff(c)
	}
}

// LockLost tells that another node has taken the Elector's lock.
func (c *Core) LockLost() { c.election.holder = false }

func (c *Core) raise() {
	e := &c.election
	e.stage, e.deadline = raising, c.now+10*c.cfg.Suspicion
	e.cluster, e.answers, e.full, e.enough, e.chosen = Cluster{}, make(map[NodeID]Position), make(map[NodeID]bool), -1, 0
	c.emit(Raise{Above: max(c.promise, c.promising, c.known)})
}

// EpochRaised tells what cluster.json says after the epoch was raised by this very
// process, or that it could not be: because another Elector has raised it, cl is
// what is there then, or for want of an answer, cl is zero.
func (c *Core) EpochRaised(now time.Duration, cl Cluster, ok bool) {
	c.pass(now)
	c.known = max(c.known, cl.Epoch)
	e := &c.election
	switch {
	case e.stage != raising:
		return
	case !ok || cl.Epoch < c.promising:
		e.holder = false
		e.backOff(c)
		return
	}
	if c.role != Primary {
		c.SetMembers(cl)
	}
	e.cluster, e.stage, e.deadline = cl, auditing, c.now+2*c.cfg.Suspicion
	c.sendStage()
}

// sendStage sends, or repeats, the messages of the stage.
func (c *Core) sendStage() {
	e := &c.election
	e.again = c.now + c.cfg.Heartbeat
	if e.stage == appointing {
		c.appoint()
		return
	}
	for _, n := range c.electorate() {
		if _, there := e.answers[n]; there {
			continue
		}
		if n != c.cfg.Self {
			c.send(n, Audit{Epoch: e.cluster.Epoch})
		} else {
			c.onAudit(n, e.cluster.Epoch)
		}
	}
	c.choose()
}

func (c *Core) onAuditAnswer(from NodeID, m AuditAnswer) {
	e := &c.election
	if e.stage != auditing || m.Epoch != e.cluster.Epoch || !slices.Contains(c.electorate(), from) {
		return
	}
	if m.Promise > m.Epoch {
		e.backOff(c) // another election is ahead of this one
		return
	}
	e.answers[from], e.full[from] = m.Last, m.Full
	c.choose()
}

// grace is how long the answers of the slowest are waited for.
func (c *Core) grace() time.Duration { return c.cfg.Heartbeat / 2 }

// choose appoints a node once enough have answered, and the others had time to.
func (c *Core) choose() {
	e := &c.election
	need := e.cluster.AuditNeed()
	if rules.Broken(rules.EnoughAnswers) {
		need--
	}
	if e.stage != auditing || len(e.answers) < max(need, 1) {
		return
	}
	if e.enough < 0 {
		e.enough = c.now
	}
	if c.expects() && c.now < e.enough+c.grace() {
		return
	}
	e.chosen = c.best()
	if e.chosen == 0 {
		e.backOff(c)
		return
	}
	e.stage, e.deadline = appointing, c.now+c.cfg.Suspicion
	c.sendStage()
}

// expects reports whether an answer is missing of a member that may be there: of
// another one than the Primary that was lost.
func (c *Core) expects() bool {
	return slices.ContainsFunc(c.electorate(), func(n NodeID) bool {
		_, there := c.election.answers[n]
		return !there && n != c.election.lost
	})
}

// best is the node with the newest log among those that answered, or, if they are
// enough without those that have no room for rows, among the others: it is as if those had not
// answered. Of equal ones it is one that has room, then the preferred one, else this
// one, unless it wants to hand over.
func (c *Core) best() NodeID {
	e := &c.election
	room := c.roomIsEnough()
	var best NodeID
	for _, n := range c.electorate() {
		last, there := e.answers[n]
		if !there || room && e.full[n] {
			continue
		}
		if best == 0 || e.answers[best].Less(last) || last == e.answers[best] && c.rank(n) > c.rank(best) {
			best = n
		} else if rules.Broken(rules.NewestLogLeads) && c.random(2) == 0 {
			best = n
		}
	}
	return best
}

// roomIsEnough reports whether those that have answered and have room for rows are
// enough by themselves.
func (c *Core) roomIsEnough() bool {
	e := &c.election
	room := 0
	for n := range e.answers {
		if !e.full[n] {
			room++
		}
	}
	return room >= max(e.cluster.AuditNeed(), 1)
}

func (c *Core) rank(n NodeID) int {
	switch {
	case c.election.full[n]:
		return -2
	case n == c.election.prefer:
		return 2
	case n == c.cfg.Self && c.election.handOver:
		return -1
	case n == c.cfg.Self:
		return 1
	}
	return 0
}

func (c *Core) appoint() {
	e := &c.election
	if e.chosen != c.cfg.Self {
		c.send(e.chosen, Appoint{Cluster: e.cluster})
		return
	}
	c.onAppoint(c.cfg.Self, e.cluster)
}

func (c *Core) onAppointAnswer(from NodeID, m AppointAnswer) {
	e := &c.election
	if e.stage != appointing || m.Epoch != e.cluster.Epoch || from != e.chosen {
		return
	}
	if !m.Accepted {
		e.backOff(c)
		return
	}
	if from != c.cfg.Self {
		c.hear(from, m.Epoch, true)
	}
	e.rest(c, c.cfg.Suspicion)
}

// HandOver begins the election of another Primary, prefer if its log is as new as
// any; 0 prefers none. The caller has stopped writes and seen to it that another
// node has every row.
func (c *Core) HandOver(now time.Duration, prefer NodeID) {
	c.pass(now)
	e := &c.election
	if c.role != Primary || e.handOver {
		return
	}
	e.handOver, e.prefer = true, prefer
	c.raise() // nobody else elects while there is a Primary, so the lock is not needed
}
