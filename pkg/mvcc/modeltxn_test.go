package mvcc

import (
	"bytes"
	"cmp"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// modelTxn evaluates one Txn on a model.
type modelTxn struct {
	m         *model
	d         *draft
	compacted int64 // the committed one: what reads are refused below
}

// txn gives the answer to a Txn and the model after it.
func (m *model) txn(r *pb.TxnRequest, compacted int64) (*pb.TxnResponse, model, error) {
	t := &modelTxn{m: m, d: m.begin(), compacted: compacted}
	plan := t.decide(r)
	if err := t.check(plan); err != nil {
		return nil, *m, err
	}
	resp, err := t.execute(plan)
	if err != nil {
		return nil, *m, err
	}
	resp.Header.Revision = t.rev()
	return resp, m.commit(t.d), nil
}

func (t *modelTxn) rev() int64 {
	if len(t.d.events) > 0 {
		return t.d.rev
	}
	return t.d.rev - 1
}

// plan is a Txn with its compares decided.
type plan struct {
	succeeded bool
	ops       []*pb.RequestOp
	nested    map[int]*plan // by position in ops
}

func (t *modelTxn) decide(r *pb.TxnRequest) *plan {
	p := &plan{succeeded: true, ops: r.Success, nested: map[int]*plan{}}
	for _, c := range r.Compare {
		p.succeeded = p.succeeded && t.holds(c)
	}
	if !p.succeeded {
		p.ops = r.Failure
	}
	for i, op := range p.ops {
		if n := op.GetRequestTxn(); n != nil {
			p.nested[i] = t.decide(n)
		}
	}
	return p
}

func (t *modelTxn) holds(c *pb.Compare) bool {
	kvs := inRange(t.m.state(t.m.rev()), c.Key, c.RangeEnd)
	if len(kvs) == 0 {
		if c.Target == pb.Compare_VALUE {
			return false
		}
		kvs = []*mvccpb.KeyValue{{}}
	}
	for _, kv := range kvs {
		var order int
		switch c.Target {
		case pb.Compare_VERSION:
			order = cmp.Compare(kv.Version, c.GetVersion())
		case pb.Compare_CREATE:
			order = cmp.Compare(kv.CreateRevision, c.GetCreateRevision())
		case pb.Compare_MOD:
			order = cmp.Compare(kv.ModRevision, c.GetModRevision())
		case pb.Compare_LEASE:
			order = cmp.Compare(kv.Lease, c.GetLease())
		case pb.Compare_VALUE:
			order = bytes.Compare(kv.Value, c.GetValue())
		}
		ok := map[pb.Compare_CompareResult]bool{
			pb.Compare_EQUAL: order == 0, pb.Compare_NOT_EQUAL: order != 0, pb.Compare_LESS: order < 0, pb.Compare_GREATER: order > 0,
		}[c.Result]
		if !ok {
			return false
		}
	}
	return true
}

func (t *modelTxn) check(p *plan) error {
	for i, op := range p.ops {
		if r := op.GetRequestRange(); r != nil && r.Revision != 0 {
			if err := t.m.readable(r.Revision, t.m.rev(), t.compacted); err != nil {
				return err
			}
		}
		if r := op.GetRequestPut(); r != nil {
			if _, ok := t.m.leases[r.Lease]; r.Lease != 0 && !ok {
				return ErrLeaseNotFound
			}
			if (r.IgnoreLease || r.IgnoreValue) && t.m.state(t.m.rev())[string(r.Key)] == nil {
				return ErrKeyNotFound
			}
		}
		if n := p.nested[i]; n != nil {
			if err := t.check(n); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *modelTxn) execute(p *plan) (*pb.TxnResponse, error) {
	resp := &pb.TxnResponse{Header: &pb.ResponseHeader{}, Succeeded: p.succeeded}
	for i, op := range p.ops {
		out, err := t.operation(op, p.nested[i])
		if err != nil {
			return nil, err
		}
		resp.Responses = append(resp.Responses, out)
	}
	return resp, nil
}

func (t *modelTxn) operation(op *pb.RequestOp, nested *plan) (*pb.ResponseOp, error) {
	switch o := op.Request.(type) {
	case *pb.RequestOp_RequestRange:
		state := t.d.state
		if rev := o.RequestRange.Revision; rev > 0 {
			state = t.m.state(rev)
		}
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: rangeState(state, o.RequestRange, t.rev())}}, nil
	case *pb.RequestOp_RequestPut:
		return t.put(o.RequestPut)
	case *pb.RequestOp_RequestDeleteRange:
		return t.deleteRange(o.RequestDeleteRange), nil
	}
	resp, err := t.execute(nested)
	return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseTxn{ResponseTxn: resp}}, err
}

func (t *modelTxn) put(r *pb.PutRequest) (*pb.ResponseOp, error) {
	value, lease, old := r.Value, r.Lease, t.d.state[string(r.Key)]
	if old == nil && (r.IgnoreLease || r.IgnoreValue) {
		return nil, ErrKeyNotFound
	}
	if r.IgnoreValue {
		value = old.Value
	}
	if r.IgnoreLease {
		lease = old.Lease
	}
	t.d.put(string(r.Key), value, lease)
	resp := &pb.PutResponse{Header: &pb.ResponseHeader{Revision: t.d.rev}}
	if r.PrevKv {
		resp.PrevKv = old
	}
	return &pb.ResponseOp{Response: &pb.ResponseOp_ResponsePut{ResponsePut: resp}}, nil
}

func (t *modelTxn) deleteRange(r *pb.DeleteRangeRequest) *pb.ResponseOp {
	old := inRange(t.d.state, r.Key, r.RangeEnd)
	for _, kv := range old {
		t.d.delete(string(kv.Key))
	}
	resp := &pb.DeleteRangeResponse{Header: &pb.ResponseHeader{Revision: t.rev()}, Deleted: int64(len(old))}
	if r.PrevKv {
		resp.PrevKvs = old
	}
	return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: resp}}
}
