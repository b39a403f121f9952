package differential

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// maxRequestBytes is etcd's default limit of a request.
const maxRequestBytes = 1536 << 10

// errorCase is one request and the error it must be answered with; nil means that it succeeds.
type errorCase struct {
	name string
	kind kind
	req  proto.Message
	want error
}

// The state which the error cases assume: head at errorHead, compacted at errorCompacted, lease 5 granted.
const (
	errorHead      = 9
	errorCompacted = 5
)

func errorSetup() []proto.Message {
	setup := []proto.Message{&pb.LeaseGrantRequest{ID: 5, TTL: 3600}}
	for i := range errorHead - 1 {
		setup = append(setup, &pb.PutRequest{Key: []byte("k"), Value: fmt.Append(nil, i)})
	}
	return append(setup, &pb.CompactionRequest{Revision: errorCompacted, Physical: true})
}

func put(key, value string) *pb.PutRequest {
	return &pb.PutRequest{Key: []byte(key), Value: []byte(value)}
}

func putAction(r *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
}

func rangeAction(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}

func deleteAction(r *pb.DeleteRangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}
}

func txnAction(ops ...*pb.RequestOp) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: txn(ops...)}}
}

// txn is a Txn without compares.
func txn(ops ...*pb.RequestOp) *pb.TxnRequest { return &pb.TxnRequest{Success: ops} }

func repeat(n int, f func(i int) *pb.RequestOp) []*pb.RequestOp {
	ops := make([]*pb.RequestOp, n)
	for i := range ops {
		ops[i] = f(i)
	}
	return ops
}

func kvErrors() []errorCase {
	k := []byte("k")
	missing := []byte("missing")
	big := bytes.Repeat([]byte{'b'}, maxRequestBytes+1)
	huge := bytes.Repeat([]byte{'h'}, maxRequestBytes+(512<<10))
	tooLong := status.Errorf(codes.ResourceExhausted, "grpc: received message larger than max (%d vs. %d)",
		proto.Size(&pb.PutRequest{Key: k, Value: huge}), maxRequestBytes+(512<<10))
	return []errorCase{
		{"range of no key", kindCall, &pb.RangeRequest{}, rpctypes.ErrGRPCEmptyKey},
		{"put of no key", kindCall, put("", "v"), rpctypes.ErrGRPCEmptyKey},
		{"delete of no key", kindCall, &pb.DeleteRangeRequest{}, rpctypes.ErrGRPCEmptyKey},
		{"stream of no key", kindStream, &pb.RangeRequest{}, rpctypes.ErrGRPCEmptyKey},
		{"ignore value of no key", kindCall, &pb.PutRequest{Key: missing, IgnoreValue: true}, rpctypes.ErrGRPCKeyNotFound},
		{"ignore lease of no key", kindCall, &pb.PutRequest{Key: missing, IgnoreLease: true}, rpctypes.ErrGRPCKeyNotFound},
		{"value provided", kindCall, &pb.PutRequest{Key: k, Value: k, IgnoreValue: true}, rpctypes.ErrGRPCValueProvided},
		{"lease provided", kindCall, &pb.PutRequest{Key: k, Lease: 5, IgnoreLease: true}, rpctypes.ErrGRPCLeaseProvided},
		{"put with unknown lease", kindCall, &pb.PutRequest{Key: k, Lease: 6}, rpctypes.ErrGRPCLeaseNotFound},
		{"sort order", kindCall, &pb.RangeRequest{Key: k, SortOrder: 3}, rpctypes.ErrGRPCInvalidSortOption},
		{"sort target", kindCall, &pb.RangeRequest{Key: k, SortTarget: 5}, rpctypes.ErrGRPCInvalidSortOption},
		{"range compacted", kindCall, &pb.RangeRequest{Key: k, Revision: errorCompacted - 1}, rpctypes.ErrGRPCCompacted},
		{"range at the compact revision", kindCall, &pb.RangeRequest{Key: k, Revision: errorCompacted}, nil},
		{"range in the future", kindCall, &pb.RangeRequest{Key: k, Revision: errorHead + 1}, rpctypes.ErrGRPCFutureRev},
		{"range at a negative revision", kindCall, &pb.RangeRequest{Key: k, Revision: -1}, nil},
		{"stream compacted", kindStream, &pb.RangeRequest{Key: k, Revision: errorCompacted - 1}, rpctypes.ErrGRPCCompacted},
		{"stream in the future", kindStream, &pb.RangeRequest{Key: k, Revision: errorHead + 1}, rpctypes.ErrGRPCFutureRev},
		{"stream sorted", kindStream, &pb.RangeRequest{Key: k, SortOrder: pb.RangeRequest_DESCEND},
			status.Error(codes.Unimplemented, "RangeStream does not support custom sort orders")},
		{"stream filtered", kindStream, &pb.RangeRequest{Key: k, MinModRevision: 1},
			status.Error(codes.Unimplemented, "RangeStream does not support revision filters")},
		{"compact below", kindCall, &pb.CompactionRequest{Revision: errorCompacted - 1}, rpctypes.ErrGRPCCompacted},
		{"compact twice", kindCall, &pb.CompactionRequest{Revision: errorCompacted}, rpctypes.ErrGRPCCompacted},
		{"compact the future", kindCall, &pb.CompactionRequest{Revision: errorHead + 1}, rpctypes.ErrGRPCFutureRev},
		{"hash compacted", kindCall, &pb.HashKVRequest{Revision: errorCompacted - 1}, rpctypes.ErrGRPCCompacted},
		{"hash of the future", kindCall, &pb.HashKVRequest{Revision: errorHead + 1}, rpctypes.ErrGRPCFutureRev},
		{"put too large", kindCall, &pb.PutRequest{Key: k, Value: big}, rpctypes.ErrGRPCRequestTooLarge},
		{"put too large for a message", kindCall, &pb.PutRequest{Key: k, Value: huge}, tooLong},
		{"txn too large", kindCall, txn(putAction(&pb.PutRequest{Key: k, Value: big})), rpctypes.ErrGRPCRequestTooLarge},
		{"delete too large", kindCall, &pb.DeleteRangeRequest{Key: big}, rpctypes.ErrGRPCRequestTooLarge},
		{"large read", kindCall, &pb.RangeRequest{Key: big}, nil},
		{"large read in a txn", kindCall, txn(rangeAction(&pb.RangeRequest{Key: big})), nil},
	}
}

