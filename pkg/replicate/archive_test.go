package replicate

import (
	"context"
	"fmt"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// fakeArchive is object storage that answers what the test says.
type fakeArchive struct {
	commit  func([]sqllog.Row) error
	confirm func() error

	mu        sync.Mutex
	err       error
	committed sqllog.ID
	uploaded  sqllog.ID
	more      chan struct{}
	waits     chan sqllog.ID
}

func newFakeArchive() *fakeArchive {
	return &fakeArchive{more: make(chan struct{}), waits: make(chan sqllog.ID, 100)}
}

func (a *fakeArchive) Commit(rows []sqllog.Row) error {
	if a.commit == nil {
		return nil
	}
	return a.commit(rows)
}

func (a *fakeArchive) Committed(id sqllog.ID, _ int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.committed = id
}

func (a *fakeArchive) Confirm(context.Context) error {
	if a.confirm == nil {
		return nil
	}
	return a.confirm()
}

func (a *fakeArchive) WaitUploaded(stop <-chan struct{}, id sqllog.ID) error {
	a.waits <- id
	for {
		a.mu.Lock()
		there, more := a.uploaded >= id, a.more
		a.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-more:
		case <-stop:
			return s3snap.ErrStopped
		}
	}
}

func (a *fakeArchive) upload(id sqllog.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.uploaded = id
	close(a.more)
	a.more = make(chan struct{})
}

func (a *fakeArchive) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

func (a *fakeArchive) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = err
}

// TestNothingIsSeenBeforeItsChunkExists: with quorum 0 the fsync alone commits
// nothing.
func TestNothingIsSeenBeforeItsChunkExists(t *testing.T) {
	a := newFakeArchive()
	sent, exists := make(chan []sqllog.Row), make(chan error)
	a.commit = func(rows []sqllog.Row) error {
		sent <- rows
		return <-exists
	}
	b := newBed(t, Config{Archive: a})
	over := b.txn(writes(put("a", "1")))
	if rows := <-sent; len(rows) != 1 || b.log.Head().ID != rows[0].ID {
		t.Fatalf("sent %d rows with the log at %+v", len(rows), b.log.Head())
	}
	if got := b.keys(); got != "" {
		t.Fatalf("keys %q are seen before their chunk exists", got)
	}
	next := b.txn(writes(put("b", "1")))
	b.pending(1)
	stillWaits(t, "a write whose chunk is on its way", over)
	exists <- nil
	want(t, "the write", <-over, nil)
	<-sent
	exists <- nil
	want(t, "the next write", <-next, nil)
	if got := b.keys(); got != "ab" || a.committed != 2 {
		t.Fatalf("keys %q, committed %d", got, a.committed)
	}
}

// TestFencedPrimaryEnds: what was pending fails, and so does everything after it.
func TestFencedPrimaryEnds(t *testing.T) {
	a := newFakeArchive()
	a.commit = func([]sqllog.Row) error { return fmt.Errorf("chunk at 1: %w", s3snap.ErrFenced) }
	b := newBed(t, Config{Archive: a})
	want(t, "the write", <-b.txn(writes(put("a", "1"))), ErrNotPrimary)
	want(t, "OnFatal", <-b.fatal, s3snap.ErrFenced)
	want(t, "another write", <-b.txn(writes(put("b", "1"))), ErrNotPrimary)
	if got := b.keys(); got != "" {
		t.Fatalf("keys %q", got)
	}
}

// TestWritesAreRefusedWhileObjectStorageIsSilent: at once, and by health too.
func TestWritesAreRefusedWhileObjectStorageIsSilent(t *testing.T) {
	a := newFakeArchive()
	b := newBed(t, Config{Archive: a})
	b.write(put("a", "1"))
	a.fail(s3snap.ErrUnavailable)
	want(t, "a write", <-b.txn(writes(put("b", "1"))), ErrUnavailable)
	if st := b.p.Status(); st.Healthy || len(st.Errors) != 1 {
		t.Fatalf("status is %+v", st)
	}
	a.fail(nil)
	b.write(put("b", "1"))
	if st := b.p.Status(); !st.Healthy {
		t.Fatalf("status is %+v", st)
	}
}

