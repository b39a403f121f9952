package replicate

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/mvcc/mvcctest"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// submitted evaluates a Txn; the first channel is closed when that is done, the
// second gives the error when the Txn is answered.
func (b *bed) submitted(r *pb.TxnRequest) (evaluated chan struct{}, over <-chan error) {
	evaluated = make(chan struct{})
	return evaluated, call(func() error {
		return b.p.submit(ctx, func(batch *mvcc.Batch) error {
			defer close(evaluated)
			a, err := b.store.EvaluateTxn(ctx, batch, r)
			if err == nil {
				a.Release()
			}
			return err
		})
	})
}

// TestWaitsForWhatItSaw: a compare that fails, and an evaluation that does, may
// have seen rows that are not durable.
func TestWaitsForWhatItSaw(t *testing.T) {
	b := newBed(t, Config{})
	b.gate.set(true)
	inFlight := b.txn(writes(put("a", "1")))
	<-b.gate.entered
	compare := &pb.TxnRequest{Compare: []*pb.Compare{absent("a")}, Success: []*pb.RequestOp{put("a", "2")}, Failure: []*pb.RequestOp{get("a")}}
	leased := writes(&pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("l"), Lease: 99}}})
	evaluated, first := b.submitted(compare)
	<-evaluated
	forming := b.txn(writes(put("b", "1")))
	b.pending(1)
	compare.Compare[0] = absent("b")
	evaluated, second := b.submitted(compare)
	<-evaluated
	evaluated, third := b.submitted(leased)
	<-evaluated
	for _, over := range []<-chan error{first, second, third} {
		stillWaits(t, "a Txn", over)
	}
	if b.keys() != "" {
		t.Fatalf("a read saw %q", b.keys())
	}
	b.gate.release <- verdict{}
	want(t, "in flight", <-inFlight, nil)
	want(t, "compare with what was in flight", <-first, nil)
	<-b.gate.entered
	stillWaits(t, "compare with what was forming", second)
	stillWaits(t, "evaluation after what was forming", third)
	b.gate.set(false)
	b.gate.release <- verdict{err: sqllog.ErrFull}
	want(t, "forming", <-forming, ErrNoSpace)
	want(t, "compare with what has failed", <-second, ErrNoSpace)
	want(t, "evaluation after what has failed", <-third, ErrNoSpace)
}

// TestTxnThatFailsHalfWay: nothing of it is written, and later Txns work.
func TestTxnThatFailsHalfWay(t *testing.T) {
	b := newBed(t, Config{})
	b.write(put("a", "1"))
	ignore := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("a"), IgnoreValue: true}}}
	nested := func(ops ...*pb.RequestOp) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: writes(ops...)}}
	}
	future := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("a"), Revision: 3}}}
	leased := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("l"), Lease: 99}}}
	want(t, "ignore_value", <-b.txn(writes(nested(del("a", "")), nested(ignore))), mvcc.ErrKeyNotFound)
	want(t, "future revision", <-b.txn(writes(put("b", "1"), future)), mvcc.ErrFutureRevision)
	want(t, "unknown lease", <-b.txn(writes(put("b", "1"), leased)), mvcc.ErrLeaseNotFound)
	if rows, _ := b.log.Rows(ctx); rows != 1 {
		t.Fatalf("%d rows", rows)
	}
	if rev := b.write(put("b", "1")); rev != 3 || b.keys() != "ab" {
		t.Fatalf("%q at %d", b.keys(), rev)
	}
}

// TestContextEndsWhileWaiting: the caller goes, its write does not, and nothing is
// held for it.
func TestContextEndsWhileWaiting(t *testing.T) {
	b := newBed(t, Config{})
	b.write(put("a", "1"))
	b.gate.set(true)
	first := b.txn(writes(put("b", "1")))
	<-b.gate.entered
	leader := b.txn(writes(put("c", "1")))
	b.pending(1)
	leaving, leave := context.WithCancel(ctx)
	follower := call(func() error { _, err := b.p.Txn(leaving, writes(put("d", "1"))); return err })
	b.pending(2)
	compact := call(func() error { _, err := b.p.Compact(leaving, 2, false); return err })
	b.pending(3)
	leave()
	want(t, "follower", <-follower, context.Canceled)
	want(t, "compaction", <-compact, context.Canceled)
	b.gate.set(false)
	b.gate.release <- verdict{}
	want(t, "first", <-first, nil)
	want(t, "leader", <-leader, nil)
	if b.keys() != "abcd" || b.store.CompactRevision() != 2 {
		t.Fatalf("keys %q, compacted to %d", b.keys(), b.store.CompactRevision())
	}
	until(t, "scrubbing", func() bool { rows, _ := b.log.Rows(ctx); return rows == 4 })
}

