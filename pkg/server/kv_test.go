package server

import (
	"context"
	"errors"
	"io"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/kinsy/kinsy/pkg/mvcc"
)

func TestRange(t *testing.T) {
	h := start(t, ProfileNetsy)
	ctx := testContext(t)
	resp, err := h.kv.Range(ctx, &pb.RangeRequest{Key: []byte("k")})
	if err != nil {
		t.Fatal(err)
	}
	wantHeader(t, resp.Header, fakeRevision)

	_, err = h.kv.Range(ctx, &pb.RangeRequest{})
	wantError(t, err, rpctypes.ErrGRPCEmptyKey)
	h.engine.fail = mvcc.ErrFutureRevision
	_, err = h.kv.Range(ctx, &pb.RangeRequest{Key: []byte("k"), Revision: 99})
	wantError(t, err, rpctypes.ErrGRPCFutureRev)
}

func TestRangeStream(t *testing.T) {
	for _, p := range []Profile{ProfileNetsy, ProfileEtcd} {
		h := start(t, p)
		h.engine.onStream = func(_ context.Context, send func(*pb.RangeStreamResponse) error) error {
			kvs := []*mvccpb.KeyValue{{Key: []byte("a")}}
			if err := send(&pb.RangeStreamResponse{RangeResponse: &pb.RangeResponse{Kvs: kvs}}); err != nil {
				return err
			}
			last := &pb.RangeResponse{Header: h.engine.header(), Kvs: kvs, Count: 2}
			return send(&pb.RangeStreamResponse{RangeResponse: last})
		}
		stream, err := h.kv.RangeStream(testContext(t), &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("z")})
		if err != nil {
			t.Fatal(err)
		}
		chunks := receiveAll(t, stream.Recv)
		if len(chunks) != 2 || chunks[0].RangeResponse.Header != nil || chunks[1].RangeResponse.Count != 2 {
			t.Fatalf("chunks %v", chunks)
		}
		wantHeader(t, chunks[1].RangeResponse.Header, fakeRevision)
	}
}

func receiveAll[T any](t testing.TB, recv func() (T, error)) (all []T) {
	t.Helper()
	for {
		r, err := recv()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
}

func TestRangeStreamRefusals(t *testing.T) {
	h := start(t, ProfileEtcd)
	first := func(r *pb.RangeRequest) error {
		stream, err := h.kv.RangeStream(testContext(t), r)
		if err != nil {
			return err
		}
		_, err = stream.Recv()
		return err
	}
	key := []byte("k")
	wantError(t, first(&pb.RangeRequest{}), rpctypes.ErrGRPCEmptyKey)
	wantStatus(t, first(&pb.RangeRequest{Key: key, SortOrder: pb.RangeRequest_DESCEND}),
		codes.Unimplemented, "RangeStream does not support custom sort orders")
	wantStatus(t, first(&pb.RangeRequest{Key: key, MinModRevision: 3}),
		codes.Unimplemented, "RangeStream does not support revision filters")
	h.engine.fail = mvcc.ErrCompacted
	wantError(t, first(&pb.RangeRequest{Key: key}), rpctypes.ErrGRPCCompacted)
}

func TestPutIsATxn(t *testing.T) {
	h := start(t, ProfileEtcd)
	put := &pb.PutRequest{Key: []byte("k"), Value: []byte("v"), Lease: 3, PrevKv: true}
	resp, err := h.kv.Put(testContext(t), put)
	if err != nil {
		t.Fatal(err)
	}
	wantHeader(t, resp.Header, fakeRevision)
	sent := h.engine.lastTxn()
	if len(sent.Compare)+len(sent.Failure) != 0 || len(sent.Success) != 1 ||
		!proto.Equal(sent.Success[0].GetRequestPut(), put) {
		t.Fatalf("engine got %v", sent)
	}
	_, err = h.kv.Put(testContext(t), &pb.PutRequest{Key: []byte("k"), Value: []byte("v"), IgnoreValue: true})
	wantError(t, err, rpctypes.ErrGRPCValueProvided)
	h.engine.fail = mvcc.ErrLeaseNotFound
	_, err = h.kv.Put(testContext(t), put)
	wantError(t, err, rpctypes.ErrGRPCLeaseNotFound)
}

func TestDeleteRangeIsATxn(t *testing.T) {
	h := start(t, ProfileEtcd)
	del := &pb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte("z"), PrevKv: true}
	resp, err := h.kv.DeleteRange(testContext(t), del)
	if err != nil {
		t.Fatal(err)
	}
	wantHeader(t, resp.Header, fakeRevision)
	if resp.Deleted != 3 || !proto.Equal(h.engine.lastTxn().Success[0].GetRequestDeleteRange(), del) {
		t.Fatalf("deleted %d, engine got %v", resp.Deleted, h.engine.lastTxn())
	}
	_, err = h.kv.DeleteRange(testContext(t), &pb.DeleteRangeRequest{})
	wantError(t, err, rpctypes.ErrGRPCEmptyKey)
}

