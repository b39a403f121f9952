package replicate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// control runs a node's elect.Core: it hands it what happens, one thing at a time,
// and begins what it wants to be done. Its methods may be called concurrently and
// do not block.
type control struct {
	m     *Member
	clock func() time.Duration

	mu     sync.Mutex // under it come quorum.mu and leaves
	core   *elect.Core
	waits  []*roundWait // reads that wait, by ascending round
	closed bool

	ackMu sync.Mutex // under it no other lock is taken
	acked map[elect.NodeID]time.Duration
	full  map[elect.NodeID]bool // whose disk of them took no rows
}

// roundWait is the reads that wait for one round.
type roundWait struct {
	round uint64
	done  chan struct{}
	err   error // set before done is closed
}

// do lets the Core take something.
func (c *control) do(fn func(core *elect.Core, now time.Duration)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doLocked(fn)
}

func (c *control) doLocked(fn func(core *elect.Core, now time.Duration)) {
	if c.closed {
		return
	}
	c.core.SetFull(!c.m.takesRows())
	fn(c.core, c.clock())
	for effects := c.core.Effects(); len(effects) > 0; effects = c.core.Effects() {
		for _, e := range effects {
			c.begin(e)
		}
	}
}

// close ends the Core: nothing is begun any more.
func (c *control) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.releaseLocked(^uint64(0), ErrStopped)
}

// begin begins an effect.
func (c *control) begin(e elect.Effect) {
	m := c.m
	switch e := e.(type) {
	case elect.Send:
		m.peers.Send(e.To, e.Message)
	case elect.Promise:
		m.wg.Go(func() { c.promise(e.Epoch) })
	case elect.StepDown:
		m.deposeNow(e.Epoch)
		c.releaseLocked(^uint64(0), ErrNotPrimary)
		m.roles.set(idle{})
	case elect.Follow:
		m.roles.set(follow{m: m, primary: e.Primary, epoch: e.Epoch})
	case elect.Lead:
		m.roles.set(reign{m: m, cluster: e.Cluster})
	case elect.TakeLock:
		m.wg.Go(func() { c.takeLock(e.Force) })
	case elect.Raise:
		m.wg.Go(func() { c.raise(e.Above) })
	case elect.Confirmed:
		c.releaseLocked(e.Round, nil)
	}
}

// releaseLocked answers the reads that wait for a round up to one.
func (c *control) releaseLocked(upTo uint64, err error) {
	n := 0
	for n < len(c.waits) && c.waits[n].round <= upTo {
		c.waits[n].err = err
		close(c.waits[n].done)
		n++
	}
	c.waits = c.waits[n:]
}

// promise makes a promise durable.
func (c *control) promise(e sqllog.Epoch) {
	head, err := c.m.promise(e)
	if err != nil {
		c.m.logger.WithError(err).WithField("epoch", e).Warn("promise could not be recorded")
		if !errors.Is(err, sqllog.ErrPromised) {
			pause(c.m.ctx, 2*c.m.cfg.Heartbeat) // each heartbeat may ask for it again
		}
		c.do(func(core *elect.Core, _ time.Duration) {
			core.PromiseFailed()
			if errors.Is(err, sqllog.ErrPromised) {
				core.Raised(c.m.log.Promised())
			}
		})
		return
	}
	c.do(func(core *elect.Core, _ time.Duration) {
		core.Promised(e, elect.Position{ID: head.ID, Epoch: head.Epoch})
	})
}

// storeTimeout bounds what an election asks of object storage at a time.
const storeTimeout = 5 * time.Second

func (c *control) takeLock(force bool) {
	ctx, cancel := context.WithTimeout(c.m.ctx, storeTimeout)
	defer cancel()
	c.electionBegins()
	err := c.m.lock.take(ctx, force)
	if err != nil {
		c.m.logger.WithError(err).Info("elector's lock was not taken")
	}
	c.do(func(core *elect.Core, now time.Duration) { core.Locked(now, err == nil) })
}

func (c *control) raise(above sqllog.Epoch) {
	ctx, cancel := context.WithTimeout(c.m.ctx, storeTimeout)
	defer cancel()
	c.electionBegins()
	cluster, err := c.m.cfg.Control.RaiseKnown(ctx, above, c.m.cfg.Rule)
	if err != nil {
		c.m.logger.WithError(err).Info("epoch was not raised")
	} else {
		c.m.logger.WithField("epoch", cluster.Epoch).Info("electing a primary")
		c.m.metrics.elections.Inc()
	}
	c.do(func(core *elect.Core, now time.Duration) { core.EpochRaised(now, cluster, err == nil) })
}

