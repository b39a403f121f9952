package replicate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// A Primary of a cluster whose log has no room for a group stalls: the log has
// nothing of the group, and Replicas may have it, so that just these rows, and no
// others, are appended once there is room. Until then
//
//	new writes              are refused with ErrNoSpace: they are not done
//	those that are pending  are told that nobody knows (ErrUnavailable)
//	reads, watches          go on; so do the commits of groups that the log holds
//
// If another node can be Primary, it is asked to (Config.GiveWay), and the stall
// ends with the epoch.

// stall begins to wait for room for a group. It is called with appendMu held, and
// reports false if the Primary is being closed.
func (q *quorum) stall(g *group, cause error) bool {
	p := q.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.failures.Add(1)
	p.noRoom, p.roomless = commitError(cause), g
	p.handing = true // until it is known whether another node takes over
	p.unsure.Load().give()
	p.cfg.Logger.WithError(cause).WithField("rows", len(g.batch.Rows)).Error("the log has no room; writes are refused until it has")
	p.done.Go(func() { q.awaitSpace(g) })
	return true
}

// awaitSpace appends a group once there is room for it, unless the epoch ends before.
func (q *quorum) awaitSpace(g *group) {
	p := q.p
	defer func() {
		if r := recover(); r != nil {
			q.stop(p.commitPanicked(r))
			p.tellFatal()
		}
	}()
	started := time.Now()
	for wait := recoverFirst; ; wait = min(2*wait, followMost) {
		gives := q.cfg.GiveWay != nil && q.cfg.GiveWay(g.last) || wait < 4*recoverFirst // what the Replicas say may be on its way
		p.handOver(gives && time.Since(started) < handOverLimit)                        // until then writes wait for the other one
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-p.stop:
			timer.Stop()
			return
		}
		err := q.appendAgain(g)
		if err == nil {
			p.cfg.Logger.WithField("after", time.Since(started)).Info("the log has room again; writes are served")
			q.appended(g)
			if next := p.resume(); next != nil {
				q.commit(next)
			}
			return
		}
		if !errors.Is(err, sqllog.ErrFull) {
			q.stop(fmt.Errorf("append: %w", err))
			return
		}
	}
}

// appendAgain tries to append a group for which there was no room.
func (q *quorum) appendAgain(g *group) error {
	q.p.appendMu.Lock()
	defer q.p.appendMu.Unlock()
	q.mu.Lock()
	deposed := q.deposed
	q.mu.Unlock()
	if deposed != nil {
		return deposed
	}
	if _, err := q.p.log.Recover(context.Background()); err != nil { // as long as it fails, so does everything
		return fmt.Errorf("%w: %w", sqllog.ErrFull, err)
	}
	return q.cfg.Log.AppendIn(q.cfg.Cluster.Epoch, g.batch.Rows)
}

// leaveStalled reports whether a forming group has to wait for room: who leads it leaves
// it to awaitSpace.
func (p *Primary) leaveStalled(g *group) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.noRoom == nil || g.err != nil {
		return false
	}
	g.left = true
	return true
}

// resume ends a stall. It returns the group that is left to the caller to lead, if any.
func (p *Primary) resume() *group {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noRoom, p.roomless, p.handing = nil, nil, false
	p.unsure.Store(newSignal())
	p.makeRoomLocked()
	if p.forming.left {
		return p.forming
	}
	return nil
}

// await waits for the commit of a group.
func (p *Primary) await(ctx context.Context, g *group) error {
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return ctx.Err()
	case <-p.unsure.Load().given:
	}
	if p.quorum.over() {
		return ErrDeposed // what would fail the group may have to wait for the disk
	}
	if p.lacksRoom(g) {
		return fmt.Errorf("%w: the disk is full, and has no room for it yet", ErrUnavailable)
	}
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// over reports whether this is no Primary any more.
func (q *quorum) over() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.deposed != nil
}

// signal is given once.
type signal struct {
	once  sync.Once
	given chan struct{}
}

func newSignal() *signal { return &signal{given: make(chan struct{})} }

func (s *signal) give() { s.once.Do(func() { close(s.given) }) }

// lacksRoom reports whether a group waits for room on the disk.
func (p *Primary) lacksRoom(g *group) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.noRoom != nil && g.err == nil && (g == p.roomless || g == p.forming)
}
