package mvcc

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// model is the whole history, kept in the plainest way. It is a value: what
// changes it makes a new one that shares the past.
type model struct {
	revs      []modelRev // revs[i] is revision i+1
	compacted int64
	leases    map[int64]int64 // granted TTL by id
}

type modelRev struct {
	state  map[string]*mvccpb.KeyValue
	events []modelEvent
}

type modelEvent struct {
	kv       *mvccpb.KeyValue
	deleted  bool
	replaced bool // by a later event of the same revision
}

func newModel() model {
	return model{revs: []modelRev{{state: map[string]*mvccpb.KeyValue{}}}, leases: map[int64]int64{}}
}

func (m *model) rev() int64 { return int64(len(m.revs)) }

func (m *model) state(rev int64) map[string]*mvccpb.KeyValue { return m.revs[rev-1].state }

// draft is a revision in the making.
type draft struct {
	rev    int64
	state  map[string]*mvccpb.KeyValue
	events []modelEvent
}

func (m *model) begin() *draft {
	return &draft{rev: m.rev() + 1, state: maps.Clone(m.state(m.rev()))}
}

func (d *draft) add(kv *mvccpb.KeyValue, deleted bool) {
	for i := range d.events {
		if bytes.Equal(d.events[i].kv.Key, kv.Key) {
			d.events[i].replaced = true
		}
	}
	d.events = append(d.events, modelEvent{kv: kv, deleted: deleted})
	if deleted {
		delete(d.state, string(kv.Key))
		return
	}
	d.state[string(kv.Key)] = kv
}

func (d *draft) put(key string, value []byte, lease int64) {
	kv := &mvccpb.KeyValue{Key: []byte(key), Value: value, Lease: lease, CreateRevision: d.rev, ModRevision: d.rev, Version: 1}
	if old := d.state[key]; old != nil {
		kv.CreateRevision, kv.Version = old.CreateRevision, old.Version+1
	}
	d.add(kv, false)
}

func (d *draft) delete(key string) {
	d.add(&mvccpb.KeyValue{Key: []byte(key), ModRevision: d.rev}, true)
}

// commit gives the model with the draft's revision, if it changed anything.
func (m model) commit(d *draft) model {
	if len(d.events) > 0 {
		m.revs = append(m.revs[:len(m.revs):len(m.revs)], modelRev{state: d.state, events: d.events})
	}
	return m
}

func (m model) grant(id, ttl int64) model {
	m.leases = maps.Clone(m.leases)
	m.leases[id] = max(ttl, MinLeaseTTL)
	return m
}

func (m model) revoke(id int64) model {
	d := m.begin()
	for _, key := range m.attached(id) {
		d.delete(key)
	}
	m = m.commit(d)
	m.leases = maps.Clone(m.leases)
	delete(m.leases, id)
	return m
}

func (m *model) attached(id int64) []string {
	var keys []string
	for key, kv := range m.state(m.rev()) {
		if kv.Lease == id {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func (m *model) readable(rev, current, compacted int64) error {
	switch {
	case rev > current:
		return ErrFutureRevision
	case rev > 0 && rev < compacted:
		return ErrCompacted
	}
	return nil
}

func inSpan(key, from, end string) bool {
	switch end {
	case "":
		return key == from
	case "\x00":
		return key >= from
	}
	return key >= from && key < end
}

func inRange(state map[string]*mvccpb.KeyValue, from, end []byte) []*mvccpb.KeyValue {
	var kvs []*mvccpb.KeyValue
	for key, kv := range state {
		if inSpan(key, string(from), string(end)) {
			kvs = append(kvs, kv)
		}
	}
	slices.SortFunc(kvs, func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Key, b.Key) })
	return kvs
}

// sortBy orders two values as a Range's sort target does.
func sortBy(target pb.RangeRequest_SortTarget, a, b *mvccpb.KeyValue) int {
	switch target {
	case pb.RangeRequest_VERSION:
		return cmp.Compare(a.Version, b.Version)
	case pb.RangeRequest_CREATE:
		return cmp.Compare(a.CreateRevision, b.CreateRevision)
	case pb.RangeRequest_MOD:
		return cmp.Compare(a.ModRevision, b.ModRevision)
	case pb.RangeRequest_VALUE:
		return bytes.Compare(a.Value, b.Value)
	}
	return bytes.Compare(a.Key, b.Key)
}

// rangeState answers a Range. Values that are equal in the sort target may come
// in any order: see sameRange.
func rangeState(state map[string]*mvccpb.KeyValue, r *pb.RangeRequest, current int64) *pb.RangeResponse {
	kvs := inRange(state, r.Key, r.RangeEnd)
	resp := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: current}, Count: int64(len(kvs))}
	if r.CountOnly {
		return resp
	}
	kvs = slices.DeleteFunc(kvs, func(kv *mvccpb.KeyValue) bool {
		return r.MinModRevision > kv.ModRevision || (r.MaxModRevision != 0 && r.MaxModRevision < kv.ModRevision) ||
			r.MinCreateRevision > kv.CreateRevision || (r.MaxCreateRevision != 0 && r.MaxCreateRevision < kv.CreateRevision)
	})
	slices.SortStableFunc(kvs, func(a, b *mvccpb.KeyValue) int {
		if r.SortOrder == pb.RangeRequest_DESCEND {
			a, b = b, a
		}
		return sortBy(r.SortTarget, a, b)
	})
	if r.Limit > 0 && int64(len(kvs)) > r.Limit {
		kvs, resp.More = kvs[:r.Limit], true
	}
	for _, kv := range kvs {
		c := &mvccpb.KeyValue{Key: kv.Key, Value: kv.Value, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision, Version: kv.Version, Lease: kv.Lease}
		if r.KeysOnly {
			c.Value = nil
			if r.SortTarget != pb.RangeRequest_VALUE {
				c.Lease = 0
			}
		}
		resp.Kvs = append(resp.Kvs, c)
	}
	return resp
}

// describe names a value on one line.
func describe(kvs []*mvccpb.KeyValue) string {
	var b strings.Builder
	for _, kv := range kvs {
		b.WriteString(kv.String())
		b.WriteString("; ")
	}
	return b.String()
}
