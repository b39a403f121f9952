package replicate

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// room is whether the disk takes rows, as the log's writes tell: it may be full, or
// give no answer. Its methods may be called concurrently.
type room struct {
	clock func() time.Duration
	full  atomic.Bool

	writes atomic.Int64 // under way
	moved  atomic.Int64 // when the oldest of them began, or one ended since; a time of clock

	mu     sync.Mutex
	err    error         // of the newest write that found no room; nil while full is false
	at     time.Duration // when that was
	broken error         // why the log takes no writes, as last seen
}

// lack is why there is no room, nil if there is, and for how long no write was tried.
func (r *room) lack() (untried time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		return 0, nil
	}
	return r.clock() - r.at, r.err
}

// silent is for how long the disk has given no answer to a write; 0 if none is under
// way.
func (r *room) silent() time.Duration {
	since := time.Duration(r.moved.Load())
	if r.writes.Load() == 0 {
		return 0
	}
	return max(r.clock()-since, 0)
}

// begin notes that a write begins.
func (r *room) begin() {
	if r.writes.Add(1) == 1 {
		r.moved.Store(int64(r.clock()))
	}
}

// note takes the outcome of something that has written; nil changes nothing.
func (r *room) note(err error, log MemberLog) {
	if err == nil {
		return
	}
	broken := log.Broken()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = broken
	if errors.Is(err, sqllog.ErrFull) {
		r.err, r.at = err, r.clock()
		r.full.Store(true)
	}
}

// end notes the outcome of a write.
func (r *room) end(err error, log MemberLog) {
	r.moved.Store(int64(r.clock()))
	r.writes.Add(-1)
	r.note(err, log)
}

// found notes that there is room again.
func (r *room) found() {
	if !r.full.Load() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = nil
	r.full.Store(false)
}

// mended notes that the log takes writes.
func (r *room) mended() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = nil
}

// brokenErr is why the log takes no writes, as last seen; unlike the log's own word it
// waits for no write.
func (r *room) brokenErr() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.broken
}

// roomLog is a log that notes what its writes tell of the disk. Rows that were
// appended are the proof that there is room; a small write is none.
type roomLog struct {
	MemberLog
	room *room
}

// AppendIn implements EpochLog.
func (l roomLog) AppendIn(e sqllog.Epoch, rows []sqllog.Row) error {
	l.room.begin()
	err := l.MemberLog.AppendIn(e, rows)
	l.room.end(err, l.MemberLog)
	if err == nil && len(rows) > 0 {
		l.room.found()
	}
	return err
}

// Promise implements MemberLog.
func (l roomLog) Promise(e sqllog.Epoch) (sqllog.Head, error) {
	l.room.begin()
	head, err := l.MemberLog.Promise(e)
	l.room.end(err, l.MemberLog)
	return head, err
}

// TruncateIn implements MemberLog.
func (l roomLog) TruncateIn(e sqllog.Epoch, to sqllog.Head) error {
	l.room.begin()
	err := l.MemberLog.TruncateIn(e, to)
	l.room.end(err, l.MemberLog)
	return err
}

// Recover implements Log.
func (l roomLog) Recover(ctx context.Context) (sqllog.Head, error) {
	l.room.begin()
	head, err := l.MemberLog.Recover(ctx)
	l.room.end(err, l.MemberLog)
	if err == nil {
		l.room.mended()
	}
	return head, err
}

// hangLimit is the least time after which a disk that gives no answer is not waited for.
const hangLimit = time.Second

// hangs reports whether the disk has given no answer for so long that this node should
// not be Primary.
func (m *Member) hangs() bool { return m.room.silent() > max(2*m.cfg.Suspicion, hangLimit) }

// takesRows reports whether the disk takes rows, as far as this node knows.
func (m *Member) takesRows() bool { return !m.room.full.Load() && !m.hangs() }

// watchDisk has a Primary whose disk gives no answer give way, and finds out whether the
// disk of a node that has nothing to write has room again.
func (m *Member) watchDisk() {
	ticker := time.NewTicker(m.cfg.Suspicion / 4)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-m.ctx.Done():
			return
		}
		if p := m.primary(); p == nil {
			m.seekRoom()
		} else if m.hangs() {
			m.giveWay(p.quorum.sent())
		}
	}
}

// probeAfter is how long after the last write that found no room another one is tried:
// a Replica that follows tries more often by itself.
const probeAfter = 2 * followMost

// seekRoom tries a small write if none was tried for long.
func (m *Member) seekRoom() {
	if untried, lack := m.room.lack(); lack == nil || untried < probeAfter {
		return
	}
	if m.tryRecover(m.ctx) == nil {
		m.room.found()
	}
}

// sent is the newest row that is on its way to the Replicas.
func (q *quorum) sent() sqllog.ID {
	q.recent.mu.Lock()
	defer q.recent.mu.Unlock()
	return q.recent.end.ID
}

// giveWay has another node elected if this Primary's disk does not take a group that ends
// at a row, and another one can be: if enough others hold the group, or enough together
// with this node, which has to be able to promise then. It reports whether it tries.
func (m *Member) giveWay(end sqllog.ID) bool {
	cluster := m.control.state().cluster
	heirs := m.heirs(cluster, end)
	if len(heirs) == 0 {
		return false
	}
	if need := cluster.AuditNeed(); len(heirs) < need {
		if len(heirs)+1 < need || m.hangs() || m.tryRecover(m.ctx) != nil {
			return false
		}
	}
	m.control.do(func(core *elect.Core, now time.Duration) { core.HandOver(now, heirs[0]) })
	return true
}

// heirs are the voters that follow, answer, and have had room for all rows up to an
// id.
func (m *Member) heirs(c elect.Cluster, end sqllog.ID) (heirs []elect.NodeID) {
	for _, f := range m.followers.states() {
		if c.IsMember(f.node) && m.healthy(f.node) && f.id >= end {
			heirs = append(heirs, f.node)
		}
	}
	return heirs
}
