package replicate

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// EpochLog is the log as the Primary of an epoch writes it.
type EpochLog interface {
	// AppendIn is Log.Append, refused with sqllog.ErrPromised once a higher epoch is
	// promised.
	AppendIn(e sqllog.Epoch, rows []sqllog.Row) error
}

// QuorumConfig makes a Primary one of a cluster.
type QuorumConfig struct {
	Self    elect.NodeID
	Cluster elect.Cluster
	// Fence is the epoch row of Cluster.Epoch, the newest row of the log.
	Fence elect.Position
	Log   EpochLog
	// UploadNow asks for all rows up to an id, which the log holds, to be brought to
	// the chain at once; it does not block.
	UploadNow func(sqllog.ID)
	// Healthy reports whether a Replica follows and has answered of late.
	Healthy func(elect.NodeID) bool
	// Confirm returns nil when this node was the Primary after it was called.
	Confirm func(ctx context.Context) error
	// Published is told up to where rows are committed and visible. It does not block.
	Published func(sqllog.Head)
	// Deposed is called, once, when this node must not go on as Primary of its epoch.
	// It does not block.
	Deposed func(error)
	// GiveWay is called now and then while the disk has no room for a group that ends at
	// a row: it has another node elected if one can be, and reports whether it tries. It
	// blocks for a write at most; nil is that none can be.
	GiveWay func(end sqllog.ID) bool
	// FellBack is called when rows need object storage for their commit, since too few
	// Replicas are there or answer in time. It does not block; nil is nobody.
	FellBack func()
	// MaxPendingUpload bounds the bytes of keys and values that object storage does not
	// hold yet: a new Primary uploads them before it serves. Beyond it writes are
	// refused; 0 means DefaultMaxPendingUpload.
	MaxPendingUpload int64
	// Patience is how long rows wait for receipts before they are uploaded; 0 means
	// DefaultReceiptPatience.
	Patience time.Duration
}

// DefaultReceiptPatience is how long rows wait for receipts.
const DefaultReceiptPatience = 200 * time.Millisecond

// DefaultMaxPendingUpload is 1 GiB.
const DefaultMaxPendingUpload = 1 << 30

// maxPendingBytes of groups may wait for their commit before no further one is
// closed.
const maxPendingBytes = 64 << 20

// quorum commits groups by receipts and chunks. A group is in the log, and on its
// way to the Replicas, before the one before it is committed.
type quorum struct {
	cfg    QuorumConfig
	p      *Primary
	recent *recent

	mu      sync.Mutex // under it no other lock is taken
	tracker *Tracker
	pending []*group // in the log or on their way there, in order
	bytes   int      // of pending
	room    chan struct{}
	deposed error
	fallen  bool // rows wait for chunks rather than receipts
	waiting uploads

	publishMu sync.Mutex // held while groups are published; Primary.mu and mu come under it
	once      sync.Once
}

func newQuorum(p *Primary, cfg QuorumConfig) *quorum {
	if cfg.MaxPendingUpload == 0 {
		cfg.MaxPendingUpload = DefaultMaxPendingUpload
	}
	if cfg.Patience == 0 {
		cfg.Patience = DefaultReceiptPatience
	}
	return &quorum{
		cfg: cfg, p: p, recent: newRecent(cfg.Fence), room: make(chan struct{}),
		tracker: NewTracker(cfg.Self, cfg.Cluster, cfg.Fence.ID),
	}
}

// commit brings a group into the log and to the Replicas; its leader calls it. It
// returns when the log holds the group: whether it is committed then is for
// receipts and chunks to say. A panic is final, as on a single node.
func (q *quorum) commit(g *group) {
	defer func() {
		if r := recover(); r != nil {
			q.stop(q.p.commitPanicked(r))
			q.p.tellFatal()
		}
	}()
	if !q.append(g) {
		return
	}
	q.appended(g)
}

// appended counts a group that the log holds.
func (q *quorum) appended(g *group) {
	if q.alone() {
		q.fallBack()
		q.cfg.UploadNow(g.last)
	}
	q.track(func(t *Tracker) bool { return t.Durable(g.last) })
}

// append closes a group, once there is room for it, sends it to the Replicas and
// appends it to the log. It reports whether the log holds it.
func (q *quorum) append(g *group) bool {
	q.p.appendMu.Lock()
	defer q.p.appendMu.Unlock()
	if q.awaitRoom() != nil || q.p.leaveStalled(g) || !q.p.closeGroup(g) {
		return false
	}
	g.last, g.closed = g.batch.Rows[len(g.batch.Rows)-1].ID, time.Now()
	q.mu.Lock()
	q.pending = append(q.pending, g)
	q.bytes += g.batch.Bytes
	q.waiting.add(g.last, g.batch.Bytes)
	q.mu.Unlock()
	q.recent.add(g.batch.Rows, g.batch.Bytes)
	runtime.Gosched() // the streams, whose round trip is the longer one, go first
	if err := q.cfg.Log.AppendIn(q.cfg.Cluster.Epoch, g.batch.Rows); err != nil {
		// Replicas may have the rows: their ids can be given to no others in this epoch.
		if !errors.Is(err, sqllog.ErrFull) || !q.stall(g, err) {
			q.stop(fmt.Errorf("append: %w", err))
		}
		return false
	}
	return true
}

