package differential

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// newPair starts both servers for one test.
func newPair(t *testing.T) *runner {
	t.Helper()
	r, err := newRunner(t)
	t.Cleanup(func() { r.close() })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// must carries out the requests on both servers and fails the test when they differ.
func (r *runner) must(t *testing.T, reqs ...proto.Message) {
	t.Helper()
	for _, req := range reqs {
		if err := r.call(kindCall, req); err != nil {
			t.Fatal(err)
		}
	}
}

// ok fails the test on a difference.
func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestFragments has watches receive more than a message may hold: with fragments in parts, without them whole.
func TestFragments(t *testing.T) {
	r := newPair(t)
	big := bytes.Repeat([]byte{'x'}, 900<<10)
	all := func(c *pb.WatchCreateRequest) *pb.WatchCreateRequest {
		c.Key, c.RangeEnd, c.PrevKv = []byte("f"), []byte("g"), true
		return c
	}
	ok(t, r.watch(0, all(&pb.WatchCreateRequest{Fragment: true})))
	ok(t, r.watch(1, all(&pb.WatchCreateRequest{})))
	for i := range 6 {
		r.must(t, &pb.PutRequest{Key: fmt.Appendf(nil, "f%d", i), Value: big})
	}
	r.must(t, txn(putAction(&pb.PutRequest{Key: []byte("f0"), Value: big[:400<<10]}),
		putAction(&pb.PutRequest{Key: []byte("f1"), Value: big[:400<<10]}),
		putAction(&pb.PutRequest{Key: []byte("f2"), Value: big[:400<<10]})))
	r.must(t, &pb.DeleteRangeRequest{Key: []byte("f"), RangeEnd: []byte("g")})
	ok(t, r.settle())
	ok(t, r.watch(0, all(&pb.WatchCreateRequest{Fragment: true, StartRevision: 1})))
	ok(t, r.watch(1, all(&pb.WatchCreateRequest{StartRevision: 1})))
	ok(t, r.settle())
	for _, p := range r.peers {
		if with, without := p.streams[0].fragments, p.streams[1].fragments; with == 0 || without != 0 {
			t.Errorf("%s sent %d fragments where asked for, %d where not", p.name, with, without)
		}
	}
	ok(t, r.state())
}

// TestLongHistory watches and reads many revisions at once, more than etcd sends in one response.
func TestLongHistory(t *testing.T) {
	r := newPair(t)
	const keys = 2500
	for i := range keys {
		r.must(t, &pb.PutRequest{Key: fmt.Appendf(nil, "h/%04d", i), Value: bytes.Repeat([]byte{'v'}, i%700)})
	}
	for i := 0; i < keys; i += 100 {
		r.must(t, &pb.DeleteRangeRequest{Key: fmt.Appendf(nil, "h/%04d", i), RangeEnd: fmt.Appendf(nil, "h/%04d", i+30)})
	}
	for stream, start := range []int64{1, 500, r.head - 2} {
		ok(t, r.watch(stream, &pb.WatchCreateRequest{Key: []byte("h/"), RangeEnd: []byte("h0"), StartRevision: start, PrevKv: true}))
	}
	for _, rev := range []int64{0, 1000, keys} {
		for _, limit := range []int64{0, 1, 9, 10, 11, 777, keys} {
			req := &pb.RangeRequest{Key: []byte("h/"), RangeEnd: []byte("h0"), Limit: limit, Revision: rev}
			ok(t, r.call(kindStream, req))
			req.KeysOnly = limit%2 == 0
			r.must(t, req)
		}
	}
	ok(t, r.settle())
	ok(t, r.compact(&pb.CompactionRequest{Revision: r.head}))
	ok(t, r.state())
	ok(t, r.restart(kindKill))
}

// TestLeaseExpiry lets a lease run out: its keys go together, in one revision.
func TestLeaseExpiry(t *testing.T) {
	r := newPair(t)
	const keys = 300
	ok(t, r.watch(0, &pb.WatchCreateRequest{Key: []byte("e/"), RangeEnd: []byte("e0"), PrevKv: true}))
	r.must(t, &pb.LeaseGrantRequest{ID: 11, TTL: 1000}, &pb.LeaseGrantRequest{ID: 12, TTL: 2})
	for i := range keys {
		r.must(t, &pb.PutRequest{Key: fmt.Appendf(nil, "e/%03d", i), Lease: 12})
	}
	r.must(t, &pb.PutRequest{Key: []byte("e/moved"), Lease: 12}, &pb.PutRequest{Key: []byte("e/moved"), Lease: 11},
		&pb.PutRequest{Key: []byte("e/freed"), Lease: 12}, &pb.PutRequest{Key: []byte("e/freed")})
	ok(t, r.each(func(_ int, p *peer) error {
		w := p.streams[0]
		if !w.await(watchTimeout, func() bool { return len(w.events[0]) >= 2*keys+4 }) {
			return w.noAnswer("expiry of a lease")
		}
		return nil
	}))
	ok(t, r.settle())
	delete(r.leases, 12)
	r.must(t, &pb.LeaseTimeToLiveRequest{ID: 12, Keys: true}, &pb.LeaseKeepAliveRequest{ID: 12}, &pb.LeaseRevokeRequest{ID: 12})
	ok(t, r.state())
}

// TestOddWatches asks for watches that clients hardly ever ask for.
func TestOddWatches(t *testing.T) {
	r := newPair(t)
	r.must(t, put("\x00", "a"), put("b", "b"), put("\xff", "c"))
	head := r.head
	creates := []*pb.WatchCreateRequest{
		{},
		{RangeEnd: []byte{0}},
		{Key: []byte("b"), RangeEnd: []byte("b")},
		{Key: []byte("b"), RangeEnd: []byte("a")},
		{Key: []byte("b"), RangeEnd: []byte{0}, StartRevision: 1},
		{Key: []byte("b"), WatchId: 2},
		{Key: []byte("b"), WatchId: 2},
		{Key: []byte("b"), WatchId: 4},
		{Key: []byte("b")},
		{Key: []byte("b")},
		{Key: []byte("b"), WatchId: -1},
		{Key: []byte("b"), StartRevision: -1},
		{Key: []byte("b"), StartRevision: head + 1},
		{Key: []byte("b"), Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT, pb.WatchCreateRequest_NODELETE}},
	}
	for i, c := range creates {
		if err := r.watch(0, c); err != nil {
			t.Fatalf("watch %d: %v", i, err)
		}
	}
	r.must(t, put("b", "x"), put("\x00", "y"), txn(putAction(put("b", "1")), txnAction(deleteAction(&pb.DeleteRangeRequest{Key: []byte("b")}))))
	ok(t, r.settle())
	for _, id := range r.watchIDs(0) {
		ok(t, r.cancel(0, id))
		ok(t, r.cancel(0, id))
	}
	ok(t, r.watch(0, &pb.WatchCreateRequest{Key: []byte("b"), WatchId: 2, StartRevision: head}))
	ok(t, r.each(func(_ int, p *peer) error { return p.streams[0].send(&pb.WatchRequest{}) }))
	ok(t, r.settle())
}

