package replicate

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/sirupsen/logrus"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Log is what the Primary needs to commit. Append is durable when it returns.
type Log interface {
	Append(rows []sqllog.Row) error
	// Recover opens the log anew after an error and tells its head.
	Recover(ctx context.Context) (sqllog.Head, error)
	// Truncate removes rows above a head.
	Truncate(ctx context.Context, to sqllog.Head) error
}

// Space is what the Primary needs to free what is compacted.
type Space interface {
	// Remove deletes rows by ascending id, and records what compacted them.
	Remove(ids []sqllog.ID, c sqllog.Compaction) error
	// Shrink gives pages back to the file system and tells how many are unused.
	Shrink(maxPages int) (left int64, err error)
	FreePages(ctx context.Context) (free, total int64, err error)
	Size(ctx context.Context) (sqllog.Size, error)
}

var (
	_ Log   = (*sqllog.Log)(nil)
	_ Space = (*sqllog.Log)(nil)
)

// Archive is object storage as the Primary sees it. Its methods may be called
// concurrently, Commit by one caller at a time.
type Archive interface {
	// Commit returns nil when the commit rule holds for rows that the log holds. It
	// may block for as long as object storage does not answer. After an error
	// nothing can be committed any more.
	Commit(rows []sqllog.Row) error
	// Committed notes that rows up to an id are published, with size bytes of keys
	// and values.
	Committed(upTo sqllog.ID, size int)
	// Confirm returns nil when this node was still the Primary after it was called.
	Confirm(ctx context.Context) error
	// WaitUploaded returns nil when object storage holds every row up to an id, and
	// an error when stop is closed first.
	WaitUploaded(stop <-chan struct{}, id sqllog.ID) error
	// Err is why nothing can be committed now, nil if it can.
	Err() error
}

// maxGroupBytes of keys and values close a group to further writes: they wait
// for the next one.
const maxGroupBytes = 16 << 20

// Config of a Primary. Zero values mean the defaults.
type Config struct {
	Compaction CompactionConfig
	// Archive is object storage; nil where there is none.
	Archive Archive
	// Quorum makes the Primary one of a cluster; nil where there is one node.
	Quorum *QuorumConfig
	// OnFatal is called once when the node must not go on; writes are refused
	// from then on. It must not wait for Close. nil means to panic.
	OnFatal func(error)
	// Logger receives the messages; nil means logrus' standard logger.
	Logger logrus.FieldLogger

	scrubber   *scrubber // of a cluster's node, which outlives its Primary; nil: one of its own
	groupBytes int       // tests make it small; 0 means maxGroupBytes
}

// Primary orders writes and commits them. Its methods may be called
// concurrently.
type Primary struct {
	log   Log
	space Space
	store *mvcc.Store
	cfg   Config

	quorum *quorum // nil on a single node

	// mu is held while a write is evaluated. Under it come Store.mu and quorum.mu,
	// nothing else.
	mu       sync.Mutex
	room     chan struct{} // closed when the forming group is closed or refused
	forming  *group
	inflight *group // being appended; nil if none
	failed   error  // what writes are refused with; nil while serving
	fatalErr error  // set once, with failed: there is no recovery
	closed   bool
	handing  bool   // writes are not begun: another node is to take them
	noRoom   error  // what writes are refused with while a group waits for room on the disk
	roomless *group // that group
	crowd    crowd
	unsure   atomic.Pointer[signal] // given while noRoom is set, and when this is no Primary any more

	// appendMu is held from closing a group to publishing it, so that groups are
	// appended in order. It is taken before mu.
	appendMu sync.Mutex
	spare    *mvcc.Batch // under appendMu

	leaseGranted chan struct{} // size one: the reaper looks again
	scrubber     *scrubber
	failures     atomic.Int64
	lastSize     atomic.Pointer[sqllog.Size]
	fatalOnce    sync.Once
	closeOnce    sync.Once
	stop         chan struct{}
	done         sync.WaitGroup
}

// group is the rows that one commit makes durable.
type group struct {
	batch   *mvcc.Batch
	writers int           // changes in it
	last    sqllog.ID     // of its rows; set when it is closed, in a cluster
	closed  time.Time     // when; likewise
	done    chan struct{} // closed when published or failed
	err     error         // set before done is closed, under Primary.mu
	left    bool          // its leader has left it to the end of a stall; likewise
}

func newGroup(b *mvcc.Batch) *group {
	if b == nil {
		b = &mvcc.Batch{}
	}
	return &group{batch: b, done: make(chan struct{})}
}