// TestGroupsAreBounded: writes wait while the forming group is full.
func TestGroupsAreBounded(t *testing.T) {
	b := newBed(t, Config{groupBytes: 1000})
	b.gate.set(true)
	var over []<-chan error
	for i := range 20 {
		over = append(over, b.txn(writes(put(fmt.Sprintf("key%02d", i), strings.Repeat("x", 395)))))
	}
	sizes, rows := []int{}, 0
	for rows < 20 {
		group := <-b.gate.entered
		if rows += len(group); rows < 20-3 {
			b.pending(3) // 400 bytes each: the third closes the group
		}
		sizes = append(sizes, len(group))
		b.gate.release <- verdict{}
	}
	for _, o := range over {
		want(t, "write", <-o, nil)
	}
	for _, n := range sizes {
		if n > 3 {
			t.Fatalf("groups of %v rows", sizes)
		}
	}
}

// TestWaitingForRoomEnds when the Primary is closed or the commit fails.
func TestWaitingForRoomEnds(t *testing.T) {
	for name, c := range map[string]struct {
		verdict verdict
		closed  bool
		want    error
	}{
		"closed": {verdict{}, true, ErrStopped},
		"failed": {verdict{err: sqllog.ErrFull}, false, ErrNoSpace},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, Config{groupBytes: 1})
			b.hook(mvcctest.Hooks{Recover: func() error { return sqllog.ErrFull }})
			b.gate.set(true)
			first := b.txn(writes(put("a", "1")))
			<-b.gate.entered
			second := b.txn(writes(put("b", "1")))
			b.pending(1)
			third := b.txn(writes(put("c", "1")))
			for range 100 {
				runtime.Gosched() // most likely it waits by now
			}
			stillWaits(t, "a write without room", third)
			b.gate.set(false)
			if c.closed {
				over := call(func() error { b.p.Close(); return nil })
				<-b.p.stop
				want(t, "write that waits for room", <-third, c.want)
				for range 100 {
					runtime.Gosched()
				}
				stillWaits(t, "close", over)
				b.gate.release <- c.verdict
				want(t, "first", <-first, nil)
				want(t, "second", <-second, nil)
				want(t, "close", <-over, nil)
				return
			}
			b.gate.release <- c.verdict
			for _, over := range []<-chan error{first, second, third} {
				want(t, "write", <-over, c.want)
			}
		})
	}
}

// TestCloseDuringLoad: what was acknowledged is there, what was refused is not.
func TestCloseDuringLoad(t *testing.T) {
	r := newRig(t, Config{Logger: quiet()})
	const clients = 16
	acked := make([]int, clients)
	var started, wg sync.WaitGroup
	started.Add(clients)
	for c := range clients {
		wg.Go(func() {
			for i := 0; ; i++ {
				_, err := r.p.Txn(ctx, writes(put(fmt.Sprintf("k%02d-%05d", c, i), "v")))
				if i == 10 {
					started.Done()
				}
				if err != nil {
					if !errors.Is(err, ErrStopped) {
						t.Error(err)
					}
					return
				}
				acked[c]++
			}
		})
	}
	started.Wait()
	r.p.Close()
	wg.Wait()
	r.p.Close()
	r.reopen(Config{Logger: quiet()})
	total := 0
	for _, n := range acked {
		total += n
	}
	if got := len(r.all(0)); got != total {
		t.Fatalf("%d keys, %d were acknowledged", got, total)
	}
}

func TestConcurrentWritesGetDistinctRevisions(t *testing.T) {
	r := newRig(t, Config{Logger: quiet()})
	const clients, each = 32, 50
	var mu sync.Mutex
	seen := map[int64]bool{}
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := range each {
				resp, err := r.p.Txn(ctx, writes(put(fmt.Sprintf("k%d-%d", c, i), "v")))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[resp.Header.Revision] {
					t.Errorf("revision %d was given twice", resp.Header.Revision)
				}
				seen[resp.Header.Revision] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(r.all(0)) != clients*each || r.store.Revision() != 1+clients*each {
		t.Fatalf("%d keys at revision %d", len(r.all(0)), r.store.Revision())
	}
}