// TestFreshStore looks at what only a store that was never compacted does: etcd takes its compact revision for -1.
func TestFreshStore(t *testing.T) {
	r := newPair(t)
	for range 2 {
		for _, rev := range []int64{-2, -1, 0, 1, 2} {
			read := &pb.RangeRequest{Key: []byte("a"), Revision: rev}
			r.must(t, read, txn(rangeAction(read)), &pb.HashKVRequest{Revision: rev})
			ok(t, r.call(kindStream, read))
		}
		r.must(t, &pb.CompactionRequest{Revision: -1}, &pb.CompactionRequest{Revision: 2}, &pb.CompactionRequest{},
			&pb.CompactionRequest{}, &pb.CompactionRequest{Revision: -1})
	}
	// Across a restart kinsy does not remember a compaction to 0, which has freed nothing; one to 1 it does.
	r.must(t, &pb.CompactionRequest{Revision: 1})
	ok(t, r.restart(kindStop))
	r.must(t, txn(rangeAction(&pb.RangeRequest{Key: []byte("a"), Revision: -1})), &pb.CompactionRequest{Revision: 1}, put("a", "b"))
	ok(t, r.state())
}

// TestWatchFromCompacted starts watches at the compact revision, of which only what compaction keeps is left, and
// below it.
func TestWatchFromCompacted(t *testing.T) {
	r := newPair(t)
	all := &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, PrevKv: true, WatchId: 7}
	r.must(t, put("a", "1"), put("b", "1"), txn(txnAction(putAction(put("a", "2"))),
		txnAction(deleteAction(&pb.DeleteRangeRequest{Key: []byte("a")})), putAction(put("c", "1")), putAction(put("b", "2"))))
	ok(t, r.compact(&pb.CompactionRequest{Revision: r.head - 1}))
	ok(t, r.compact(&pb.CompactionRequest{Revision: 4}))
	for stream, start := range []int64{r.compacted, r.compacted - 1, r.compacted + 1, 1} {
		all.StartRevision = start
		ok(t, r.watch(stream, all))
		ok(t, r.settle())
		all.WatchId = 0
		ok(t, r.watch(stream, all))
		ok(t, r.settle())
	}
	ok(t, r.restart(kindKill))
	ok(t, r.settle())
}