// New starts the write path and its background work. The log must be at the head
// that the store has loaded.
func New(log interface {
	Log
	Space
}, store *mvcc.Store, cfg Config) *Primary {
	if cfg.Logger == nil {
		cfg.Logger = logrus.StandardLogger()
	}
	if cfg.OnFatal == nil {
		cfg.OnFatal = func(err error) { panic(err) }
	}
	if cfg.groupBytes == 0 {
		cfg.groupBytes = maxGroupBytes
	}
	cfg.Compaction.setDefaults()
	p := &Primary{
		log: log, space: log, store: store, cfg: cfg,
		forming: newGroup(nil), room: make(chan struct{}), leaseGranted: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	p.crowd.arrived = make(chan struct{}, 1)
	p.unsure.Store(newSignal())
	if p.scrubber = cfg.scrubber; p.scrubber == nil {
		p.scrubber = newScrubber(p.scrubs())
		p.done.Go(p.scrubber.run)
	}
	if cfg.Quorum != nil {
		p.quorum = newQuorum(p, *cfg.Quorum)
		p.done.Go(p.quorum.watchPatience)
	}
	p.done.Go(p.reap)
	p.done.Go(p.compactByAge)
	if cfg.Compaction.FollowKey {
		p.done.Go(p.followCompactKey)
	}
	return p
}

// Close refuses further writes, finishes those under way, and ends the
// background work. Store and log stay open. Every call returns when that is done.
func (p *Primary) Close() { p.closeOnce.Do(p.close) }

func (p *Primary) close() {
	p.mu.Lock()
	p.closed = true
	p.makeRoomLocked()
	p.mu.Unlock()
	close(p.stop)
	p.done.Wait()
	p.mu.Lock()
	last := p.newestPendingLocked()
	p.mu.Unlock()
	if last != nil {
		<-last.done
	}
}

// Txn evaluates, commits and answers a Txn. Errors are those of mvcc for the
// request, and ErrNoSpace, ErrUnavailable or ErrStopped for the commit. A ctx
// that ends leaves the outcome open.
func (p *Primary) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	if mvcc.ReadOnly(r) {
		if err := p.confirmTxn(ctx, r); err != nil {
			return nil, err
		}
		return p.store.ReadTxn(ctx, r)
	}
	var answer *mvcc.Answer
	err := p.submit(ctx, func(b *mvcc.Batch) (err error) {
		answer, err = p.store.EvaluateTxn(ctx, b, r)
		return err
	})
	if err == nil && !answer.Wrote {
		err = p.confirm(ctx)
	}
	if errors.Is(err, ErrDeposed) && answer != nil && !answer.Wrote {
		err = errHandingOver
	}
	if err != nil {
		if answer != nil {
			answer.Release()
		}
		return nil, err
	}
	return answer.Complete(ctx)
}

// Range, RangeStream and HashKV read at the committed revision, which moves before
// clients are answered: once this node has confirmed itself as the Primary, a read
// of it is linearizable.

// Range answers a Range request. ErrUnavailable: a linearizable one could not be
// confirmed.
func (p *Primary) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	if err := p.confirmRange(ctx, r); err != nil {
		return nil, err
	}
	return p.store.Range(ctx, r)
}

// RangeStream answers a Range request in parts, each handed to send. Its errors are
// those of Range, and send's.
func (p *Primary) RangeStream(ctx context.Context, r *pb.RangeRequest, send func(*pb.RangeStreamResponse) error) error {
	if err := p.confirmRange(ctx, r); err != nil {
		return err
	}
	return p.store.RangeStream(ctx, r, func(part *pb.RangeResponse) error {
		return send(&pb.RangeStreamResponse{RangeResponse: part})
	})
}

// HashKV hashes the history up to a revision, as etcd does.
func (p *Primary) HashKV(ctx context.Context, rev int64) (*pb.HashKVResponse, error) {
	return p.store.HashKV(ctx, rev)
}

// submit evaluates a change and returns when what it saw and what it made is
// committed.
func (p *Primary) submit(ctx context.Context, eval func(*mvcc.Batch) error) error {
	g, lead, evalErr, err := p.evaluate(ctx, eval)
	if err != nil {
		p.tellFatal()
		return err
	}
	if lead {
		p.commit(g)
	}
	if g != nil {
		if err := p.await(ctx, g); err != nil {
			return err
		}
	}
	return evalErr
}

// evaluate runs eval in the order of writes. It returns the group to wait for,
// nil if nothing is pending, and whether the caller leads it.
func (p *Primary) evaluate(ctx context.Context, eval func(*mvcc.Batch) error) (wait *group, lead bool, evalErr, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.awaitRoomLocked(ctx); err != nil {
		return nil, false, nil, err
	}
	defer func() {
		if r := recover(); r != nil {
			p.cfg.Logger.WithField("panic", r).WithField("stack", string(debug.Stack())).Error("evaluation panicked; writes are refused for good")
			wait, err = nil, fmt.Errorf("%w: evaluation panicked: %v", ErrUnavailable, r)
			p.failed, p.fatalErr = err, err
			p.refuseFormingLocked(err)
		}
	}()
	g := p.forming
	before := len(g.batch.Rows)
	evalErr = eval(g.batch)
	if len(g.batch.Rows) > before {
		g.writers++
		p.crowd.arrivedLocked()
		return g, before == 0, evalErr, nil
	}
	return p.newestPendingLocked(), false, evalErr, nil
}

