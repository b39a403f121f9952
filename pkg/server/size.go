package server

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// opOverhead is more than any operation or compare needs on the wire besides
// its keys and value.
const opOverhead = 128

// checkSize is checkSize with the server's limit.
func (s *Server) checkSize(bound int, m proto.Message) error {
	return checkSize(s.cfg.MaxRequestBytes, bound, m)
}

func putBound(r *pb.PutRequest) int { return opOverhead + len(r.Key) + len(r.Value) }

func deleteBound(r *pb.DeleteRangeRequest) int { return opOverhead + len(r.Key) + len(r.RangeEnd) }

// txnBound is 0 for a Txn that only reads: etcd limits writes alone.
func txnBound(r *pb.TxnRequest) int {
	if onlyRanges(r.Success) && onlyRanges(r.Failure) {
		return 0
	}
	return nestedBound(r)
}

func nestedBound(r *pb.TxnRequest) int {
	n := opOverhead
	for _, c := range r.Compare {
		n += opOverhead + len(c.Key) + len(c.RangeEnd) + len(c.GetValue())
	}
	for _, ops := range [...][]*pb.RequestOp{r.Success, r.Failure} {
		for _, op := range ops {
			n += opBound(op)
		}
	}
	return n
}

func opBound(op *pb.RequestOp) int {
	switch v := op.Request.(type) {
	case *pb.RequestOp_RequestRange:
		return opOverhead + len(v.RequestRange.Key) + len(v.RequestRange.RangeEnd)
	case *pb.RequestOp_RequestPut:
		return putBound(v.RequestPut)
	case *pb.RequestOp_RequestDeleteRange:
		return deleteBound(v.RequestDeleteRange)
	case *pb.RequestOp_RequestTxn:
		return nestedBound(v.RequestTxn)
	}
	return opOverhead
}

func onlyRanges(ops []*pb.RequestOp) bool {
	for _, op := range ops {
		if _, ok := op.Request.(*pb.RequestOp_RequestRange); !ok {
			return false
		}
	}
	return true
}
