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

// Archive keeps a running node's rows in object storage. Its methods may be
// called concurrently.
type Archive struct {
	cfg    Config
	log    *sqllog.Log
	writer Writer
	epoch  sqllog.Epoch          // of the rows that this node writes
	chain  atomic.Pointer[Chain] // nil until object storage has answered

	pending      pending
	uploadedMu   sync.Mutex
	uploadedMore chan struct{} // closed when the chain's end moves
	lastSnapshot atomic.Int64
	trouble      atomic.Pointer[error] // why uploads wait; nil if they do not
	flush        chan struct{}         // closed when the rest is to go up at once
	fatalOnce    sync.Once

	ctx       context.Context // ends with the Archive
	cancel    context.CancelCauseFunc
	keeping   context.Context // of snapshots and retention; ends with Quiesce
	quiesce   context.CancelFunc
	closeOnce sync.Once
	done      sync.WaitGroup
}

func newArchive(s *starter) *Archive {
	a := &Archive{
		cfg: s.cfg, log: s.log, writer: s.writer, epoch: s.log.Head().Epoch,
		uploadedMore: make(chan struct{}), flush: make(chan struct{}),
	}
	a.pending.changed = make(chan struct{}, 1)
	a.ctx, a.cancel = context.WithCancelCause(context.Background())
	a.keeping, a.quiesce = context.WithCancel(a.ctx)
	if s.chain != nil {
		a.attach(s.chain)
	}
	return a
}

// Start begins the background work: uploads, snapshots, retention, and looks at
// the chain. committed names the newest committed row of the log.
func (a *Archive) Start(committed func() sqllog.Head) {
	if a.cfg.CommitByChunk {
		a.done.Go(a.keepLooking)
	} else {
		a.done.Go(func() { a.upload(committed) })
	}
	a.done.Go(a.keepSnapshots)
}

// attach puts the chain in use.
func (a *Archive) attach(c *Chain) {
	c.onFenced, c.ctx = a.fatal, a.ctx
	a.chain.Store(c)
	a.moved()
}

// fatal ends the node.
func (a *Archive) fatal(err error) {
	a.fatalOnce.Do(func() {
		a.cfg.Logger.WithError(err).Error("this node must not go on with object storage")
		a.cfg.OnFatal(err)
	})
}

// moved wakes those who wait for the chain's end.
func (a *Archive) moved() {
	a.uploadedMu.Lock()
	defer a.uploadedMu.Unlock()
	close(a.uploadedMore)
	a.uploadedMore = make(chan struct{})
}

// Uploaded is the id up to which object storage holds every row.
func (a *Archive) Uploaded() sqllog.ID {
	if c := a.chain.Load(); c != nil {
		return c.End().ID
	}
	return 0
}

// Commit returns nil when rows, which the log holds already, are committed: with
// commit by chunk when their chunk exists, else at once. It is called for one
// group after the other. ErrFenced: the rows are not committed, and no others will
// be. ErrStopped: the outcome is unknown.
func (a *Archive) Commit(rows []sqllog.Row) error {
	if !a.cfg.CommitByChunk {
		return nil
	}
	if err := a.chain.Load().Append(a.ctx, rows); err != nil {
		return err
	}
	a.moved()
	return nil
}

// Committed notes that rows are committed and published: size bytes of keys and
// values, up to an id.
func (a *Archive) Committed(upTo sqllog.ID, size int) {
	if !a.cfg.CommitByChunk {
		a.pending.add(upTo, int64(size))
	}
}

// Confirm returns nil when, after it was called, this node was still the Primary.
// Where the commit rule is local there is no other.
func (a *Archive) Confirm(ctx context.Context) error {
	if !a.cfg.CommitByChunk {
		return nil
	}
	return a.chain.Load().Confirm(ctx)
}

// WaitUploaded returns when object storage holds all rows up to an id. ErrStopped
// if stop is closed first.
func (a *Archive) WaitUploaded(stop <-chan struct{}, id sqllog.ID) error {
	for {
		a.uploadedMu.Lock()
		more := a.uploadedMore
		a.uploadedMu.Unlock()
		if a.Uploaded() >= id {
			return nil
		}
		select {
		case <-more:
		case <-stop:
			return ErrStopped
		case <-a.ctx.Done():
			return ErrStopped
		}
	}
}

// Err is nil while writes can be committed. With commit by chunk that takes object
// storage that answers; where the commit rule is local, only a fenced node fails.
func (a *Archive) Err() error {
	c := a.chain.Load()
	if c == nil {
		return nil
	}
	err := c.Err()
	if !a.cfg.CommitByChunk && !errors.Is(err, ErrFenced) {
		return nil
	}
	return err
}

// lookEvery is how often a node looks whether another one has asked for an epoch,
// and an idle one whether its next position is taken, and object storage answers.
const lookEvery = time.Second

// keepLooking looks for other nodes.
func (a *Archive) keepLooking() {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-a.ctx.Done():
			return
		}
		c := a.chain.Load()
		if c.idleFor(lookEvery) {
			_ = c.Confirm(a.ctx) // the Chain notes what comes of it
		}
		a.lookForEpoch(c)
	}
}

