package gateway

import (
	"context"
	"errors"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/kinsy/kinsy/pkg/mvcc"
)

// kvTxn answers /v3/kv/txn.
func (g *Gateway) kvTxn(ctx context.Context, o object) ([]byte, error) {
	d := txnDecoder{maxOps: g.limits.MaxTxnOps}
	r, err := d.txn(o, maxNested)
	if err != nil {
		return nil, err
	}
	if serializable, err := o.boolean("serializable"); err != nil {
		return nil, err
	} else if serializable {
		readLocally(r)
	}
	resp, err := g.runTxn(ctx, r)
	if err != nil {
		return nil, err
	}
	b := appendHeader([]byte{'{'}, resp.Header.GetRevision())
	return append(appendTxnFields(append(b, ','), r, resp), '}'), nil
}

// runTxn checks a Txn and has the engine evaluate it. The answer is that of r with
// its puts nested (see idlePuts).
func (g *Gateway) runTxn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	if err := g.limits.CheckTxn(r); err != nil {
		return nil, err
	}
	resp, err := g.cfg.KV.Txn(ctx, idlePuts(r))
	if err != nil {
		return nil, nameLease(r, err)
	}
	if len(resp.Responses) != len(branch(r, resp.Succeeded)) {
		return nil, errNoAnswer
	}
	return resp, nil
}

// errNoAnswer would be a bug of the engine.
var errNoAnswer = errors.New("an operation has no answer")

func branch(r *pb.TxnRequest, succeeded bool) []*pb.RequestOp {
	if succeeded {
		return r.Success
	}
	return r.Failure
}

// readLocally makes every Range of a Txn serializable.
func readLocally(r *pb.TxnRequest) {
	for _, op := range slices.Concat(r.Success, r.Failure) {
		if rr := op.GetRequestRange(); rr != nil {
			rr.Serializable = true
		}
	}
}

// idlePuts returns r with each put in a Txn of its own, which leaves a key alone that
// has value and lease already, so that no revision is made for nothing. Such a put
// asked for the previous value is answered by a Range of it.
func idlePuts(r *pb.TxnRequest) *pb.TxnRequest {
	return &pb.TxnRequest{Compare: r.Compare, Success: idleBranch(r.Success), Failure: idleBranch(r.Failure)}
}

func idleBranch(ops []*pb.RequestOp) []*pb.RequestOp {
	out := make([]*pb.RequestOp, len(ops))
	for i, op := range ops {
		out[i] = op
		switch v := op.Request.(type) {
		case *pb.RequestOp_RequestPut:
			if p := v.RequestPut; !p.IgnoreValue && !p.IgnoreLease {
				out[i] = &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: putIfNew(op, p)}}
			}
		case *pb.RequestOp_RequestTxn:
			out[i] = &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: idlePuts(v.RequestTxn)}}
		}
	}
	return out
}

func putIfNew(op *pb.RequestOp, p *pb.PutRequest) *pb.TxnRequest {
	value := p.Value
	if value == nil {
		value = []byte{}
	}
	t := &pb.TxnRequest{
		Compare: []*pb.Compare{
			{Key: p.Key, Target: pb.Compare_LEASE, TargetUnion: &pb.Compare_Lease{Lease: p.Lease}},
			{Key: p.Key, Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: value}},
		},
		Failure: []*pb.RequestOp{op},
	}
	if p.PrevKv {
		t.Success = []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: p.Key}}}}
	}
	return t
}

// nameLease adds to the error of a lease that is unknown which one it is, where the
// Txn has puts under one lease only.
func nameLease(r *pb.TxnRequest, err error) error {
	if !errors.Is(err, mvcc.ErrLeaseNotFound) {
		return err
	}
	leases := putLeases(nil, r)
	slices.Sort(leases)
	if leases = slices.Compact(leases); len(leases) == 1 {
		return &badLease{formatLease(leases[0])}
	}
	return errUnknownLease
}

func putLeases(leases []int64, r *pb.TxnRequest) []int64 {
	for _, op := range slices.Concat(r.Success, r.Failure) {
		if p := op.GetRequestPut(); p != nil && p.Lease != 0 {
			leases = append(leases, p.Lease)
		}
		if t := op.GetRequestTxn(); t != nil {
			leases = putLeases(leases, t)
		}
	}
	return leases
}

func appendTxnFields(b []byte, r *pb.TxnRequest, resp *pb.TxnResponse) []byte {
	b = append(b, `"succeeded":`...)
	if resp.Succeeded {
		b = append(b, "true"...)
	} else {
		b = append(b, "false"...)
	}
	b = append(b, `,"responses":[`...)
	for i, op := range branch(r, resp.Succeeded) {
		if i >= len(resp.Responses) {
			break
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"`...)
		b = append(b, responseName(op)...)
		b = append(b, `":{`...)
		b = appendOpFields(b, op, resp.Responses[i])
		b = append(b, "}}"...)
	}
	return append(b, ']')
}

func responseName(op *pb.RequestOp) string {
	switch op.Request.(type) {
	case *pb.RequestOp_RequestRange:
		return "response_range"
	case *pb.RequestOp_RequestPut:
		return "response_put"
	case *pb.RequestOp_RequestDeleteRange:
		return "response_delete_range"
	}
	return "response_txn"
}

// appendOpFields writes the answer of an operation of the client's, without braces.
func appendOpFields(b []byte, op *pb.RequestOp, resp *pb.ResponseOp) []byte {
	switch v := op.Request.(type) {
	case *pb.RequestOp_RequestRange:
		return appendRangeFields(b, v.RequestRange, resp.GetResponseRange())
	case *pb.RequestOp_RequestPut:
		if kv := previous(resp); kv != nil {
			b = append(b, `"prev_kv":`...)
			b = appendKV(b, kv)
		}
		return b
	case *pb.RequestOp_RequestDeleteRange:
		b = append(b, `"deleted":`...)
		b = appendInt(b, resp.GetResponseDeleteRange().GetDeleted())
		if v.RequestDeleteRange.PrevKv {
			b = append(b, `,"prev_kvs":`...)
			b = appendKVs(b, resp.GetResponseDeleteRange().GetPrevKvs(), false)
		}
		return b
	case *pb.RequestOp_RequestTxn:
		return appendTxnFields(b, v.RequestTxn, resp.GetResponseTxn())
	}
	return b
}

// previous is the key before a put, if it was asked for and there was one.
func previous(resp *pb.ResponseOp) *mvccpb.KeyValue {
	nested := resp.GetResponseTxn()
	if nested == nil {
		return resp.GetResponsePut().GetPrevKv()
	}
	if len(nested.Responses) == 0 {
		return nil
	}
	if kvs := nested.Responses[0].GetResponseRange().GetKvs(); len(kvs) > 0 {
		return kvs[0]
	}
	return nested.Responses[0].GetResponsePut().GetPrevKv()
}
