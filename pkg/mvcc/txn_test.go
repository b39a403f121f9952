package mvcc

import (
	"context"
	"errors"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/kinsy/kinsy/pkg/mvcc/mvcctest"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// TestTxnThatFailsHalfWay: what stands before the operation that fails is undone,
// and the store goes on. etcd 3.7.3 dies of these.
func TestTxnThatFailsHalfWay(t *testing.T) {
	ignoreValue := opPut(&pb.PutRequest{Key: []byte("a"), IgnoreValue: true})
	ignoreLease := opPut(&pb.PutRequest{Key: []byte("a"), Value: []byte("v"), IgnoreLease: true})
	nested := func(ops ...*pb.RequestOp) *pb.RequestOp { return opTxn(&pb.TxnRequest{Success: ops}) }
	for name, c := range map[string]struct {
		err error
		ops []*pb.RequestOp
	}{
		"ignore_value after a delete": {ErrKeyNotFound, []*pb.RequestOp{nested(del("a", "")), nested(ignoreValue)}},
		"ignore_lease after a delete": {ErrKeyNotFound, []*pb.RequestOp{put("x", "1"), nested(del("a", "\x00")), ignoreLease}},
		"ignore_value of a new key":   {ErrKeyNotFound, []*pb.RequestOp{put("x", "1"), opPut(&pb.PutRequest{Key: []byte("new"), IgnoreValue: true})}},
		"unknown lease":               {ErrLeaseNotFound, []*pb.RequestOp{put("a", "2"), del("b", ""), leased("x", 99)}},
		"unknown lease, nested":       {ErrLeaseNotFound, []*pb.RequestOp{del("a", ""), nested(put("x", "1"), nested(leased("y", 99)))}},
		"future revision":             {ErrFutureRevision, []*pb.RequestOp{put("a", "2"), opRange(&pb.RangeRequest{Key: []byte("a"), Revision: 4})}},
		"compacted revision":          {ErrCompacted, []*pb.RequestOp{put("a", "2"), opRange(&pb.RangeRequest{Key: []byte("a"), Revision: 1})}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDB(t, Config{})
			d.grant(7, 10)
			d.write(leased("a", 7))
			d.write(put("b", "1"))
			d.compact(2)
			b := &Batch{}
			before := &Batch{}
			if _, err := d.store.EvaluateTxn(context.Background(), before, &pb.TxnRequest{Success: []*pb.RequestOp{put("p", "pending")}}); err != nil {
				t.Fatal(err)
			}
			if c.err == ErrFutureRevision {
				c.ops[1].GetRequestRange().Revision = 5
			}
			if _, err := d.store.EvaluateTxn(context.Background(), b, &pb.TxnRequest{Success: c.ops}); !errors.Is(err, c.err) {
				t.Fatalf("error is %v, want %v", err, c.err)
			}
			if !b.Empty() || len(b.records) != 0 || b.Bytes != 0 || d.store.revision != 4 {
				t.Fatalf("left behind: %+v at revision %d", b, d.store.revision)
			}
			d.commit(before)
			resp := d.write(put("x", "2"), opRange(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}))
			kvs := resp.Responses[1].GetResponseRange().Kvs
			if len(kvs) != 4 || kvs[0].Lease != 7 || kvs[0].Version != 1 || kvs[3].Version != 1 || resp.Header.Revision != 5 {
				t.Fatalf("after it: %v", resp)
			}
			if d.keysOf(7) != "a" {
				t.Fatalf("lease has %q", d.keysOf(7))
			}
		})
	}
}

