package elect

import (
	"slices"
	"time"

	"github.com/kinsy/kinsy/internal/rules"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Default times of Config.
const (
	DefaultHeartbeat = 100 * time.Millisecond
	DefaultSuspicion = 700 * time.Millisecond
)

// Role is what a node does for the log.
type Role uint8

// The roles. A node starts as a Replica, whatever it was before.
const (
	Replica Role = iota
	Candidate
	Primary
)

func (r Role) String() string { return [...]string{"replica", "candidate", "primary"}[r] }

// Config of a Core.
type Config struct {
	Self NodeID
	// Promise is the epoch that the log has promised.
	Promise sqllog.Epoch
	// Cluster is what was last known of it; without members the node waits to be told.
	Cluster Cluster
	// Heartbeat is how often a Primary says that it is there, Suspicion how long it
	// may be silent. Zero values mean the defaults.
	Heartbeat, Suspicion time.Duration
	// Random gives a number in [0, n), for back-off.
	Random func(n int64) int64
}

// Core is the part of one node in promises, elections and confirmations: a state
// machine without disk, network or clock. Its methods take what has happened and
// leave what is to be done in Effects. They are not safe for concurrent use, and
// take the time as the duration on a clock that also runs during suspend.
type Core struct {
	cfg     Config
	now     time.Duration
	effects []Effect
	cluster Cluster

	// The voter.
	promise   sqllog.Epoch // durable
	promising sqllog.Epoch // the highest asked for; above promise while under way
	busy      bool         // a Promise effect is under way
	audits    []audit      // to be answered when it is done
	appointed *Cluster     // to be accepted when it is done

	known sqllog.Epoch // the highest that cluster.json is known to have had

	// The disk.
	full   bool // it has no room for rows
	unable bool // nor for a promise

	// The role.
	role  Role
	epoch sqllog.Epoch // of a Candidate or Primary
	tried sqllog.Epoch // the highest that this process was appointed for

	// What is heard of the Primary.
	primary   NodeID // 0 before anything was heard
	heardFrom sqllog.Epoch
	heard     time.Duration
	candidate time.Duration // since when the one heard is a Candidate; negative if it is not
	following sqllog.Epoch  // of the newest Follow effect

	beat      time.Duration // when the next heartbeat is due
	observers []NodeID      // nodes that follow and do not vote
	refused   time.Duration // since when members or cluster.json have a higher epoch; negative if none has
	rounds    rounds
	election  election
}

type audit struct {
	from  NodeID
	epoch sqllog.Epoch
}

// New makes the Core of a node that starts at a time.
func New(cfg Config, now time.Duration) *Core {
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = DefaultHeartbeat
	}
	if cfg.Suspicion == 0 {
		cfg.Suspicion = DefaultSuspicion
	}
	c := &Core{cfg: cfg, now: now, cluster: cfg.Cluster, known: cfg.Cluster.Epoch, promise: cfg.Promise, promising: cfg.Promise, heard: now, candidate: -1, refused: -1}
	c.election.init()
	return c
}

// Effects takes what is to be done since the last call, in order.
func (c *Core) Effects() []Effect {
	e := c.effects
	c.effects = nil
	return e
}

func (c *Core) emit(e Effect)                 { c.effects = append(c.effects, e) }
func (c *Core) send(to NodeID, m Message)     { c.emit(Send{To: to, Message: m}) }
func (c *Core) Role() (Role, sqllog.Epoch)    { return c.role, c.epoch }
func (c *Core) Promise() sqllog.Epoch         { return c.promise }
func (c *Core) Cluster() Cluster              { return c.cluster }
func (c *Core) Heard() (NodeID, sqllog.Epoch) { return c.hears() }

// Tick moves the time on; it is called a few times per heartbeat.
func (c *Core) Tick(now time.Duration) {
	c.pass(now)
	if c.role != Replica && c.now >= c.beat {
		c.heartbeat()
	}
	c.tickElection()
}

// pass moves the time. A node that was not running could not hear anything: that
// time does not count against the Primary.
func (c *Core) pass(now time.Duration) {
	if gap := now - c.now; gap > 2*c.cfg.Heartbeat {
		c.heard = min(c.heard+gap, now)
		if c.candidate >= 0 {
			c.candidate = min(c.candidate+gap, now)
		}
	}
	c.now = max(c.now, now)
}

// Receive takes a message. A node's messages to itself do not pass here.
func (c *Core) Receive(now time.Duration, from NodeID, m Message) {
	c.pass(now)
	switch m := m.(type) {
	case Heartbeat:
		c.onHeartbeat(from, m)
	case HeartbeatAck:
		c.onHeartbeatAck(from, m)
	case Ask:
		c.onAsk(from, m)
	case Answer:
		c.onAnswer(from, m)
	case Audit:
		c.onAudit(from, m.Epoch)
	case AuditAnswer:
		c.onAuditAnswer(from, m)
	case Appoint:
		c.onAppoint(from, m.Cluster)
	case AppointAnswer:
		c.onAppointAnswer(from, m)
	}
}

// ask makes a promise of e durable; a Primary or Candidate of a lower epoch stops
// first.
func (c *Core) ask(e sqllog.Epoch) {
	if c.role != Replica && c.epoch < e && !rules.Broken(rules.DeposedStops) {
		c.stepDown()
	}
	c.promising = max(c.promising, e)
	if !c.busy {
		c.busy = true
		c.emit(Promise{Epoch: c.promising})
	}
}

