package server

import (
	"cmp"
	"slices"
	"sort"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// checkOverlap refuses a branch that puts a key twice, or puts a key that it
// also deletes. The rules are etcd's to the letter, holes included: a delete
// from a key to the end of the key space ("\x00") covers nothing here, and of
// two sibling Txns only a put after a delete is found, not a delete after a put.
// The branch must have passed checkTxn, which bounds its depth.
func checkOverlap(ops []*pb.RequestOp) error {
	if !mayOverlap(ops) {
		return nil
	}
	_, err := collectMutations(ops)
	return err
}

// mayOverlap is false for the branches clients usually send: one mutation, or
// none, and no nested Txn.
func mayOverlap(ops []*pb.RequestOp) bool {
	n := 0
	for _, op := range ops {
		switch op.Request.(type) {
		case *pb.RequestOp_RequestTxn:
			return true
		case *pb.RequestOp_RequestPut, *pb.RequestOp_RequestDeleteRange:
			n++
		}
	}
	return n > 1
}

// mutations is what a branch puts and deletes, nested Txns included.
type mutations struct {
	puts map[string]struct{}
	dels spanSet
}

// collectMutations looks at deletes first, then at nested Txns in order, then
// at the puts of this level.
func collectMutations(ops []*pb.RequestOp) (*mutations, error) {
	m := &mutations{puts: make(map[string]struct{})}
	for _, op := range ops {
		if d := op.GetRequestDeleteRange(); d != nil {
			m.dels.add(deleteSpan(d))
		}
	}
	for _, op := range ops {
		if t := op.GetRequestTxn(); t != nil {
			if err := m.absorb(t); err != nil {
				return nil, err
			}
		}
	}
	for _, op := range ops {
		if p := op.GetRequestPut(); p != nil {
			if err := m.put(string(p.Key), nil); err != nil {
				return nil, err
			}
		}
	}
	return m, nil
}

// absorb adds what a nested Txn does. Its branches exclude each other, so both
// may put the same key.
func (m *mutations) absorb(t *pb.TxnRequest) error {
	success, err := collectMutations(t.Success)
	if err != nil {
		return err
	}
	failure, err := collectMutations(t.Failure)
	if err != nil {
		return err
	}
	for k := range success.puts {
		if err := m.put(k, nil); err != nil {
			return err
		}
	}
	for k := range failure.puts {
		if err := m.put(k, success.puts); err != nil {
			return err
		}
	}
	m.dels.add(success.dels.spans...)
	m.dels.add(failure.dels.spans...)
	return nil
}

// put adds a key; it may be there already if it is in allowed.
func (m *mutations) put(key string, allowed map[string]struct{}) error {
	if _, twice := m.puts[key]; twice {
		if _, ok := allowed[key]; !ok {
			return rpctypes.ErrGRPCDuplicateKey
		}
	}
	if m.dels.contains(key) {
		return rpctypes.ErrGRPCDuplicateKey
	}
	m.puts[key] = struct{}{}
	return nil
}

// span is the keys from begin to before end; none when end <= begin.
type span struct{ begin, end string }

func deleteSpan(d *pb.DeleteRangeRequest) span {
	if len(d.RangeEnd) == 0 {
		return span{string(d.Key), string(d.Key) + "\x00"}
	}
	return span{string(d.Key), string(d.RangeEnd)}
}

// spanSet is a union of spans. They are sorted and joined when first asked for
// after a change, so that a large Txn costs no more than sorting its deletes.
type spanSet struct {
	spans []span
	dirty bool
}

func (s *spanSet) add(spans ...span) {
	s.spans = append(s.spans, spans...)
	s.dirty = s.dirty || len(spans) > 0
}

func (s *spanSet) contains(key string) bool {
	s.join()
	after := sort.Search(len(s.spans), func(i int) bool { return s.spans[i].begin > key })
	return after > 0 && key < s.spans[after-1].end
}

// join sorts the spans, drops empty ones and joins those that touch.
func (s *spanSet) join() {
	if !s.dirty {
		return
	}
	s.dirty = false
	s.spans = slices.DeleteFunc(s.spans, func(x span) bool { return x.end <= x.begin })
	slices.SortFunc(s.spans, func(a, b span) int { return cmp.Compare(a.begin, b.begin) })
	joined := s.spans[:0]
	for _, x := range s.spans {
		if n := len(joined); n > 0 && x.begin <= joined[n-1].end {
			joined[n-1].end = max(joined[n-1].end, x.end)
			continue
		}
		joined = append(joined, x)
	}
	s.spans = joined
}
