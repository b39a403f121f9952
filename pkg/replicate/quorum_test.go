package replicate

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// quorumBed is the Primary of a cluster without its Member: the test says what
// Replicas and object storage do.
type quorumBed struct {
	*bed
	q *quorum

	mu       sync.Mutex
	wanted   sqllog.ID // UploadNow
	fellBack int
	sick     map[elect.NodeID]bool
	confirms error
	deposed  []error
}

func newQuorumBed(t *testing.T, rule elect.Rule, edit func(*QuorumConfig)) *quorumBed {
	b := &quorumBed{sick: make(map[elect.NodeID]bool)}
	cfg := QuorumConfig{
		Self: 1, Cluster: elect.Cluster{Epoch: 1, Rule: rule, Members: []elect.NodeID{1, 2, 3}}, Patience: time.Hour,
		UploadNow: func(id sqllog.ID) { b.locked(func() { b.wanted = max(b.wanted, id) }) },
		Healthy: func(n elect.NodeID) (ok bool) {
			b.locked(func() { ok = !b.sick[n] })
			return ok
		},
		Confirm: func(context.Context) (err error) {
			b.locked(func() { err = b.confirms })
			return err
		},
		Published: func(sqllog.Head) {},
		Deposed:   func(err error) { b.locked(func() { b.deposed = append(b.deposed, err) }) },
		FellBack:  func() { b.locked(func() { b.fellBack++ }) },
	}
	if edit != nil {
		edit(&cfg)
	}
	b.bed = newBed(t, Config{})
	b.p.Close()
	cfg.Log = b.log
	b.p = New(b.log, b.store, Config{Quorum: &cfg, Logger: quiet(), OnFatal: func(err error) { b.fatal <- err }})
	b.q = b.p.quorum
	t.Cleanup(func() { // before the bed closes the Primary, which waits for what is pending
		b.q.stop(ErrStopped)
		b.q.abandon(ErrDeposed)
	})
	return b
}

func (b *quorumBed) locked(fn func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fn()
}

func (b *quorumBed) asked() (id sqllog.ID) {
	b.locked(func() { id = b.wanted })
	return id
}

// logged waits until the log holds rows up to an id, and the quorum knows.
func (b *quorumBed) logged(id sqllog.ID) {
	b.Helper()
	until(b, "the row in the log", func() bool {
		b.q.mu.Lock()
		defer b.q.mu.Unlock()
		return b.q.tracker.durable >= id
	})
}

func TestQuorumCommitsByReceipts(t *testing.T) {
	b := newQuorumBed(t, elect.Majority, nil)
	b.gate.set(true)
	first := b.txn(writes(put("a", "1")))
	<-b.gate.entered
	b.q.receipt(2, 1) // faster than this node's own disk
	b.q.receipt(3, 1)
	stillWaits(t, "a write that this node does not hold", first)
	if b.store.Head().ID != 0 {
		t.Error("it is shown")
	}
	b.gate.release <- verdict{}
	want(t, "the write", <-first, nil)

	b.gate.set(false)
	second := b.txn(writes(put("b", "2")))
	b.logged(2)
	third := b.txn(writes(put("c", "3"))) // appended before the one before is committed
	b.logged(3)
	stillWaits(t, "a write that nobody else holds", second)
	if err := b.q.ignores(9, 3); err != nil {
		t.Errorf("a receipt of no member: %v", err)
	}
	stillWaits(t, "a write that a stranger holds", second)
	b.q.receipt(2, 2)
	want(t, "the second write", <-second, nil)
	stillWaits(t, "the third write", third)
	b.q.receipt(3, 3)
	want(t, "the third write", <-third, nil)
	if got := b.keys(); got != "abc" || b.asked() != 0 {
		t.Errorf("keys %q, uploads up to %d", got, b.asked())
	}
}

// ignores is receipt, for what must not matter.
func (q *quorum) ignores(from elect.NodeID, id sqllog.ID) error {
	before := q.p.store.Head()
	q.receipt(from, id)
	if q.p.store.Head() != before {
		return errors.New("it has committed something")
	}
	return nil
}

func TestQuorumFallsBack(t *testing.T) {
	b := newQuorumBed(t, elect.Majority, func(c *QuorumConfig) { c.Patience = 8 * time.Millisecond })
	first := b.txn(writes(put("a", "1")))
	until(t, "a wish for an upload", func() bool { return b.asked() == 1 })
	stillWaits(t, "a write that waits for its chunk", first)
	b.q.uploaded(1)
	want(t, "the write", <-first, nil)

	b.locked(func() { b.sick[2], b.sick[3] = true, true })
	second := b.txn(writes(put("b", "2")))
	b.logged(2)
	if b.asked() != 2 {
		t.Error("alone, and an upload is not wished for at once")
	}
	b.q.receipt(2, 2) // receipts may still be first
	want(t, "the write", <-second, nil)
	if b.fellBack != 1 {
		t.Errorf("it fell back %d times, want 1", b.fellBack)
	}
	b.locked(func() { clear(b.sick) })
	third := b.txn(writes(put("c", "3")))
	b.logged(3)
	b.q.receipt(3, 3)
	want(t, "the write", <-third, nil)
}

func TestQuorumByObjectStorage(t *testing.T) {
	b := newQuorumBed(t, elect.ObjectStorage, nil)
	first := b.txn(writes(put("a", "1")))
	b.logged(1)
	if b.asked() != 1 {
		t.Error("an upload is not wished for at once")
	}
	b.q.receipt(2, 1)
	b.q.receipt(3, 1)
	stillWaits(t, "a write that the Replicas hold", first)
	b.q.uploaded(1)
	want(t, "the write", <-first, nil)
	if b.fellBack != 0 {
		t.Error("what is the rule counts as falling back")
	}
}

