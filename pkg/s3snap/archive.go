package s3snap

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Archive keeps a running node's rows in object storage. Its methods may be
// called concurrently, but for Start, Lead, CatchUp, Resign and Close, which one
// goroutine calls.
type Archive struct {
	cfg     Config
	log     *sqllog.Log
	writer  Writer
	cluster bool                  // of several nodes: Lead begins a term, not Open
	chain   atomic.Pointer[Chain] // of the term, or the last one; nil until there is one
	term    atomic.Pointer[term]  // nil while this node does not lead
	last    *term                 // its work may still be ending
	probed  bool                  // object storage is known to honour conditions

	uploadedMu   sync.Mutex
	uploadedMore chan struct{} // closed when the chain's end moves
	told         atomic.Int64  // what UploadedElsewhere was told
	lastSnapshot atomic.Int64
	trouble      atomic.Pointer[error] // why uploads wait; nil if they do not
	fatalOnce    sync.Once

	ctx       context.Context // ends with the Archive
	cancel    context.CancelCauseFunc
	keeping   context.Context // of snapshots and retention; ends with Quiesce
	quiesce   context.CancelFunc
	flush     chan struct{} // closed when the rest is to go up at once
	closeOnce sync.Once
}

func newArchive(s *starter) *Archive {
	a := &Archive{
		cfg: s.cfg, log: s.log, writer: s.writer, cluster: s.cluster, probed: s.probed,
		uploadedMore: make(chan struct{}), flush: make(chan struct{}),
	}
	a.ctx, a.cancel = context.WithCancelCause(context.Background())
	a.keeping, a.quiesce = context.WithCancel(a.ctx)
	if a.cluster {
		return a
	}
	t := newTerm(a, s.log.Head().Epoch, s.cfg.CommitByChunk)
	a.last = t
	a.term.Store(t)
	if s.chain != nil {
		t.attach(s.chain)
	}
	return a
}

// Start begins the background work: uploads of what is committed, snapshots,
// retention, and looks at the chain. committed names the newest committed row of
// the log. In a cluster it is called after each Lead.
func (a *Archive) Start(committed func() sqllog.Head) {
	t := a.term.Load()
	if t == nil {
		return
	}
	t.start(committed)
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

// more is closed when the chain's end moves next.
func (a *Archive) more() <-chan struct{} {
	a.uploadedMu.Lock()
	defer a.uploadedMu.Unlock()
	return a.uploadedMore
}

// Uploaded is the id up to which object storage is known to hold every row.
func (a *Archive) Uploaded() sqllog.ID {
	told := sqllog.ID(a.told.Load())
	if c := a.chain.Load(); c != nil {
		return max(c.End().ID, told)
	}
	return told
}

// UploadedElsewhere notes what a Replica has heard from its Primary: object storage
// holds every row up to an id, and they are those of this node's log.
func (a *Archive) UploadedElsewhere(id sqllog.ID) {
	for {
		old := a.told.Load()
		if int64(id) <= old {
			return
		}
		if a.told.CompareAndSwap(old, int64(id)) {
			a.moved()
			return
		}
	}
}

// Commit returns nil when rows, which the log holds already, are committed: with
// commit by chunk, and in a cluster, when their chunk exists, else at once. It is
// called for one group after the other. ErrFenced: the rows are not committed, and
// no others will be. ErrStopped, and in a cluster ErrResigned: the outcome is
// unknown.
func (a *Archive) Commit(rows []sqllog.Row) error {
	t := a.term.Load()
	switch {
	case t == nil:
		return ErrResigned
	case a.cluster:
		return t.commit(rows[len(rows)-1].ID)
	case !t.byChunk:
		return nil
	}
	if err := a.chain.Load().Append(t.puts, rows); err != nil {
		return err
	}
	a.moved()
	return nil
}

// Committed notes that rows are committed and published: size bytes of keys and
// values, up to an id.
func (a *Archive) Committed(upTo sqllog.ID, size int) {
	if t := a.term.Load(); t != nil && (a.cluster || !t.byChunk) {
		t.pending.add(upTo, int64(size))
	}
}

// Confirm returns nil when, after it was called, this node was still the Primary:
// a look at the chain tells. For a single node whose commit rule is local there is
// no other. ErrResigned: it is not the Primary.
func (a *Archive) Confirm(ctx context.Context) error {
	t := a.term.Load()
	switch {
	case t == nil:
		return ErrResigned
	case !a.cluster && !t.byChunk:
		return nil
	}
	return a.chain.Load().Confirm(ctx)
}

// WaitUploaded returns when object storage holds all rows up to an id. ErrStopped
// if stop is closed first.
func (a *Archive) WaitUploaded(stop <-chan struct{}, id sqllog.ID) error {
	for {
		more := a.more()
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
// storage that answers; where the commit rule is another one, only a fenced node
// fails.
func (a *Archive) Err() error {
	t, c := a.term.Load(), a.chain.Load()
	if t == nil || c == nil {
		return nil
	}
	err := c.Err()
	if !t.byChunk && !errors.Is(err, ErrFenced) {
		return nil
	}
	return err
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
		if a.last != nil {
			a.last.done.Wait()
		}
		close(finished)
	}()
	uploads := make(chan struct{})
	go func() {
		defer close(uploads)
		if t := a.term.Load(); t != nil && (a.cluster || !t.byChunk) {
			_ = a.WaitUploaded(ctx.Done(), t.pending.newest())
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