// awaitRoomLocked waits while the forming group is full. It returns why no write
// is taken: a closed or failed Primary, or object storage that does not answer,
// since nobody knows when what is pending would be committed.
func (p *Primary) awaitRoomLocked(ctx context.Context) error {
	for {
		switch {
		case p.quorum != nil && p.fatalErr == nil && (p.handing || p.closed || p.failed != nil):
			return errHandingOver
		case p.closed:
			return ErrStopped
		case p.failed != nil:
			return p.failed
		case p.noRoom != nil:
			return p.noRoom
		}
		if err := p.archiveErr(); err != nil {
			return err
		}
		if p.forming.batch.Bytes <= p.cfg.groupBytes {
			return nil
		}
		room := p.room
		p.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
		}
		p.mu.Lock()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// makeRoomLocked wakes those who wait for room in the forming group.
func (p *Primary) makeRoomLocked() {
	close(p.room)
	p.room = make(chan struct{})
}

// newestPendingLocked is the newest group with rows that is not published.
func (p *Primary) newestPendingLocked() *group {
	if !p.forming.batch.Empty() {
		return p.forming
	}
	return p.inflight
}

// commit appends a group and, on a single node, publishes it; its leader calls it.
func (p *Primary) commit(g *group) {
	if p.quorum != nil {
		p.quorum.commit(g)
		return
	}
	p.appendMu.Lock()
	defer p.appendMu.Unlock()
	p.gather()
	if !p.closeGroup(g) {
		return
	}
	started := time.Now()
	err := p.appendAndPublish(g.batch)
	p.mu.Lock()
	p.inflight = nil
	p.crowd.committedLocked(started, g.writers, p.forming.writers)
	if err != nil {
		p.failLocked(g, err)
	}
	p.mu.Unlock()
	close(g.done)
	if err == nil {
		g.batch.Reset()
		p.spare = g.batch
		return
	}
	p.tellFatal()
}

// appendAndPublish makes a group durable and visible. A panic in it is final:
// what is pending can no longer be told from what is committed.
func (p *Primary) appendAndPublish(b *mvcc.Batch) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = p.commitPanicked(r)
		}
	}()
	if err := p.log.Append(b.Rows); err != nil {
		return err
	}
	if err := p.archive(b.Rows); err != nil {
		return p.die(err)
	}
	last := b.Rows[len(b.Rows)-1].ID
	p.store.Publish(b)
	if p.cfg.Archive != nil {
		p.cfg.Archive.Committed(last, b.Bytes)
	}
	p.wakeFollowers(b)
	return nil
}

// commitPanicked makes a panic in a commit final. It is called by who recovered it.
func (p *Primary) commitPanicked(r any) error {
	p.cfg.Logger.WithField("panic", r).WithField("stack", string(debug.Stack())).Error("commit panicked; writes are refused for good")
	return p.die(fmt.Errorf("%w: commit panicked: %v", ErrUnavailable, r))
}

// wakeFollowers tells the background work what a published batch asks for.
func (p *Primary) wakeFollowers(b *mvcc.Batch) {
	if b.Compacts() {
		p.scrubber.wakeUp()
	}
	if b.Grants() {
		select {
		case p.leaseGranted <- struct{}{}:
		default:
		}
	}
}

// closeGroup makes g the group in flight and lets the next one form. It reports
// false if g has failed together with the group before it.
func (p *Primary) closeGroup(g *group) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g.err != nil {
		return false
	}
	p.inflight = g
	p.forming = newGroup(p.spare)
	p.spare = nil
	p.makeRoomLocked()
	return true
}

// failLocked rolls back everything pending and starts the recovery. g.done is
// closed by the caller.
func (p *Primary) failLocked(g *group, cause error) {
	err := commitError(cause)
	p.failures.Add(1)
	p.cfg.Logger.WithError(cause).WithField("rows", len(g.batch.Rows)).Error("commit failed; writes are refused until the log is recovered")
	next := p.forming
	p.refuseFormingLocked(err)
	g.err = err
	if p.fatalErr != nil {
		return
	}
	p.store.Rollback(g.batch, next.batch)
	p.failed = err
	if !p.closed {
		p.done.Go(p.recover)
	}
}

// refuseFormingLocked fails the writes of the forming group: its leader will not
// append it.
func (p *Primary) refuseFormingLocked(err error) {
	p.forming.err = err
	close(p.forming.done)
	p.forming = newGroup(nil)
	p.makeRoomLocked()
}

// tellFatal calls OnFatal, once, if there is a reason to, and reports that.
func (p *Primary) tellFatal() bool {
	p.mu.Lock()
	err := p.fatalErr
	p.mu.Unlock()
	if err != nil {
		p.fatalOnce.Do(func() { p.cfg.OnFatal(err) })
	}
	return err != nil
}

// Err is what writes are refused with, nil while they are served.
func (p *Primary) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed == nil {
		return p.noRoom
	}
	return p.failed
}