// alone reports whether too few members are there for receipts to commit anything.
func (q *quorum) alone() bool {
	q.mu.Lock()
	members, need := q.tracker.Quorum() // never changed in place
	q.mu.Unlock()
	there := 0
	for _, n := range members {
		if n == q.cfg.Self || q.cfg.Healthy(n) {
			there++
		}
	}
	return need == 0 || there < need
}

// awaitRoom waits, with appendMu held, while too much waits for its commit.
func (q *quorum) awaitRoom() error {
	for {
		q.mu.Lock()
		room, full, err := q.room, q.bytes > maxPendingBytes, q.deposed
		q.mu.Unlock()
		if err != nil || !full {
			return err
		}
		<-room
	}
}

// track tells the Tracker something, and publishes what is committed by it.
func (q *quorum) track(tell func(*Tracker) bool) {
	q.mu.Lock()
	moved := tell(q.tracker)
	committed, uploaded := q.tracker.Committed(), q.tracker.Uploaded()
	q.waiting.uploaded(uploaded)
	q.fallen = q.fallen && (!moved || uploaded >= committed)
	q.mu.Unlock()
	if moved {
		q.publish()
	}
	q.recent.progress(committed, uploaded)
	if moved {
		q.cfg.Published(q.p.store.Head())
	}
}

// receipt notes a Replica's.
func (q *quorum) receipt(from elect.NodeID, id sqllog.ID) {
	q.track(func(t *Tracker) bool { return t.Receipt(from, q.cfg.Cluster.Epoch, id) })
}

// uploaded notes that the chain holds every row up to an id.
func (q *quorum) uploaded(id sqllog.ID) {
	q.track(func(t *Tracker) bool { return t.ChunkCreated(id) })
}

// takeUp changes the members.
func (q *quorum) takeUp(members []elect.NodeID) {
	q.track(func(t *Tracker) bool { return t.TakeUp(members) })
}

// countedTo is Tracker.CountedTo.
func (q *quorum) countedTo() sqllog.ID {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.tracker.CountedTo()
}

// publish makes the groups visible that are committed, and answers their clients.
func (q *quorum) publish() {
	q.publishMu.Lock()
	defer q.publishMu.Unlock()
	for {
		g := q.takeCommitted()
		if g == nil {
			return
		}
		q.p.publishGroup(g)
	}
}

func (q *quorum) takeCommitted() *group {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.pending) == 0 || q.deposed != nil || q.pending[0].last > q.tracker.Committed() {
		return nil
	}
	g := q.pending[0]
	q.pending[0] = nil
	q.pending = q.pending[1:]
	q.bytes -= g.batch.Bytes
	q.makeRoomLocked()
	return g
}

func (q *quorum) makeRoomLocked() {
	close(q.room)
	q.room = make(chan struct{})
}

// watchPatience has rows uploaded that wait for receipts for too long, until the
// Primary is closed.
func (q *quorum) watchPatience() {
	ticker := time.NewTicker(q.cfg.Patience / 4)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-q.p.stop:
			return
		}
		if id := q.overdue(); id > 0 {
			q.fallBack()
			q.cfg.UploadNow(id)
		}
	}
}

// overdue is the newest durable row if the oldest pending one waits for too long.
func (q *quorum) overdue() sqllog.ID {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.pending) == 0 || time.Since(q.pending[0].closed) < q.cfg.Patience {
		return 0
	}
	return q.tracker.durable
}

// depose ends commits by receipts at once: this node has promised a higher epoch.
// It does not block; stop ends the rest.
func (q *quorum) depose() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tracker.Depose()
}

// stop ends the Primary: nothing is published any more, and the outcome of what is
// pending is unknown to its clients.
func (q *quorum) stop(cause error) {
	q.mu.Lock()
	q.tracker.Depose()
	if q.deposed == nil {
		q.deposed = cause
	}
	q.makeRoomLocked()
	q.mu.Unlock()
	q.recent.close()
	q.p.unsure.Load().give()
	q.once.Do(func() { q.cfg.Deposed(cause) })
}

// abandon fails everything that is pending and takes it out of the index. stop was
// called; no append is under way when it returns.
func (q *quorum) abandon(err error) {
	p := q.p
	p.appendMu.Lock()
	defer p.appendMu.Unlock()
	q.publishMu.Lock()
	defer q.publishMu.Unlock()
	q.mu.Lock()
	pending := q.pending
	q.pending, q.bytes = nil, 0
	q.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = err
	p.inflight = nil
	p.rollbackLocked(pending, err)
}

// confirm is a read's.
func (q *quorum) confirm(ctx context.Context) error {
	if err := q.cfg.Confirm(ctx); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, ErrNotPrimary) {
			return fmt.Errorf("%w: %w", errHandingOver, err)
		}
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}
