package differential

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// TestDeadlyTxns sends kinsy the Txns of which etcd 3.7 dies: a put with ignore_value or ignore_lease on a key that
// the same Txn deleted before. kinsy must refuse them with etcd's error for the put, change nothing, and live.
func TestDeadlyTxns(t *testing.T) {
	needKinsy(t)
	p := &peer{server: newKinsy(t, "etcd")}
	ok(t, p.start())
	t.Cleanup(func() { p.disconnect(); p.kill() })
	ok(t, p.connect(1))
	setup := []proto.Message{&pb.LeaseGrantRequest{ID: 1, TTL: 600}, put("a", "1"),
		&pb.PutRequest{Key: []byte("k"), Value: []byte("2"), Lease: 1}, put("z", "3")}
	for _, req := range setup {
		ok(t, p.exchange(kindCall, req).err)
	}
	if _, err := p.streams[0].create(&pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}}); err != nil {
		t.Fatal(err)
	}
	before := p.snapshot(t)
	for name, req := range deadlyTxns() {
		t.Run(name, func(t *testing.T) {
			out := p.exchange(kindCall, req)
			if got, want := status.Convert(out.err), status.Convert(rpctypes.ErrGRPCKeyNotFound); got.Message() != want.Message() {
				t.Errorf("answer %v, want %v", out, want)
			}
			if diff := compare(before, p.snapshot(t)); diff != "" {
				t.Errorf("a refused Txn changed something\n%s", diff)
			}
		})
	}
	ok(t, p.exited())
	ok(t, p.exchange(kindCall, put(markerKey, "")).err)
	ok(t, p.streams[0].sync(before.resp.(*pb.TxnResponse).Header.Revision+1))
	if events, faults := p.streams[0].take(0); len(events) != 1 || len(faults) != 0 {
		t.Errorf("watch saw %v %v, not only the last put", events, faults)
	}
}

// TestDeadlyCompaction compacts kinsy to a revision that has deleted a key and put it again. etcd 3.7 loses the key
// there and dies when it is read.
func TestDeadlyCompaction(t *testing.T) {
	needKinsy(t)
	p := &peer{server: newKinsy(t, "etcd")}
	ok(t, p.start())
	t.Cleanup(func() { p.disconnect(); p.kill() })
	ok(t, p.connect(1))
	reborn := txn(deleteAction(&pb.DeleteRangeRequest{Key: []byte("k"), RangeEnd: []byte{0}}), putAction(put("k", "new")))
	for _, req := range []proto.Message{&pb.LeaseGrantRequest{ID: 1, TTL: 600}, put("k", "old"), put("l", "gone"), reborn} {
		ok(t, p.exchange(kindCall, req).err)
	}
	before := p.snapshot(t)
	ok(t, p.exchange(kindCall, &pb.CompactionRequest{Revision: 4, Physical: true}).err)
	for range 2 {
		if diff := compare(before, p.snapshot(t)); diff != "" {
			t.Errorf("compaction changed what is read\n%s", diff)
		}
		past := p.exchange(kindCall, &pb.RangeRequest{Key: []byte("k"), Revision: 4})
		if kvs := past.resp.(*pb.RangeResponse).Kvs; len(kvs) != 1 || string(kvs[0].Value) != "new" || kvs[0].Version != 1 {
			t.Errorf("read at the compacted revision: %v", past)
		}
		p.disconnect()
		ok(t, p.stop())
		ok(t, p.start())
		ok(t, p.connect(1))
	}
}

// snapshot reads all keys, and the lease with its keys, as the two responses of one Txn.
func (p *peer) snapshot(t *testing.T) outcome {
	t.Helper()
	all := p.exchange(kindCall, txn(rangeAction(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})))
	ok(t, all.err)
	ttl := p.exchange(kindCall, &pb.LeaseTimeToLiveRequest{ID: 1, Keys: true})
	ok(t, ttl.err)
	resp := all.resp.(*pb.TxnResponse)
	for _, k := range ttl.resp.(*pb.LeaseTimeToLiveResponse).Keys {
		resp.Responses = append(resp.Responses, &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{
			ResponseRange: &pb.RangeResponse{Kvs: []*mvccpb.KeyValue{{Key: k}}}}})
	}
	return all
}

func deadlyTxns() map[string]*pb.TxnRequest {
	rest := deleteAction(&pb.DeleteRangeRequest{Key: []byte("b"), RangeEnd: []byte{0}})
	value := putAction(&pb.PutRequest{Key: []byte("k"), IgnoreValue: true})
	lease := putAction(&pb.PutRequest{Key: []byte("k"), Value: []byte("v"), IgnoreLease: true})
	other := putAction(put("a", "changed"))
	return map[string]*pb.TxnRequest{
		"ignore value":               txn(rest, value),
		"ignore lease":               txn(rest, lease),
		"after another put":          txn(other, rest, value),
		"nested put":                 txn(rest, txnAction(value)),
		"nested delete":              txn(txnAction(rest), txnAction(lease)),
		"in the failure branch":      {Compare: []*pb.Compare{{Key: []byte("a"), Result: pb.Compare_NOT_EQUAL, TargetUnion: &pb.Compare_Version{Version: 1}}}, Failure: []*pb.RequestOp{rest, value}},
		"deep, after a put and read": txn(other, rangeAction(&pb.RangeRequest{Key: []byte("a")}), txnAction(rest, txnAction(value))),
	}
}