func TestQuorumDeposed(t *testing.T) {
	b := newQuorumBed(t, elect.Majority, nil)
	chunked := b.txn(writes(put("a", "1")))
	b.logged(1)
	lost := b.txn(writes(put("b", "2")))
	b.logged(2)
	b.q.depose()
	if err := b.q.ignores(2, 2); err != nil {
		t.Errorf("a receipt after a higher promise: %v", err)
	}
	b.q.uploaded(1) // a PUT that was in flight
	want(t, "a write whose chunk is created", <-chunked, nil)

	b.gate.set(true)
	appending := b.txn(writes(put("c", "3")))
	<-b.gate.entered
	forming := b.txn(writes(put("d", "4")))
	b.pending(1)
	reading := call(func() error { // its compare fails: it waits for what it saw
		_, err := b.p.Txn(ctx, &pb.TxnRequest{Compare: []*pb.Compare{absent("a")}, Success: writes(put("e", "5")).Success})
		return err
	})
	b.q.stop(errDisk)
	b.q.stop(ErrNotPrimary)
	b.q.uploaded(2) // too late: nobody is told of it here
	abandoned := call(func() error { b.q.abandon(ErrDeposed); return nil })
	b.gate.release <- verdict{}
	<-abandoned
	for what, err := range map[string]<-chan error{"pending": lost, "appending": appending, "forming": forming} {
		want(t, "a write that is "+what, <-err, ErrDeposed)
	}
	want(t, "a Txn that wrote nothing", <-reading, errHandingOver)
	_, err := b.p.Txn(ctx, writes(put("late", "")))
	want(t, "a late write", err, errHandingOver)
	if len(b.deposed) != 1 || b.deposed[0] != errDisk {
		t.Errorf("deposed because of %v", b.deposed)
	}
	if head := b.store.Head(); head.ID != 1 || b.store.Revision() != 2 {
		t.Errorf("the index is at %+v, revision %d", head, b.store.Revision())
	}
	// The index takes rows of the next Primary.
	rows := []sqllog.Row{{ID: 2, Epoch: 2, Revision: 2, Kind: sqllog.KindEpoch, WrittenAt: 1}}
	want(t, "rows of the next Primary", b.store.Apply(rows), nil)
	select {
	case err := <-b.fatal:
		t.Errorf("it was fatal: %v", err)
	default:
	}
}

func TestQuorumAppendFails(t *testing.T) {
	b := newQuorumBed(t, elect.Majority, nil)
	b.gate.set(true)
	first := b.txn(writes(put("a", "1")))
	<-b.gate.entered
	second := b.txn(writes(put("b", "2")))
	b.pending(1)
	b.gate.release <- verdict{err: sqllog.ErrIO}
	until(t, "the end of this Primary", func() bool {
		n := 0
		b.locked(func() { n = len(b.deposed) })
		return n == 1
	})
	want(t, "its cause", b.deposed[0], sqllog.ErrIO)
	b.q.uploaded(1)
	b.q.abandon(ErrDeposed)
	want(t, "the write", <-first, ErrDeposed)
	want(t, "the write behind it", <-second, ErrDeposed)
	select {
	case rows := <-b.gate.entered:
		t.Errorf("rows from %d on were appended after that", rows[0].ID)
	default:
	}
}

func TestQuorumConfirms(t *testing.T) {
	b := newQuorumBed(t, elect.Majority, nil)
	read := writes(get("a"))
	_, err := b.p.Txn(ctx, read)
	want(t, "confirmed", err, nil)
	for _, c := range []struct{ confirm, want error }{
		{ErrNotPrimary, errHandingOver}, {errSlow, ErrUnavailable}, {context.DeadlineExceeded, context.DeadlineExceeded},
	} {
		b.locked(func() { b.confirms = c.confirm })
		_, err := b.p.Txn(ctx, read)
		want(t, "a read", err, c.want)
		_, err = b.p.LeaseKeepAlive(ctx, 1)
		want(t, "a keep-alive", err, c.want)
	}
}

func TestQuorumBoundsWhatIsNotUploaded(t *testing.T) {
	b := newQuorumBed(t, elect.Majority, func(c *QuorumConfig) { c.MaxPendingUpload = 100 })
	first := b.txn(writes(put("a", string(make([]byte, 200)))))
	b.logged(1)
	b.q.receipt(2, 1)
	want(t, "one write too large", <-first, nil)
	_, err := b.p.Txn(ctx, writes(put("b", "2")))
	want(t, "a write with too much waiting", err, ErrUnavailable)
	b.q.uploaded(1)
	second := b.txn(writes(put("b", "2")))
	b.logged(2)
	b.q.receipt(2, 2)
	want(t, "a write after the upload", <-second, nil)
}

func TestQuorumTakesUpVoters(t *testing.T) {
	b := newQuorumBed(t, elect.Majority, nil)
	first := b.txn(writes(put("a", "1")))
	b.logged(1)
	b.q.receipt(4, 1)
	stillWaits(t, "a write that a node holds which does not vote", first)
	b.q.takeUp([]elect.NodeID{1, 2, 4})
	want(t, "the write, now that it votes", <-first, nil)
	if got := b.q.countedTo(); got != 1 {
		t.Errorf("counted to %d", got)
	}
	b.q.takeUp([]elect.NodeID{1, 2, 3, 4})
	if got := b.q.countedTo(); got != 0 {
		t.Errorf("counted to %d under voters of whom none has said so", got)
	}
}
