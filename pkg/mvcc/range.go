package mvcc

import (
	"bytes"
	"cmp"
	"context"
	"math"
	"sort"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Range answers a Range request at the committed revision, or at the one it
// names (ErrCompacted, ErrFutureRevision). Only Header.Revision is filled in.
// The values in the answer are shared and must not be changed.
func (s *Store) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	pin := s.pins.enter()
	defer s.pins.leave(pin)
	current := s.committed.Load()
	if err := s.checkRevision(r.Revision, current); err != nil {
		return nil, err
	}
	f, err := s.selectRecords(ctx, r, current)
	if err != nil {
		return nil, err
	}
	return f.response(ctx, s)
}

// checkRevision refuses revisions that cannot be read. Revisions below 1 mean
// the current one.
func (s *Store) checkRevision(rev, current int64) error {
	switch {
	case rev > current:
		return ErrFutureRevision
	case rev > 0 && rev < s.compacted.Load():
		return ErrCompacted
	}
	return nil
}

// found is a Range request with the records it selects, before values are
// fetched, so that a Txn can find under Store.mu and fetch after.
type found struct {
	req     *pb.RangeRequest
	current int64 // for the header
	records []*record
	count   int64
}

// selectRecords selects the records for a request whose revision was checked.
func (s *Store) selectRecords(ctx context.Context, r *pb.RangeRequest, current int64) (*found, error) {
	f := &found{req: r, current: current}
	rev := r.Revision
	if rev <= 0 {
		rev = current
	}
	p := newSpan(r.Key, r.RangeEnd)
	var err error
	if r.CountOnly {
		f.count, err = s.countLive(ctx, p, rev)
		return f, err
	}
	f.records, err = s.collect(ctx, p, rev, findLimit(r), &f.count)
	return f, err
}

// findLimit is how many records are needed to answer: one more than the limit,
// to know whether there are more; all if the answer is filtered or sorted.
func findLimit(r *pb.RangeRequest) int64 {
	if !inKeyOrder(r) || filtered(r) || r.Limit <= 0 || r.Limit == math.MaxInt64 {
		return 0
	}
	return r.Limit + 1
}

func inKeyOrder(r *pb.RangeRequest) bool {
	return r.SortOrder == pb.RangeRequest_NONE ||
		(r.SortTarget == pb.RangeRequest_KEY && r.SortOrder == pb.RangeRequest_ASCEND)
}

func filtered(r *pb.RangeRequest) bool {
	return r.MinModRevision != 0 || r.MaxModRevision != 0 || r.MinCreateRevision != 0 || r.MaxCreateRevision != 0
}

// response filters, sorts, cuts and fetches.
func (f *found) response(ctx context.Context, s *Store) (*pb.RangeResponse, error) {
	r := f.req
	resp := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: f.current}, Count: f.count}
	if r.CountOnly {
		return resp, nil
	}
	records := f.records
	if filtered(r) {
		records = filter(records, r)
	}
	byValue := r.SortTarget == pb.RangeRequest_VALUE
	if !byValue {
		sortRecords(records, r)
		records, resp.More = cut(records, r.Limit)
	}
	kvs, err := s.keyValues(ctx, records, r.KeysOnly && !byValue)
	if err != nil {
		return nil, err
	}
	if byValue {
		sortByValue(kvs, r.SortOrder)
		kvs, resp.More = cut(kvs, r.Limit)
	}
	if r.KeysOnly {
		stripValues(kvs, r.SortTarget)
	}
	resp.Kvs = kvs
	return resp, nil
}

// stripValues leaves what etcd answers to keys_only: no value, and, unless it
// had to look at the values for sorting, no lease either.
func stripValues(kvs []*mvccpb.KeyValue, target pb.RangeRequest_SortTarget) {
	for _, kv := range kvs {
		kv.Value = nil
		if target != pb.RangeRequest_VALUE {
			kv.Lease = 0
		}
	}
}

func cut[T any](list []T, limit int64) ([]T, bool) {
	if limit > 0 && int64(len(list)) > limit {
		return list[:limit], true
	}
	return list, false
}

func filter(records []*record, r *pb.RangeRequest) []*record {
	kept := make([]*record, 0, len(records))
	for _, rec := range records {
		switch {
		case r.MaxModRevision != 0 && rec.mod > r.MaxModRevision:
		case r.MinModRevision != 0 && rec.mod < r.MinModRevision:
		case r.MaxCreateRevision != 0 && rec.create > r.MaxCreateRevision:
		case r.MinCreateRevision != 0 && rec.create < r.MinCreateRevision:
		default:
			kept = append(kept, rec)
		}
	}
	return kept
}

// sorter is sort.Interface for both records and messages. Equal elements end up
// where sort.Sort puts them, as in etcd, so that both answer alike.
type sorter[T any] struct {
	list    []T
	compare func(a, b T) int
}

func (s *sorter[T]) Len() int           { return len(s.list) }
func (s *sorter[T]) Swap(i, j int)      { s.list[i], s.list[j] = s.list[j], s.list[i] }
func (s *sorter[T]) Less(i, j int) bool { return s.compare(s.list[i], s.list[j]) < 0 }

// sortRecords sorts by anything but the value. A target without an order means
// ascending.
func sortRecords(records []*record, r *pb.RangeRequest) {
	if r.SortTarget == pb.RangeRequest_KEY && r.SortOrder != pb.RangeRequest_DESCEND {
		return
	}
	s := &sorter[*record]{list: records}
	switch r.SortTarget {
	case pb.RangeRequest_KEY:
		s.compare = func(a, b *record) int { return bytes.Compare(a.entry.key, b.entry.key) }
	case pb.RangeRequest_VERSION:
		s.compare = func(a, b *record) int { return cmp.Compare(a.version, b.version) }
	case pb.RangeRequest_CREATE:
		s.compare = func(a, b *record) int { return cmp.Compare(a.create, b.create) }
	case pb.RangeRequest_MOD:
		s.compare = func(a, b *record) int { return cmp.Compare(a.mod, b.mod) }
	default:
		return
	}
	runSort(s, r.SortOrder)
}

func sortByValue(kvs []*mvccpb.KeyValue, order pb.RangeRequest_SortOrder) {
	runSort(&sorter[*mvccpb.KeyValue]{
		list:    kvs,
		compare: func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Value, b.Value) },
	}, order)
}

func runSort(s sort.Interface, order pb.RangeRequest_SortOrder) {
	if order == pb.RangeRequest_DESCEND {
		s = sort.Reverse(s)
	}
	sort.Sort(s)
}
