package mvcc

import (
	"bytes"
	"math/rand/v2"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// gen makes random requests over few keys, so that they meet.
type gen struct {
	*rand.Rand
	seed uint64
	puts map[string]bool // keys that the Txn in the making puts: no key twice
}

func newGen(seed uint64) *gen {
	g := &gen{seed: seed}
	g.reseed(0)
	return g
}

func (g *gen) reseed(step uint64) { g.Rand = rand.New(rand.NewPCG(g.seed, step)) }

func (g *gen) chance(percent int) bool { return g.IntN(100) < percent }

func (g *gen) key() []byte { return []byte{'a' + byte(g.IntN(12))} }

// span gives a key and a range end: mostly a single key.
func (g *gen) span() (key, end []byte) {
	key = g.key()
	switch g.IntN(6) {
	case 0:
		return key, []byte{key[0] + 1 + byte(g.IntN(6))}
	case 1:
		return key, []byte{0}
	case 2:
		return []byte{0}, []byte{0}
	}
	return key, nil
}

func (g *gen) value() []byte {
	return bytes.Repeat([]byte{'0' + byte(g.IntN(10))}, g.IntN(30))
}

func (g *gen) lease() int64 {
	if g.chance(60) {
		return 0
	}
	return 1 + g.Int64N(6)
}

// revision is about one that exists: 0 means the current one.
func (g *gen) revision(current int64) int64 {
	switch g.IntN(4) {
	case 0:
		return max(0, current-g.Int64N(30))
	case 1:
		return current + g.Int64N(4) - 1
	}
	return 0
}

func (g *gen) rangeRequest(current int64) *pb.RangeRequest {
	r := &pb.RangeRequest{Revision: g.revision(current), KeysOnly: g.chance(15), CountOnly: g.chance(10)}
	r.Key, r.RangeEnd = g.span()
	if g.chance(30) {
		r.Limit = 1 + g.Int64N(5)
	}
	if g.chance(30) {
		r.SortOrder = pb.RangeRequest_SortOrder(1 + g.IntN(2))
		r.SortTarget = pb.RangeRequest_SortTarget(g.IntN(5))
	}
	for _, bound := range []*int64{&r.MinModRevision, &r.MaxModRevision, &r.MinCreateRevision, &r.MaxCreateRevision} {
		if g.chance(5) {
			*bound = g.Int64N(current + 1)
		}
	}
	return r
}

func (g *gen) compare(current int64) *pb.Compare {
	c := &pb.Compare{Target: pb.Compare_CompareTarget(g.IntN(5)), Result: pb.Compare_CompareResult(g.IntN(4))}
	if c.Key, c.RangeEnd = g.span(); g.chance(60) {
		c.RangeEnd = nil
	}
	switch c.Target {
	case pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: g.Int64N(3)}
	case pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: g.Int64N(2) * g.Int64N(current+1)}
	case pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: g.Int64N(2) * g.Int64N(current+1)}
	case pb.Compare_VALUE:
		c.TargetUnion = &pb.Compare_Value{Value: g.value()}
	case pb.Compare_LEASE:
		c.TargetUnion = &pb.Compare_Lease{Lease: g.lease()}
	}
	return c
}

func (g *gen) txn(current int64) *pb.TxnRequest {
	g.puts = map[string]bool{}
	return g.txnBody(current, 2)
}

func (g *gen) txnBody(current int64, depth int) *pb.TxnRequest {
	r := &pb.TxnRequest{}
	for range g.IntN(3) {
		r.Compare = append(r.Compare, g.compare(current))
	}
	for range 1 + g.IntN(3) {
		r.Success = append(r.Success, g.op(current, depth))
	}
	for range g.IntN(3) {
		r.Failure = append(r.Failure, g.op(current, depth))
	}
	return r
}

func (g *gen) op(current int64, depth int) *pb.RequestOp {
	n := g.IntN(10)
	switch {
	case n < 5:
		if p := g.put(); p != nil {
			return opPut(p)
		}
	case n < 7:
		d := &pb.DeleteRangeRequest{PrevKv: g.chance(50)}
		d.Key, d.RangeEnd = g.span()
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: d}}
	case n < 8 && depth > 0:
		return opTxn(g.txnBody(current, depth-1))
	}
	r := g.rangeRequest(current)
	if g.chance(80) {
		r.Revision = 0
	}
	return opRange(r)
}

// put gives nil if the Txn puts the key already.
func (g *gen) put() *pb.PutRequest {
	p := &pb.PutRequest{Key: g.key(), PrevKv: g.chance(30)}
	if g.puts[string(p.Key)] {
		return nil
	}
	g.puts[string(p.Key)] = true
	if p.IgnoreValue = g.chance(10); !p.IgnoreValue {
		p.Value = g.value()
	}
	if p.IgnoreLease = g.chance(10); !p.IgnoreLease {
		p.Lease = g.lease()
	}
	return p
}
