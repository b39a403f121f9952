package s3snap

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// term is the time in which this node writes to the chain: all its life for a
// single node, from Lead to Resign in a cluster.
type term struct {
	a       *Archive
	epoch   sqllog.Epoch // of the rows that this node writes
	byChunk bool         // the commit rule: object storage alone

	pending   pending
	committed atomic.Pointer[func() sqllog.Head]
	forced    atomic.Int64 // UploadNow wants rows up to it in the chain
	forcedAt  atomic.Int64 // when it did last; nanoseconds since the Unix epoch
	over      chan struct{}
	deposed   sync.Once

	ctx     context.Context // nothing new begins after it
	end     context.CancelFunc
	puts    context.Context // PUTs in flight are not given up before it ends
	giveUp  context.CancelFunc
	keeping context.Context // of snapshots and retention
	done    sync.WaitGroup
}

func newTerm(a *Archive, epoch sqllog.Epoch, byChunk bool) *term {
	t := &term{a: a, epoch: epoch, byChunk: byChunk, over: make(chan struct{})}
	t.pending.changed = make(chan struct{}, 1)
	t.ctx, t.end = context.WithCancel(a.ctx)
	t.puts, t.giveUp = context.WithCancel(a.ctx)
	var quiet context.CancelFunc
	t.keeping, quiet = context.WithCancel(a.keeping)
	context.AfterFunc(t.ctx, quiet)
	return t
}

// attach puts the chain in use.
func (t *term) attach(c *Chain) {
	c.onFenced, c.ctx = t.fenced, t.ctx
	if old := t.a.chain.Swap(c); old != nil {
		c.carryOn(old)
	}
	t.a.moved()
}

// start begins the background work of a term.
func (t *term) start(committed func() sqllog.Head) {
	t.committed.Store(&committed)
	switch a := t.a; {
	case a.cluster: // uploads have begun
		t.pending.begin(a.chain.Load().End().ID, committed().ID)
		t.done.Go(t.keepLooking)
	case t.byChunk:
		t.done.Go(t.keepLooking)
	default:
		t.done.Go(t.upload)
	}
	t.done.Go(t.keepSnapshots)
}

// fenced ends the node, or, in a cluster, its term: once.
func (t *term) fenced(err error) {
	if !t.a.cluster {
		t.a.fatal(err)
		return
	}
	if t.ctx.Err() != nil {
		return
	}
	t.deposed.Do(func() {
		t.a.cfg.Logger.WithError(err).WithField("epoch", t.epoch).Warn("another node has taken over")
		t.a.cfg.OnDeposed(t.epoch, err)
	})
}

// resign ends the term. Its PUT in flight goes on.
func (t *term) resign() {
	if c := t.a.chain.Load(); c != nil {
		c.finish(ErrResigned)
	}
	t.end()
}

// wait gives the PUT in flight up, and returns when nothing of the term runs any
// more.
func (t *term) wait() {
	t.giveUp()
	t.done.Wait()
	if c := t.a.chain.Load(); c != nil {
		c.endLooks()
	}
}

// lookEvery is how often a node looks whether another one has asked for an epoch,
// and an idle one whether its next position is taken, and object storage answers.
const lookEvery = time.Second

// keepLooking looks for other nodes while rows are committed by their chunks.
func (t *term) keepLooking() {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-t.ctx.Done():
			return
		}
		c := t.a.chain.Load()
		if t.byChunk && c.idleFor(lookEvery) {
			_ = c.Confirm(t.ctx) // the Chain notes what comes of it
		}
		if t.byChunk || t.wasForced() {
			t.lookForEpoch(c)
		}
	}
}

// wasForced reports whether UploadNow was called lately.
func (t *term) wasForced() bool {
	return time.Since(time.Unix(0, t.forcedAt.Load())) < 2*lookEvery
}

// lookForEpoch stops this node if another one has asked for a higher epoch than its
// own: the other might wait long for a position that this one does not take.
func (t *term) lookForEpoch(c *Chain) {
	ctx, cancel := context.WithTimeout(t.ctx, lookTimeout)
	defer cancel()
	cluster, err := readCluster(ctx, t.a.cfg.Store)
	if own := t.epoch; err == nil && sqllog.Epoch(cluster.Epoch) > own {
		c.fence(fmt.Errorf("%w: epoch %d was asked for, this node is of epoch %d", ErrFenced, cluster.Epoch, own))
	}
}

// idleFor reports whether the end of the chain was not seen for a time.
func (c *Chain) idleFor(d time.Duration) bool {
	now, ok := c.clock()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.put == nil && (!ok || !c.known || now-c.seen >= d)
}

// committedHead is the newest committed row, as far as it is known here.
func (t *term) committedHead() sqllog.Head {
	if f := t.committed.Load(); f != nil {
		return (*f)()
	}
	return t.a.chain.Load().End()
}

// upload brings committed rows, and those that UploadNow names, to object storage
// until the term is over.
func (t *term) upload() {
	defer close(t.over)
	if !t.awaitChain() {
		return
	}
	chain := t.a.chain.Load()
	t.pending.begin(chain.End().ID, t.committedHead().ID)
	for {
		all, ok := t.awaitDue(chain)
		if !ok {
			return
		}
		for committed := t.committedHead().ID; ; {
			upTo := t.due(chain.End().ID, committed, all)
			if upTo == 0 {
				break
			}
			if !t.goOn(t.uploadOnce(chain, upTo)) {
				return
			}
		}
		t.pending.uploaded(chain.End().ID, 0)
	}
}

