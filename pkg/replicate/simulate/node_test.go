package simulate

import (
	"fmt"
	"time"

	"github.com/kinsy/kinsy/internal/rules"
	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// node is a place where a disk is and a process runs, or does not.
type node struct {
	index     int
	disk      *disk
	proc      *process      // nil while it is down
	inc       int           // of the newest process
	noStore   bool          // object storage is out of reach
	wanted    bool          // the operator wants it to vote
	slowUntil time.Duration // its disk is slow until then
	fullUntil time.Duration // its process says until then that it is full
}

// process is one run of the server: what a crash forgets.
type process struct {
	w      *world
	n      *node
	d      *disk
	self   elect.NodeID
	inc    int
	dead   bool
	frozen bool
	held   []event
	offset time.Duration
	rate   float64
	queue  []operation

	core      *elect.Core
	committed sqllog.ID // what it shows
	told      sqllog.ID // what a Primary has called committed
	session   *session  // as a Replica
	candidacy *candidate
	reign     *reign // as the Primary
	hasty     *hasty // an election that nobody needed
	follows   follows
	catching  int    // turn of follows in which the log is brought to the chain; 0 for none
	waits     []wait // reads until rows are shown
	rounds    []roundWait
	lockSeen  lock
	lockSince time.Duration
	nextPoll  time.Duration
}

func (p *process) String() string {
	return fmt.Sprintf("%c%d", 'a'+p.n.index, p.inc)
}

// local is the process's clock, which is its own and runs while it is frozen.
func (p *process) local() time.Duration {
	return p.offset + time.Duration(float64(p.w.now)*p.rate)
}

// after has f called after d, unless the process ends.
func (p *process) after(d time.Duration, f func()) { p.w.push(d, p, f) }

// start starts a process on a node's disk.
func (w *world) start(n *node) {
	if n.proc != nil {
		return
	}
	n.inc++
	p := &process{
		w: w, n: n, d: n.disk, self: n.disk.id, inc: n.inc,
		offset: w.between(0, 100*second), rate: 1 + w.p.skew*(w.r.Float64()*2-1),
	}
	n.proc = p
	w.store.names[n.index] = p.self
	w.tracef("%v starts as %x, promise %d, log ends at %v", p, uint64(p.self), p.d.promise, end(p.d.rows))
	if len(p.d.rows) == 0 && p.d.promise == 0 {
		p.restore()
		return
	}
	p.begin()
}

// restore fills an empty disk from the chain.
func (p *process) restore() {
	p.readChain(func(rows []row, _ time.Duration, err error) {
		if err != nil {
			p.after(50*ms, p.restore)
			return
		}
		p.appendIn(end(rows).Epoch, rows, func(err error) {
			if err == nil {
				p.show(sqllog.ID(len(rows)))
			}
			p.begin()
		})
	})
}

func (p *process) begin() {
	p.core = elect.New(elect.Config{
		Self: p.self, Promise: p.promised(), Heartbeat: p.w.p.heartbeat, Suspicion: p.w.p.suspicion,
		Random: func(n int64) int64 { return p.w.r.Int64N(n) },
	}, p.local())
	p.poll()
	p.tick()
}

// promised is what the log says at the start.
func (p *process) promised() sqllog.Epoch {
	if rules.Broken(rules.PromiseCoversRows) {
		return p.d.promise
	}
	return max(p.d.promise, end(p.d.rows).Epoch)
}

func (p *process) tick() {
	p.core.SetFull(p.w.full(p.n))
	p.core.Tick(p.local())
	p.effects()
	p.watchStreams()
	if p.reign != nil {
		p.reign.tick()
	}
	p.expire()
	if p.local() >= p.nextPoll {
		p.nextPoll = p.local() + p.w.between(300*ms, 700*ms)
		p.poll()
	}
	p.after(p.w.p.heartbeat/4, p.tick)
}

// poll looks at cluster.json and at the Elector's lock.
func (p *process) poll() {
	var c elect.Cluster
	var l lock
	p.call(func() { c, l = p.w.store.cluster, p.w.store.lock }, func(err error) {
		if err != nil {
			return
		}
		if role, _ := p.core.Role(); role == elect.Replica {
			p.core.SetMembers(c)
		}
		if l.holder != p.self {
			p.core.LockLost()
		}
		if l != p.lockSeen {
			p.lockSeen, p.lockSince = l, p.local()
		}
		if holder, _ := p.core.Elector(); holder && l.holder == p.self {
			p.renew(l)
		}
	})
}

func (p *process) renew(was lock) {
	p.call(func() {
		if p.w.store.lock == was {
			p.w.store.lock.version++
		}
	}, func(error) {})
}

// effects does what the Core wants to be done.
func (p *process) effects() {
	if p.core == nil || p.dead {
		return
	}
	for all := p.core.Effects(); len(all) > 0; all = p.core.Effects() {
		for _, e := range all {
			p.do(e)
		}
	}
}

func (p *process) do(e elect.Effect) {
	switch e := e.(type) {
	case elect.Send:
		p.send(e.To, e.Message)
	case elect.Promise:
		p.makePromise(e.Epoch)
	case elect.StepDown:
		p.w.tracef("%v steps down from %d", p, e.Epoch)
		p.stepDown()
	case elect.Follow:
		p.follow(e)
	case elect.TakeLock:
		p.takeLock(e.Force)
	case elect.Raise:
		p.raise(e.Above)
	case elect.Lead:
		p.lead(e.Cluster)
	case elect.Confirmed:
		p.confirmed(e.Round, true)
	}
}

func (p *process) send(to elect.NodeID, m elect.Message) {
	if h, ok := m.(elect.Heartbeat); ok && h.Candidate && rules.Broken(rules.NothingBeforeFence) {
		h.Candidate = false
		m = h
	}
	if _, beat := m.(elect.Heartbeat); !beat {
		if _, ack := m.(elect.HeartbeatAck); !ack {
			p.w.tracef("%v -> %x: %T%v", p, uint64(to), m, m)
		}
	}
	p.message(to, func(q *process) {
		if q.core == nil {
			return
		}
		q.core.Receive(q.local(), p.self, m)
		if a, ok := m.(elect.AuditAnswer); ok && q.hasty != nil {
			q.hasty.answer(p.self, a)
		}
	})
}

// stepDown ends what is done in the name of a Primary or Candidate.
func (p *process) stepDown() {
	if p.candidacy != nil {
		p.candidacy.over = true
		p.candidacy = nil
	}
	if r := p.reign; r != nil {
		r.end()
		p.reign = nil
	}
	p.confirmed(^uint64(0), false)
}

// takeLock takes the Elector's lock: it is read, then replaced by compare-and-swap.
func (p *process) takeLock(force bool) {
	var seen lock
	p.call(func() { seen = p.w.store.lock }, func(err error) {
		if err != nil {
			p.core.Locked(p.local(), false)
			return
		}
		if seen != p.lockSeen {
			p.lockSeen, p.lockSince = seen, p.local()
		}
		expired := p.local()-p.lockSince > 3*second
		if !force && !expired && seen.holder != p.self {
			p.core.Locked(p.local(), false)
			return
		}
		taken := false
		p.call(func() {
			if p.w.store.lock == seen {
				p.w.store.lock = lock{p.self, seen.version + 1}
				taken = true
			}
		}, func(err error) { p.core.Locked(p.local(), err == nil && taken) })
	})
}

// raise raises the epoch for the Core.
func (p *process) raise(above sqllog.Epoch) {
	p.raiseWith(above, false, func(c elect.Cluster, ok bool) {
		if ok {
			p.w.truth.stats.Elections++
			p.w.tracef("%v raises the epoch: %+v", p, c)
		}
		p.core.EpochRaised(p.local(), c, ok)
	})
}