func txnErrors() []errorCase {
	k := []byte("k")
	read := rangeAction(&pb.RangeRequest{Key: k})
	twice := []*pb.RequestOp{putAction(put("d", "1")), putAction(put("d", "2"))}
	reads := func(n int) []*pb.RequestOp { return repeat(n, func(int) *pb.RequestOp { return read }) }
	after := func(r *pb.RequestOp) *pb.TxnRequest { return txn(putAction(put("w", "w")), r) }
	return []errorCase{
		{"compare of no key", kindCall, &pb.TxnRequest{Compare: []*pb.Compare{{}}}, rpctypes.ErrGRPCEmptyKey},
		{"txn range of no key", kindCall, txn(rangeAction(&pb.RangeRequest{})), rpctypes.ErrGRPCEmptyKey},
		{"txn put of no key", kindCall, txn(putAction(&pb.PutRequest{})), rpctypes.ErrGRPCEmptyKey},
		{"txn delete of no key", kindCall, txn(deleteAction(&pb.DeleteRangeRequest{})), rpctypes.ErrGRPCEmptyKey},
		{"txn without operation", kindCall, txn(&pb.RequestOp{}), rpctypes.ErrGRPCKeyNotFound},
		{"failure without operation", kindCall, &pb.TxnRequest{Failure: []*pb.RequestOp{{}}}, rpctypes.ErrGRPCKeyNotFound},
		{"empty txn", kindCall, &pb.TxnRequest{}, nil},
		{"128 operations", kindCall, txn(reads(128)...), nil},
		{"129 operations", kindCall, txn(reads(129)...), rpctypes.ErrGRPCTooManyOps},
		{"129 failures", kindCall, &pb.TxnRequest{Failure: reads(129)}, rpctypes.ErrGRPCTooManyOps},
		{"nested 127", kindCall, txn(txnAction(reads(127)...)), nil},
		{"nested 128", kindCall, txn(txnAction(reads(128)...)), rpctypes.ErrGRPCTooManyOps},
		{"key twice", kindCall, txn(twice...), rpctypes.ErrGRPCDuplicateKey},
		{"key twice in failure", kindCall, &pb.TxnRequest{Failure: twice}, rpctypes.ErrGRPCDuplicateKey},
		{"key in both branches", kindCall, &pb.TxnRequest{Success: twice[:1], Failure: twice[1:]}, nil},
		{"key twice, nested", kindCall, txn(twice[0], txnAction(twice[1])), rpctypes.ErrGRPCDuplicateKey},
		{"put and delete", kindCall, txn(twice[0], deleteAction(&pb.DeleteRangeRequest{Key: []byte("d")})), rpctypes.ErrGRPCDuplicateKey},
		{"put in deleted range", kindCall, txn(twice[0], deleteAction(&pb.DeleteRangeRequest{Key: []byte("c"), RangeEnd: []byte("e")})),
			rpctypes.ErrGRPCDuplicateKey},
		{"put and delete to the end", kindCall, txn(twice[0], deleteAction(&pb.DeleteRangeRequest{Key: []byte("c"), RangeEnd: []byte{0}})), nil},
		{"nested put, then nested delete", kindCall,
			txn(txnAction(twice[0]), txnAction(deleteAction(&pb.DeleteRangeRequest{Key: []byte("d")}))), nil},
		{"unknown lease after a put", kindCall, after(putAction(&pb.PutRequest{Key: []byte("z"), Lease: 6})), rpctypes.ErrGRPCLeaseNotFound},
		{"future read after a put", kindCall, after(rangeAction(&pb.RangeRequest{Key: k, Revision: math.MaxInt64})), rpctypes.ErrGRPCFutureRev},
		{"compacted read after a put", kindCall, after(rangeAction(&pb.RangeRequest{Key: k, Revision: 1})), rpctypes.ErrGRPCCompacted},
		{"negative read in a txn", kindCall, txn(rangeAction(&pb.RangeRequest{Key: k, Revision: -1})), rpctypes.ErrGRPCCompacted},
		{"nested unknown lease", kindCall, after(txnAction(putAction(&pb.PutRequest{Key: []byte("z"), Lease: 6}))), rpctypes.ErrGRPCLeaseNotFound},
	}
}