// TestReadsAreConfirmed: every read that is to be linearizable, and no other.
func TestReadsAreConfirmed(t *testing.T) {
	a := newFakeArchive()
	b := newBed(t, Config{Archive: a})
	b.write(put("a", "1"))
	grant, err := b.p.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 100})
	want(t, "a grant", err, nil)
	a.confirm = func() error { return s3snap.ErrUnavailable }

	serializable := &pb.RangeRequest{Key: []byte("a"), Serializable: true}
	_, err = b.p.Range(ctx, serializable)
	want(t, "a serializable read", err, nil)
	_, err = b.p.Txn(ctx, writes(&pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: serializable}}))
	want(t, "a Txn of serializable reads", err, nil)

	_, err = b.p.Range(ctx, &pb.RangeRequest{Key: []byte("a")})
	want(t, "a read", err, ErrUnavailable)
	err = b.p.RangeStream(ctx, &pb.RangeRequest{Key: []byte("a")}, func(*pb.RangeStreamResponse) error { return nil })
	want(t, "a streamed read", err, ErrUnavailable)
	_, err = b.p.Txn(ctx, writes(get("a")))
	want(t, "a Txn that reads", err, ErrUnavailable)
	_, err = b.p.Txn(ctx, &pb.TxnRequest{Compare: []*pb.Compare{absent("a")}, Success: []*pb.RequestOp{put("a", "2")}})
	want(t, "a Txn whose compare failed", err, ErrUnavailable)
	_, err = b.p.LeaseKeepAlive(ctx, grant.ID)
	want(t, "a keepalive", err, ErrUnavailable)
	_, err = b.p.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: grant.ID})
	want(t, "a time to live", err, ErrUnavailable)
	b.write(put("b", "1")) // a write confirms itself
}

// TestRemovalWaitsForTheUpload: rows leave the log only when object storage holds
// the compaction that lets them go.
func TestRemovalWaitsForTheUpload(t *testing.T) {
	a := newFakeArchive()
	b := newBed(t, Config{Archive: a})
	for range 5 {
		b.write(put("a", "1"))
	}
	over := call(func() error {
		_, err := b.p.Compact(ctx, b.store.Revision(), true)
		return err
	})
	id := <-a.waits
	if head := b.store.Head().ID; id != head {
		t.Fatalf("waits for row %d, the compact row is %d", id, head)
	}
	if rows := b.store.Rows(); rows != 6 {
		t.Fatalf("%d rows are left before the upload", rows)
	}
	a.upload(id)
	want(t, "the compaction", <-over, nil)
	if rows := b.store.Rows(); rows != 1 {
		t.Fatalf("%d rows are left", rows)
	}
}

// TestRemovalWaitsForItsOwnRows: the rows of a lease that goes after a compaction wait
// for their own upload, also where they go by the same compaction.
func TestRemovalWaitsForItsOwnRows(t *testing.T) {
	a := newFakeArchive()
	b := newBed(t, Config{Archive: a})
	grant, err := b.p.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 100})
	want(t, "a grant", err, nil)
	b.write(put("a", "1"))
	b.write(put("a", "1"))
	_, err = b.p.Compact(ctx, b.store.Revision(), false)
	want(t, "the compaction", err, nil)
	compacted := <-a.waits
	_, err = b.p.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: grant.ID})
	want(t, "a revocation", err, nil)
	scrubbed := call(func() error { <-b.p.scrubber.request(); return nil })
	a.upload(compacted)
	revoked := <-a.waits
	if head := b.store.Head().ID; revoked != head {
		t.Fatalf("waits for row %d, the newest that goes is %d", revoked, head)
	}
	stillWaits(t, "the removal of rows that are not uploaded", scrubbed)
	a.upload(revoked)
	want(t, "the removal", <-scrubbed, nil)
	if rows := b.store.Rows(); rows != 1 {
		t.Fatalf("%d rows are left", rows)
	}
}

// TestAFullGroupLetsGoOfClientsThatLeave: a write that waits for room ends with
// its context.
func TestAFullGroupLetsGoOfClientsThatLeave(t *testing.T) {
	b := newBed(t, Config{groupBytes: 1})
	b.gate.set(true)
	first := b.txn(writes(put("a", "1")))
	<-b.gate.entered
	second := b.txn(writes(put("b", "1")))
	b.pending(1)
	leaving, cancel := context.WithCancel(ctx)
	third := call(func() error {
		_, err := b.p.Txn(leaving, writes(put("c", "1")))
		return err
	})
	cancel()
	want(t, "a write whose client left", <-third, context.Canceled)
	b.gate.set(false)
	b.gate.release <- verdict{}
	want(t, "the first write", <-first, nil)
	want(t, "the second write", <-second, nil)
	if got := b.keys(); got != "ab" {
		t.Fatalf("keys %q", got)
	}
}