// Promised tells that nothing below e will be taken any more, durably, and that
// the log ended at last after that.
func (c *Core) Promised(e sqllog.Epoch, last Position) {
	c.busy, c.unable = false, false
	c.promise = max(c.promise, e)
	c.promising = max(c.promising, c.promise)
	audits := c.audits
	c.audits = nil
	for _, a := range audits {
		switch {
		case a.epoch <= e:
			c.answer(a, last)
		default:
			c.audits = append(c.audits, a)
		}
	}
	if a := c.appointed; a != nil && a.Epoch <= c.promise {
		c.appointed = nil
		if a.Epoch == c.promise {
			c.lead(*a)
		}
	}
	c.follow()
	if c.promising > c.promise {
		c.ask(c.promising)
	}
}

// PromiseFailed tells that a promise could not be made durable: nobody is answered.
func (c *Core) PromiseFailed() {
	c.busy, c.unable = false, c.full
	c.promising = c.promise
	c.audits, c.appointed = nil, nil
}

// Raised tells that another part of the node has taken rows of epoch e, and so
// promised it.
func (c *Core) Raised(e sqllog.Epoch) {
	if c.role != Replica && c.epoch < e {
		c.stepDown()
	}
	c.promise = max(c.promise, e)
	c.promising = max(c.promising, e)
}

func (c *Core) onAudit(from NodeID, e sqllog.Epoch) {
	if e < c.promise || e < c.promising {
		c.reply(from, AuditAnswer{Epoch: e, Promise: max(c.promise, c.promising)})
		return
	}
	if from != c.cfg.Self {
		c.election.yield(c, e)
	}
	c.audits = append(slices.DeleteFunc(c.audits, func(a audit) bool { return a.from == from }), audit{from: from, epoch: e})
	c.ask(e)
}

func (c *Core) answer(a audit, last Position) {
	c.reply(a.from, AuditAnswer{Epoch: a.epoch, Promise: c.promise, Last: last, Full: c.full})
}

// reply answers another node, or this one.
func (c *Core) reply(to NodeID, m Message) {
	if to != c.cfg.Self {
		c.send(to, m)
		return
	}
	switch m := m.(type) {
	case AuditAnswer:
		c.onAuditAnswer(to, m)
	case AppointAnswer:
		c.onAppointAnswer(to, m)
	}
}

func (c *Core) onAppoint(from NodeID, cl Cluster) {
	e := cl.Epoch
	accepted := e >= c.promise && e >= c.promising && e > c.tried
	if accepted && e > c.promise {
		c.appointed = &cl
		c.ask(e)
	} else if accepted {
		c.lead(cl)
	}
	running := c.role != Replica && c.epoch == e || c.appointed != nil && c.appointed.Epoch == e
	c.reply(from, AppointAnswer{Epoch: e, Accepted: running})
}

// lead begins a candidacy.
func (c *Core) lead(cl Cluster) {
	if cl.Epoch <= c.tried {
		return
	}
	if c.role != Replica {
		c.stepDown()
	}
	c.role, c.epoch, c.tried, c.cluster = Candidate, cl.Epoch, cl.Epoch, cl
	c.hear(c.cfg.Self, cl.Epoch, true)
	c.rounds = rounds{}
	c.emit(Lead{Cluster: cl})
	c.heartbeat()
}

// Led tells how the candidacy for an epoch has ended: this node is its Primary, or
// it gave up.
func (c *Core) Led(now time.Duration, e sqllog.Epoch, ok bool) {
	c.pass(now)
	switch {
	case c.role != Candidate || c.epoch != e:
		return
	case !ok:
		c.role, c.epoch = Replica, 0
		c.unhear()
		return
	}
	c.role, c.candidate, c.refused = Primary, -1, -1
	c.heartbeat()
}

// Deposed tells that the chain holds a row of another Primary: this node is not the
// Primary of e any more.
func (c *Core) Deposed(e sqllog.Epoch) {
	if c.role != Replica && c.epoch <= e {
		c.stepDown()
	}
}

// stepDown makes this node a Replica that hears nobody.
func (c *Core) stepDown() {
	c.emit(StepDown{Epoch: c.epoch})
	c.role, c.epoch, c.refused = Replica, 0, -1
	c.rounds = rounds{}
	c.unhear()
}

// unhear forgets this node as the Primary it hears: another one has the usual time
// to be heard.
func (c *Core) unhear() {
	if c.primary == c.cfg.Self {
		c.primary, c.heard, c.candidate = 0, c.now, -1
	}
}

// SetMembers tells of a change of membership that this node has taken up as the
// Primary, or has heard of.
func (c *Core) SetMembers(cl Cluster) {
	c.known = max(c.known, cl.Epoch)
	if cl.Epoch >= c.cluster.Epoch {
		c.cluster = cl
	}
}

// Surpassed tells a Primary that cluster.json has a higher epoch than its own, so
// that it can change neither members nor rule. If the election for which it was
// raised comes to nothing, this node holds one, and would be Primary again.
func (c *Core) Surpassed(now time.Duration, e sqllog.Epoch) {
	c.pass(now)
	c.known = max(c.known, e)
	if c.role == Primary && c.epoch < e && c.refused < 0 {
		c.refused = c.now
	}
}

// SetFull tells whether the disk takes no rows: it has no room, or gives no answer. While
// that is so this node holds no election, and says so to those who do.
func (c *Core) SetFull(full bool) {
	c.full = full
	c.unable = c.unable && full
}

// SetObservers names the nodes that follow this Primary and do not vote.
func (c *Core) SetObservers(n []NodeID) { c.observers = n }