// due tells up to which row to upload now, 0 for none: all that is committed, or
// full pieces of it, or what UploadNow wants.
func (t *term) due(end, committed sqllog.ID, all bool) sqllog.ID {
	if forced := sqllog.ID(t.forced.Load()); forced > end {
		return max(committed, forced)
	}
	if end < committed && (all || t.pending.bytes() >= int64(t.a.cfg.UploadBytes)) {
		return committed
	}
	return 0
}

// uploadOnce uploads one piece.
func (t *term) uploadOnce(chain *Chain, upTo sqllog.ID) error {
	if t.a.cluster && t.a.log.Promised() > t.epoch {
		return fmt.Errorf("upload rows of epoch %d: %w", t.epoch, ErrResigned)
	}
	size, err := uploadPiece(t.puts, chain, t.a.log, upTo, t.a.cfg.UploadBytes)
	if err != nil {
		return err
	}
	t.pending.uploaded(chain.End().ID, size)
	t.a.moved()
	if t.a.cfg.OnUploaded != nil {
		t.a.cfg.OnUploaded(t.epoch, chain.End())
	}
	return nil
}

// goOn reports whether uploads go on after an error: not after one that tells
// that chain and log do not agree. The log's own errors may pass.
func (t *term) goOn(err error) bool {
	a := t.a
	switch {
	case t.ctx.Err() != nil:
		return false
	case err == nil:
		a.trouble.Store(nil)
		return true
	case errors.Is(err, ErrResigned):
		return false
	case errors.Is(err, ErrFenced):
		t.fenced(err)
		return false
	case errors.Is(err, ErrCorruptChain), errors.Is(err, ErrMissingRows):
		a.fatal(err)
		return false
	}
	if a.trouble.Swap(&err) == nil {
		a.cfg.Logger.WithError(err).Warn("rows are not uploaded; it is tried again")
	}
	pause := backoff{next: retryMost}
	return pause.pause(t.ctx) == nil
}

// awaitDue waits until there is something to upload: all of it, or as many pieces
// as are full. It reports false when the term is over; when the Archive is closed,
// after everything is uploaded or its time is up.
func (t *term) awaitDue(chain *Chain) (all, ok bool) {
	for {
		bySize, byAge, wait := t.pending.due(t.a.cfg.UploadInterval, t.a.cfg.UploadBytes)
		if forced := sqllog.ID(t.forced.Load()) > chain.End().ID; bySize || byAge || forced {
			return byAge, t.ctx.Err() == nil
		}
		var timer <-chan time.Time
		if wait >= 0 {
			timer = time.After(wait)
		}
		select {
		case <-timer:
		case <-t.pending.changed:
		case <-t.a.flush:
			return true, wait >= 0 && t.ctx.Err() == nil
		case <-t.ctx.Done():
			return false, false
		}
	}
}

// uploadNow asks for rows up to an id in the chain at once.
func (t *term) uploadNow(id sqllog.ID) {
	id = min(id, t.a.log.Head().ID)
	for {
		old := t.forced.Load()
		if int64(id) <= old {
			break
		}
		if t.forced.CompareAndSwap(old, int64(id)) {
			break
		}
	}
	t.forcedAt.Store(time.Now().UnixNano())
	t.pending.signal()
}

// commit returns when the chain holds rows up to an id. The uploader writes them,
// after those before them, and so there is one PUT in flight.
func (t *term) commit(id sqllog.ID) error {
	chain := t.a.chain.Load()
	t.uploadNow(id)
	for {
		more := t.a.more()
		if chain.End().ID >= id {
			return nil
		}
		select {
		case <-more:
		case <-t.over:
			if chain.End().ID >= id {
				return nil
			}
			return chain.whyOver()
		}
	}
}

// awaitChain brings a log that started without object storage to its chain. It
// reports false if that cannot be.
func (t *term) awaitChain() bool {
	a := t.a
	var pause backoff
	for a.chain.Load() == nil {
		c, err := t.tryAttach()
		if err == nil {
			a.cfg.Logger.WithField("uploaded", c.End().ID).Info("attached to object storage")
			a.trouble.Store(nil)
			t.attach(c)
			return true
		}
		if !transient(err) && !errors.Is(err, ErrUnavailable) {
			if a.ctx.Err() == nil {
				a.fatal(err)
			}
			return false
		}
		if a.trouble.Swap(&err) == nil {
			a.cfg.Logger.WithError(err).Warn("object storage does not answer; rows wait for their upload")
		}
		if pause.pause(a.ctx) != nil {
			return false
		}
	}
	return true
}

func (t *term) tryAttach() (*Chain, error) {
	a := t.a
	if err := object.Probe(a.ctx, a.cfg.Store); err != nil {
		return nil, fmt.Errorf("probe object storage: %w", err)
	}
	rel, err := compare(a.ctx, a.cfg.Store, a.log)
	if err != nil {
		return nil, err
	}
	if err := rel.cluster.mayGoAlone(a.writer); err != nil {
		return nil, err
	}
	end := rel.boundary
	switch {
	case rel.found:
		if end, err = found(a.ctx, a.cfg.pace(), a.cfg.Store, a.writer, a.log, "", t.committedHead); err != nil {
			return nil, err
		}
	case rel.behind():
		return nil, fmt.Errorf("%w: it holds rows that this log does not have; start the node again to bring the log to them", ErrFenced)
	}
	return a.cfg.chain(a.writer, end), nil
}
