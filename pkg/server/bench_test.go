package server

import (
	"context"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// kubeTxn is the Txn of a kube-apiserver update.
func kubeTxn() *pb.TxnRequest {
	key := []byte("/registry/pods/default/a-pod")
	put := &pb.PutRequest{Key: key, Value: make([]byte, 256)}
	return &pb.TxnRequest{
		Compare: []*pb.Compare{{
			Key: key, Target: pb.Compare_MOD, TargetUnion: &pb.Compare_ModRevision{ModRevision: 3},
		}},
		Success: ops(&pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}}),
		Failure: ops(getOp(string(key))),
	}
}

// BenchmarkTxn is what this package adds to gRPC for one Txn: interceptor,
// checks, header. The engine answers at once.
func BenchmarkTxn(b *testing.B) {
	kv := idleKV(b, ProfileNetsy)
	info := &grpc.UnaryServerInfo{FullMethod: pb.KV_Txn_FullMethodName}
	answer := &pb.TxnResponse{Header: &pb.ResponseHeader{Revision: fakeRevision}}
	kv.cfg.KV.(*fakeEngine).onTxn = func(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error) {
		return answer, nil
	}
	handler := func(ctx context.Context, req any) (any, error) { return kv.Txn(ctx, req.(*pb.TxnRequest)) }
	r, ctx := kubeTxn(), context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := kv.unaryInterceptor(ctx, r, info, handler); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCheckTxnLarge is the checks alone for the largest Txn allowed.
func BenchmarkCheckTxnLarge(b *testing.B) {
	kv := idleKV(b, ProfileEtcd)
	r := &pb.TxnRequest{Success: manyOps(64)}
	for range 64 {
		r.Success = append(r.Success, delOp("z", "zz"))
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := kv.checkTxn(r); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWatchFragments cuts a response of 10,000 events.
func BenchmarkWatchFragments(b *testing.B) {
	r := &pb.WatchResponse{Header: &pb.ResponseHeader{}, Events: eventsOf(make([]int, 10_000)...)}
	b.ReportAllocs()
	for b.Loop() {
		if err := sendFragments(r, 64*1024, func(*pb.WatchResponse) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
