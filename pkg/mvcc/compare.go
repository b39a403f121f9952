package mvcc

import (
	"bytes"
	"cmp"
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// decide evaluates the compares of a Txn and of the Txns nested in the branches
// taken, all against the same revision, before anything is written. The result
// has one answer a Txn, in the order in which they are met.
func (s *Store) decide(ctx context.Context, r *pb.TxnRequest, rev int64, path []bool) ([]bool, error) {
	ok, err := s.compareAll(ctx, r.Compare, rev)
	if err != nil {
		return nil, err
	}
	path = append(path, ok)
	for _, op := range branch(r, ok) {
		nested := op.GetRequestTxn()
		if nested == nil {
			continue
		}
		if path, err = s.decide(ctx, nested, rev, path); err != nil {
			return nil, err
		}
	}
	return path, nil
}

func branch(r *pb.TxnRequest, succeeded bool) []*pb.RequestOp {
	if succeeded {
		return r.Success
	}
	return r.Failure
}

func (s *Store) compareAll(ctx context.Context, compares []*pb.Compare, rev int64) (bool, error) {
	for _, c := range compares {
		ok, err := s.compareOne(ctx, c, rev)
		if !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// compareOne compares every live key of the compare's range. An absent key has
// all numbers 0, and no value: a compare of its value fails.
func (s *Store) compareOne(ctx context.Context, c *pb.Compare, rev int64) (bool, error) {
	p := newSpan(c.Key, c.RangeEnd)
	if p.single {
		return s.compareRecord(ctx, c, s.find(c.Key, rev))
	}
	records, err := s.collect(ctx, p, rev, 0, nil)
	if err != nil {
		return false, err
	}
	if len(records) == 0 {
		return s.compareRecord(ctx, c, nil)
	}
	for _, r := range records {
		ok, err := s.compareRecord(ctx, c, r)
		if !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (s *Store) compareRecord(ctx context.Context, c *pb.Compare, r *record) (bool, error) {
	if c.Target == pb.Compare_VALUE {
		if r == nil {
			return false, nil
		}
		value, err := s.value(ctx, r)
		if err != nil {
			return false, err
		}
		return holds(c.Result, bytes.Compare(value, c.GetValue())), nil
	}
	if r == nil {
		r = &record{}
	}
	return holds(c.Result, compareNumber(c, r)), nil
}

func compareNumber(c *pb.Compare, r *record) int {
	switch c.Target {
	case pb.Compare_VERSION:
		return cmp.Compare(r.version, c.GetVersion())
	case pb.Compare_CREATE:
		return cmp.Compare(r.create, c.GetCreateRevision())
	case pb.Compare_MOD:
		return cmp.Compare(r.mod, c.GetModRevision())
	case pb.Compare_LEASE:
		return cmp.Compare(r.lease, c.GetLease())
	}
	return 0
}

func holds(want pb.Compare_CompareResult, result int) bool {
	switch want {
	case pb.Compare_EQUAL:
		return result == 0
	case pb.Compare_NOT_EQUAL:
		return result != 0
	case pb.Compare_GREATER:
		return result > 0
	case pb.Compare_LESS:
		return result < 0
	}
	return true
}
