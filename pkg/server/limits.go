package server

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/protobuf/proto"
)

// Limits are what a Txn is held to before it reaches the engine. They are for
// fronts of the engine other than this package's.
type Limits struct {
	// MaxRequestBytes limits the encoded size of a Txn that writes.
	MaxRequestBytes int
	// MaxTxnOps limits compares and operations, per list.
	MaxTxnOps int
}

// CheckTxn applies etcd's checks to a Txn: keys, numbers of operations, keys that
// are written twice, size. Its errors are gRPC's. Profiles do not come into it.
func (l Limits) CheckTxn(r *pb.TxnRequest) error {
	if err := checkOps(r, l.MaxTxnOps); err != nil {
		return err
	}
	return checkSize(l.MaxRequestBytes, txnBound(r), r)
}

// CheckRange applies etcd's checks to a Range. Its errors are gRPC's.
func CheckRange(r *pb.RangeRequest) error { return checkRange(r) }

// checkOps applies the checks that need no more than the Txn.
func checkOps(r *pb.TxnRequest, maxOps int) error {
	if err := checkTxn(r, maxOps); err != nil {
		return err
	}
	if err := checkOverlap(r.Success); err != nil {
		return err
	}
	return checkOverlap(r.Failure)
}

// checkSize refuses a write whose encoding is larger than the limit. The bound
// is a cheap upper estimate; the exact size is computed only when it may matter.
func checkSize(limit, bound int, m proto.Message) error {
	if bound <= limit || proto.Size(m) <= limit {
		return nil
	}
	return rpctypes.ErrGRPCRequestTooLarge
}