// An engine that answers a single operation with nothing, or with something
// else, must not take the server down.
func TestWrongAnswerOfEngine(t *testing.T) {
	h := start(t, ProfileEtcd)
	answers := [][]*pb.ResponseOp{nil, {{}}, {fakeAnswer(getOp("k"))}}
	for _, a := range answers {
		h.engine.onTxn = func(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error) {
			return &pb.TxnResponse{Responses: a}, nil
		}
		_, err := h.kv.Put(testContext(t), &pb.PutRequest{Key: []byte("k")})
		wantStatus(t, err, codes.Unknown, errNoAnswer.Error())
		_, err = h.kv.DeleteRange(testContext(t), &pb.DeleteRangeRequest{Key: []byte("k")})
		wantStatus(t, err, codes.Unknown, errNoAnswer.Error())
	}
}

func TestCompact(t *testing.T) {
	h := start(t, ProfileEtcd)
	resp, err := h.kv.Compact(testContext(t), &pb.CompactionRequest{Revision: 3, Physical: true})
	if err != nil {
		t.Fatal(err)
	}
	wantHeader(t, resp.Header, fakeRevision)
	h.engine.fail = mvcc.ErrCompacted
	_, err = h.kv.Compact(testContext(t), &pb.CompactionRequest{Revision: 3})
	wantError(t, err, rpctypes.ErrGRPCCompacted)
}

func TestTxn(t *testing.T) {
	h := start(t, ProfileEtcd)
	resp, err := h.kv.Txn(testContext(t), &pb.TxnRequest{Success: ops(putOp("a"), putOp("b"), getOp("a"))})
	if err != nil {
		t.Fatal(err)
	}
	wantHeader(t, resp.Header, fakeRevision)
	if len(resp.Responses) != 3 {
		t.Fatalf("responses %v", resp.Responses)
	}
	_, err = h.kv.Txn(testContext(t), &pb.TxnRequest{Failure: ops(putOp("a"), putOp("a"))})
	wantError(t, err, rpctypes.ErrGRPCDuplicateKey)
	_, err = h.kv.Txn(testContext(t), &pb.TxnRequest{Success: manyOps(129)})
	wantError(t, err, rpctypes.ErrGRPCTooManyOps)
	_, err = h.kv.Txn(testContext(t), &pb.TxnRequest{Success: ops(&pb.RequestOp{})})
	wantError(t, err, rpctypes.ErrGRPCKeyNotFound)
}

func TestMaxTxnOps(t *testing.T) {
	h := start(t, ProfileEtcd, func(c *Config) { c.MaxTxnOps = 2 })
	_, err := h.kv.Txn(testContext(t), &pb.TxnRequest{Success: manyOps(3)})
	wantError(t, err, rpctypes.ErrGRPCTooManyOps)
	if _, err := h.kv.Txn(testContext(t), &pb.TxnRequest{Success: manyOps(2)}); err != nil {
		t.Fatal(err)
	}
}

func TestRequestSize(t *testing.T) {
	const limit = 10_000
	h := start(t, ProfileEtcd, func(c *Config) { c.MaxRequestBytes = limit })
	ctx := testContext(t)
	sized := func(size int) *pb.PutRequest {
		r := &pb.PutRequest{Key: []byte("k")}
		r.Value = make([]byte, size-proto.Size(r)-3)
		if proto.Size(r) != size {
			t.Fatalf("built %d bytes, want %d", proto.Size(r), size)
		}
		return r
	}
	if _, err := h.kv.Put(ctx, sized(limit)); err != nil {
		t.Fatal(err)
	}
	_, err := h.kv.Put(ctx, sized(limit+1))
	wantError(t, err, rpctypes.ErrGRPCRequestTooLarge)

	long := make([]byte, limit)
	_, err = h.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: long})
	wantError(t, err, rpctypes.ErrGRPCRequestTooLarge)
	_, err = h.kv.Txn(ctx, &pb.TxnRequest{
		Success: ops(&pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: sized(limit)}}),
	})
	wantError(t, err, rpctypes.ErrGRPCRequestTooLarge)

	// Reads are not limited, and gRPC's own limit leaves room above.
	if _, err := h.kv.Range(ctx, &pb.RangeRequest{Key: long}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.kv.Txn(ctx, &pb.TxnRequest{Success: ops(getOp(string(long)))}); err != nil {
		t.Fatal(err)
	}
	_, err = h.kv.Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: make([]byte, limit+overheadBytes)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Fatalf("got %v, want ResourceExhausted from gRPC", err)
	}
}