// lookForEpoch stops this node if another one has asked for a higher epoch than its
// own: the other might wait long for a position that this one does not take.
func (a *Archive) lookForEpoch(c *Chain) {
	ctx, cancel := context.WithTimeout(a.ctx, lookTimeout)
	defer cancel()
	cluster, err := readCluster(ctx, a.cfg.Store)
	if own := a.epoch; err == nil && sqllog.Epoch(cluster.Epoch) > own {
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

// upload brings committed rows to object storage until the Archive is closed.
func (a *Archive) upload(committed func() sqllog.Head) {
	if !a.awaitChain(committed) {
		return
	}
	chain := a.chain.Load()
	a.pending.begin(chain.End().ID, committed().ID)
	for {
		all, ok := a.awaitDue()
		if !ok {
			return
		}
		upTo := committed().ID
		for chain.End().ID < upTo && (all || a.pending.bytes() >= int64(a.cfg.UploadBytes)) {
			if !a.goOn(a.uploadOnce(chain, upTo)) {
				return
			}
		}
		a.pending.uploaded(chain.End().ID, 0)
	}
}

// uploadOnce uploads one piece.
func (a *Archive) uploadOnce(chain *Chain, upTo sqllog.ID) error {
	size, err := uploadPiece(a.ctx, chain, a.log, upTo, a.cfg.UploadBytes)
	if err != nil {
		return err
	}
	a.pending.uploaded(chain.End().ID, size)
	a.moved()
	return nil
}

// goOn reports whether uploads go on after an error: not after one that tells
// that chain and log do not agree. The log's own errors may pass.
func (a *Archive) goOn(err error) bool {
	switch {
	case a.ctx.Err() != nil:
		return false
	case err == nil:
		a.trouble.Store(nil)
		return true
	case errors.Is(err, ErrFenced), errors.Is(err, ErrCorruptChain), errors.Is(err, ErrMissingRows):
		a.fatal(err)
		return false
	}
	if a.trouble.Swap(&err) == nil {
		a.cfg.Logger.WithError(err).Warn("rows are not uploaded; it is tried again")
	}
	pause := backoff{next: retryMost}
	return pause.pause(a.ctx) == nil
}

// awaitDue waits until there is something to upload: all of it, or as many pieces
// as are full. It reports false when the Archive is closed, after everything is
// uploaded or its time is up.
func (a *Archive) awaitDue() (all, ok bool) {
	for {
		bySize, byAge, wait := a.pending.due(a.cfg.UploadInterval, a.cfg.UploadBytes)
		if bySize || byAge {
			return byAge, a.ctx.Err() == nil
		}
		var timer <-chan time.Time
		if wait >= 0 {
			timer = time.After(wait)
		}
		select {
		case <-timer:
		case <-a.pending.changed:
		case <-a.flush:
			return true, wait >= 0 && a.ctx.Err() == nil
		case <-a.ctx.Done():
			return false, false
		}
	}
}

// awaitChain brings a log that started without object storage to its chain. It
// reports false if that cannot be.
func (a *Archive) awaitChain(committed func() sqllog.Head) bool {
	var pause backoff
	for a.chain.Load() == nil {
		c, err := a.tryAttach(committed)
		if err == nil {
			a.cfg.Logger.WithField("uploaded", c.End().ID).Info("attached to object storage")
			a.trouble.Store(nil)
			a.attach(c)
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

func (a *Archive) tryAttach(committed func() sqllog.Head) (*Chain, error) {
	if err := object.Probe(a.ctx, a.cfg.Store); err != nil {
		return nil, fmt.Errorf("probe object storage: %w", err)
	}
	rel, err := compare(a.ctx, a.cfg.Store, a.log)
	if err != nil {
		return nil, err
	}
	end := rel.boundary
	switch {
	case rel.found:
		if end, err = found(a.ctx, a.cfg.Store, a.writer, a.log, "", committed); err != nil {
			return nil, err
		}
	case rel.behind():
		return nil, fmt.Errorf("%w: it holds rows that this log does not have; start the node again to bring the log to them", ErrFenced)
	}
	return a.cfg.chain(a.writer, end), nil
}

// Quiesce ends snapshots and retention: a snapshot under way keeps the log from
// removing rows. Rows go on to be committed and uploaded.
func (a *Archive) Quiesce() { a.quiesce() }

// Interrupt ends everything under way: a Commit that waits for object storage
// returns ErrStopped.
func (a *Archive) Interrupt() { a.cancel(ErrStopped) }

// Close uploads what is committed, as far as ctx lets it, and ends the background
// work. Nothing may be committed any more.
func (a *Archive) Close(ctx context.Context) {
	a.closeOnce.Do(func() { close(a.flush) })
	finished := make(chan struct{})
	go func() {
		a.done.Wait()
		close(finished)
	}()
	uploads := make(chan struct{})
	go func() {
		defer close(uploads)
		if !a.cfg.CommitByChunk {
			_ = a.WaitUploaded(ctx.Done(), a.pending.newest())
		}
	}()
	select {
	case <-uploads:
	case <-ctx.Done():
	}
	a.cancel(ErrStopped)
	<-uploads
	<-finished
	if c := a.chain.Load(); c != nil {
		c.endLooks()
	}
}