// TestControlRevision compares the header revision of created and canceled responses right after a write. Many watches
// are told of the write, so that there is time for the next request to overtake them.
func TestControlRevision(t *testing.T) {
	r := newPair(t)
	for range 300 {
		ok(t, r.watch(1, &pb.WatchCreateRequest{Key: []byte("other"), PrevKv: true}))
	}
	for range 150 {
		ok(t, r.watch(0, &pb.WatchCreateRequest{Key: []byte("a"), WatchId: 1}))
		r.must(t, put("other", "x"))
		ok(t, r.watch(0, &pb.WatchCreateRequest{Key: []byte("b"), RangeEnd: []byte("a")}))
		r.must(t, put("other", "y"))
		ok(t, r.cancelNow(0, 1))
	}
	ok(t, r.settle())
}

// TestSlowWatch reads nothing of a watch until long after the writes: everything must still come, in order.
func TestSlowWatch(t *testing.T) {
	r := newPair(t)
	const writes, size = 1500, 20 << 10
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var watches [2]pb.Watch_WatchClient
	ok(t, r.each(func(i int, p *peer) (err error) {
		if watches[i], err = p.watch.Watch(ctx); err != nil {
			return err
		}
		create := &pb.WatchCreateRequest{Key: []byte("s"), PrevKv: true}
		if err := watches[i].Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}); err != nil {
			return err
		}
		_, err = watches[i].Recv()
		return err
	}))
	for i := range writes {
		r.must(t, &pb.PutRequest{Key: []byte("s"), Value: bytes.Repeat([]byte{byte(i)}, size)})
	}
	ok(t, r.each(func(i int, p *peer) error {
		next := int64(2)
		for next < writes+2 {
			resp, err := watches[i].Recv()
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			for _, ev := range resp.Events {
				if ev.Kv.ModRevision != next || len(ev.Kv.Value) != size || (next > 2) != (ev.PrevKv != nil) {
					return fmt.Errorf("%s: event of revision %d where %d was due", p.name, ev.Kv.ModRevision, next)
				}
				next++
			}
		}
		return nil
	}))
}

// TestRequestSize finds the largest value that each server takes; they agree nearly to the byte.
func TestRequestSize(t *testing.T) {
	r := newPair(t)
	var largest [2]int
	ok(t, r.each(func(i int, p *peer) error {
		low, high := maxRequestBytes-1000, maxRequestBytes+1000
		for low+1 < high {
			mid := (low + high) / 2
			out := p.exchange(kindCall, &pb.PutRequest{Key: []byte("k"), Value: make([]byte, mid)})
			if out.err == nil {
				low = mid
			} else {
				high = mid
			}
		}
		largest[i] = low
		return nil
	}))
	t.Logf("largest value: etcd %d, subject %d", largest[0], largest[1])
	if math.Abs(float64(largest[0]-largest[1])) > 64 {
		t.Errorf("largest value: etcd %d, subject %d", largest[0], largest[1])
	}
}

// TestRestartState restarts servers that hold leases, tombstones and a compaction.
func TestRestartState(t *testing.T) {
	for _, k := range []kind{kindStop, kindKill} {
		t.Run(string(k), func(t *testing.T) {
			r := newPair(t)
			r.must(t, &pb.LeaseGrantRequest{ID: 1, TTL: 500}, &pb.LeaseGrantRequest{ID: 2, TTL: 9_000_000_000})
			ok(t, r.restart(k))
			r.must(t, &pb.PutRequest{Key: []byte("a"), Lease: 1}, &pb.PutRequest{Key: []byte("b"), Lease: 2},
				&pb.PutRequest{Key: []byte("b"), Lease: 1}, &pb.PutRequest{Key: []byte("c"), Lease: 2},
				&pb.DeleteRangeRequest{Key: []byte("c")}, put("d", "d"), &pb.DeleteRangeRequest{Key: []byte("d")})
			ok(t, r.compact(&pb.CompactionRequest{Revision: r.head}))
			ok(t, r.watch(0, &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: r.compacted, PrevKv: true}))
			ok(t, r.restart(k))
			r.must(t, &pb.CompactionRequest{Revision: r.compacted}, put("d", "e"), &pb.LeaseRevokeRequest{ID: 1})
			ok(t, r.settle())
			ok(t, r.restart(k))
			r.must(t, put("z", "z"))
			ok(t, r.settle())
		})
	}
}