func leaseErrors() []errorCase {
	return []errorCase{
		{"lease granted twice", kindCall, &pb.LeaseGrantRequest{ID: 5, TTL: 10}, rpctypes.ErrGRPCLeaseExist},
		{"lease TTL too large", kindCall, &pb.LeaseGrantRequest{ID: 8, TTL: 9_000_000_001}, rpctypes.ErrGRPCLeaseTTLTooLarge},
		{"revoke of no lease", kindCall, &pb.LeaseRevokeRequest{ID: 8}, rpctypes.ErrGRPCLeaseNotFound},
		{"revoke of lease 0", kindCall, &pb.LeaseRevokeRequest{}, rpctypes.ErrGRPCLeaseNotFound},
		{"keepalive of no lease", kindCall, &pb.LeaseKeepAliveRequest{ID: 8}, nil},
		{"hand over to no member", kindCall, &pb.MoveLeaderRequest{TargetID: 1234}, rpctypes.ErrGRPCBadLeaderTransferee},
		{"time to live of no lease", kindCall, &pb.LeaseTimeToLiveRequest{ID: 8}, nil},
	}
}

// TestErrors provokes the errors of etcd's table one by one. What etcd answers is checked as well, so that a
// case cannot come to test something else.
func TestErrors(t *testing.T) {
	r, err := newRunner(t)
	defer func() { r.close() }()
	if err != nil {
		t.Fatal(err)
	}
	for _, req := range errorSetup() {
		if err := r.call(kindCall, req); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range append(append(txnErrors(), leaseErrors()...), kvErrors()...) {
		t.Run(c.name, func(t *testing.T) {
			out, err := r.answers(c.kind, r.shifted(c.req))
			if err != nil {
				t.Fatal(err)
			}
			want, got := status.Convert(c.want), status.Convert(out[0].err)
			if want.Code() != got.Code() || want.Message() != got.Message() {
				t.Errorf("etcd answers %v, the table says %v", got, want)
			}
			if diff := compare(out[0], out[1]); diff != "" {
				t.Error(diff)
			}
			r.learn(c.req, out[0])
		})
	}
}

// shifted moves future revisions of an error case beyond the head, which the cases before it may have moved.
func (r *runner) shifted(req proto.Message) proto.Message {
	req = proto.Clone(req)
	switch q := req.(type) {
	case *pb.RangeRequest:
		q.Revision = r.beyond(q.Revision)
	case *pb.CompactionRequest:
		q.Revision = r.beyond(q.Revision)
	case *pb.HashKVRequest:
		q.Revision = r.beyond(q.Revision)
	}
	return req
}

func (r *runner) beyond(rev int64) int64 {
	if rev == errorHead+1 {
		return r.head + 1
	}
	return rev
}