// tick moves the Core's time on until the member is closed.
func (c *control) tick(every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			c.do(func(core *elect.Core, now time.Duration) {
				core.Tick(now)
				c.look(core, now)
			})
		case <-c.m.ctx.Done():
			return
		}
	}
}

// electionBegins counts the time that an election takes.
func (c *control) electionBegins() {
	_, e, _ := c.m.leader.get()
	c.m.metrics.electionBegins(c.clock(), e)
}

// look counts the time without a Primary.
func (c *control) look(core *elect.Core, now time.Duration) {
	node, e, _ := c.m.leader.get()
	heard, of := core.Heard()
	_, stage := core.Elector()
	c.m.metrics.look(now, node != 0 && node == heard && e == of, e, stage != "watching")
}

// inform reads who votes while no Primary is heard: the last member row may not have
// come to this node, or not as a committed one, and then those whom it knows may be too
// few to elect.
func (c *control) inform(every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-c.m.ctx.Done():
			return
		}
		if c.m.metrics.silentFor(c.clock()) <= every {
			continue
		}
		ctx, cancel := context.WithTimeout(c.m.ctx, storeTimeout)
		cluster, err := c.m.cfg.Control.Read(ctx)
		cancel()
		if err != nil {
			continue
		}
		c.do(func(core *elect.Core, _ time.Duration) {
			if role, _ := core.Role(); role == elect.Replica { // a Primary knows better
				core.SetMembers(cluster)
			}
		})
	}
}

// receive takes another node's message.
func (c *control) receive(from elect.NodeID, msg elect.Message) {
	if ack, ok := msg.(elect.HeartbeatAck); ok && ack.Promise <= ack.Epoch {
		c.ackMu.Lock()
		c.acked[from], c.full[from] = c.clock(), ack.Full
		c.ackMu.Unlock()
	}
	c.do(func(core *elect.Core, now time.Duration) { core.Receive(now, from, msg) })
}

// answers reports whether a node has answered this Primary of late, and its disk
// takes rows.
func (c *control) answers(n elect.NodeID, within time.Duration) bool {
	there, full := c.answered(n, within)
	return there && !full
}

// answered reports whether a node has answered this Primary of late, and whether its
// disk took no rows then.
func (c *control) answered(n elect.NodeID, within time.Duration) (there, full bool) {
	c.ackMu.Lock()
	defer c.ackMu.Unlock()
	at, ok := c.acked[n]
	return ok && c.clock()-at <= within, c.full[n]
}

// confirm returns nil when this node was the Primary, by the word of enough
// members, after it was called. errSlow: they have not answered within patience.
func (c *control) confirm(ctx context.Context, patience time.Duration) error {
	var wait *roundWait
	c.mu.Lock()
	c.doLocked(func(core *elect.Core, now time.Duration) {
		round, ok := core.Read(now)
		if !ok {
			return
		}
		if n := len(c.waits); n > 0 && c.waits[n-1].round == round {
			wait = c.waits[n-1]
			return
		}
		wait = &roundWait{round: round, done: make(chan struct{})}
		c.waits = append(c.waits, wait)
	})
	c.mu.Unlock()
	if wait == nil {
		return ErrNotPrimary
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-wait.done:
		return wait.err
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return errSlow
	}
}

// errSlow: too few members have answered in time.
var errSlow = errors.New("too few members answer")

// state describes the Core.
type coreState struct {
	role         elect.Role
	epoch        sqllog.Epoch // of the role, or of the Primary that is heard
	promise      sqllog.Epoch
	primary      elect.NodeID
	cluster      elect.Cluster
	elector      bool
	electorStage string
}

func (c *control) state() (s coreState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.role, s.epoch = c.core.Role()
	s.promise, s.cluster = c.core.Promise(), c.core.Cluster()
	s.elector, s.electorStage = c.core.Elector()
	primary, epoch := c.core.Heard()
	if s.role == elect.Replica {
		s.primary, s.epoch = primary, epoch
	} else {
		s.primary = c.m.self
	}
	return s
}

func (s coreState) String() string {
	return fmt.Sprintf("%s, epoch %d, promise %d, primary %s, %s", s.role, s.epoch, s.promise, s.primary, s.electorStage)
}