// TestTxnWhoseValueCannotBeRead: the log fails while a compare or ignore_value
// needs a value; nothing has happened.
func TestTxnWhoseValueCannotBeRead(t *testing.T) {
	d := newDB(t, Config{CacheBytes: 1})
	d.write(put("a", "1"))
	broken := errors.New("disk is broken")
	d.log.Hook(mvcctest.Hooks{Values: func([]sqllog.ID) error { return broken }})
	compare := &pb.Compare{Key: []byte("a"), Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: []byte("1")}}
	for _, r := range []*pb.TxnRequest{
		{Compare: []*pb.Compare{compare}, Success: []*pb.RequestOp{put("b", "1")}},
		{Success: []*pb.RequestOp{put("b", "1"), opPut(&pb.PutRequest{Key: []byte("a"), IgnoreValue: true})}},
	} {
		b := &Batch{}
		if _, err := d.store.EvaluateTxn(context.Background(), b, r); !errors.Is(err, broken) || !b.Empty() {
			t.Fatalf("%v: %v", r, err)
		}
	}
	d.log.Hook(mvcctest.Hooks{})
	if rev := d.write(put("a", "2")).Header.Revision; rev != 3 {
		t.Fatalf("at revision %d", rev)
	}
}

// TestTxnSeesPending: evaluation goes on from what is not committed, reads do not.
func TestTxnSeesPending(t *testing.T) {
	d := newDB(t, Config{})
	first, second := &Batch{}, &Batch{}
	ctx := context.Background()
	if _, err := d.store.EvaluateTxn(ctx, first, &pb.TxnRequest{Success: []*pb.RequestOp{put("a", "1")}}); err != nil {
		t.Fatal(err)
	}
	absent := &pb.TxnRequest{
		Compare: []*pb.Compare{{Key: []byte("a"), Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{Version: 0}}},
		Success: []*pb.RequestOp{put("a", "2")}, Failure: []*pb.RequestOp{opRange(&pb.RangeRequest{Key: []byte("a")})},
	}
	a, err := d.store.EvaluateTxn(ctx, second, absent)
	if err != nil || a.Wrote || !second.Empty() {
		t.Fatalf("%v, %+v", err, a)
	}
	got, err := d.store.ReadTxn(ctx, &pb.TxnRequest{Compare: absent.Compare, Success: absent.Failure})
	if err != nil || !got.Succeeded || got.Header.Revision != 1 {
		t.Fatalf("a read saw what is pending: %v, %v", got, err)
	}
	d.commit(first)
	got, err = a.Complete(ctx)
	if err != nil || got.Succeeded || string(got.Responses[0].GetResponseRange().Kvs[0].Value) != "1" {
		t.Fatalf("%v, %v", got, err)
	}
}

// TestRequestsAreLeftAlone: the store keeps no byte of a request that its sender
// may change, and changes none.
func TestRequestsAreLeftAlone(t *testing.T) {
	d := newDB(t, Config{})
	key := []byte("key")
	r := &pb.TxnRequest{Success: []*pb.RequestOp{
		opPut(&pb.PutRequest{Key: key, Value: []byte("value")}),
		opRange(&pb.RangeRequest{Key: key, Limit: 1, SortTarget: pb.RangeRequest_MOD, SortOrder: pb.RangeRequest_DESCEND}),
	}}
	before := proto.CloneOf(r)
	d.write(r.Success...)
	if !proto.Equal(r, before) {
		t.Fatalf("the request is %v now", r)
	}
	copy(key, "xxx")
	if d.store.find([]byte("key"), 2) == nil || string(d.rows()[0].Key) != "key" {
		t.Fatal("the store's key has changed")
	}
}

// TestRangeOverManyEntries: a Range goes over the tree in steps, and stops when its
// context ends.
func TestRangeOverManyEntries(t *testing.T) {
	d := newDB(t, Config{limits: small})
	for i := range 40 {
		d.write(put(string(rune('A'+i)), "v"))
	}
	resp, err := d.store.Range(context.Background(), &pb.RangeRequest{Key: []byte("B"), RangeEnd: []byte("Z"), Limit: 5})
	if err != nil || resp.Count != 24 || len(resp.Kvs) != 5 || !resp.More {
		t.Fatalf("%v, %v", resp, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := d.store.Range(ctx, &pb.RangeRequest{Key: []byte("B"), RangeEnd: []byte("Z")}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
