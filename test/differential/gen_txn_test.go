package differential

import (
	"bytes"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// maxDepth is how deep Txns are nested; maxTxnOps is etcd's default limit.
const (
	maxDepth  = 3
	maxTxnOps = 128
)

func (g *generator) txnOp() op {
	t := g.txn(0)
	if g.chance(2) {
		g.crowd(t)
	}
	if g.chance(85) {
		g.thin(t.Success, &span{})
		g.thin(t.Failure, &span{})
	}
	spare(t)
	return g.op(kindCall, t)
}

// weaveOp makes a Txn that puts and deletes one key several times in one revision, in the ways that get past etcd's
// check for duplicates: a delete up to the end of the key space, and a delete nested beside a put.
func (g *generator) weaveOp() op {
	key := g.key()
	t := &pb.TxnRequest{}
	for range 2 + g.rng.IntN(4) {
		put := &pb.PutRequest{Key: key, Value: g.value(), Lease: g.lease(), PrevKv: g.chance(50)}
		del := &pb.DeleteRangeRequest{Key: key, PrevKv: g.chance(50)}
		var o *pb.RequestOp
		switch g.weighted([]int{25, 20, 20, 15, 20}) {
		case 0:
			del.RangeEnd = []byte{0}
			o = deleteAction(del)
		case 1:
			o = putAction(put)
		case 2:
			o = txnAction(putAction(put))
		case 3:
			o = txnAction(deleteAction(del))
		default:
			o = rangeAction(&pb.RangeRequest{Key: key, RangeEnd: g.rangeEnd(key), Revision: one(g, 0, 0, g.revision())})
		}
		t.Success = append(t.Success, o)
	}
	spare(t)
	return g.op(kindCall, t)
}

func (g *generator) txn(depth int) *pb.TxnRequest {
	t := &pb.TxnRequest{}
	for range g.weighted([]int{30, 40, 20, 8, 2}) {
		t.Compare = append(t.Compare, g.compareOp())
	}
	t.Success, t.Failure = g.branch(depth), g.branch(depth)
	return t
}

func (g *generator) branch(depth int) []*pb.RequestOp {
	var ops []*pb.RequestOp
	readOnly := g.chance(15)
	for range g.weighted([]int{12, 40, 25, 12, 8, 3}) {
		ops = append(ops, g.requestOp(depth, readOnly))
	}
	return ops
}

func (g *generator) requestOp(depth int, readOnly bool) *pb.RequestOp {
	n := g.rng.IntN(200)
	switch {
	case n == 0:
		return &pb.RequestOp{}
	case readOnly || n < 55:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: g.rangeReq()}}
	case n < 130:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: g.put()}}
	case n < 170 || depth+1 >= maxDepth:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: g.deleteReq()}}
	default:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: g.txn(depth + 1)}}
	}
}

// crowd fills one list of a Txn up to about the limit.
func (g *generator) crowd(t *pb.TxnRequest) {
	n := maxTxnOps - 1 + g.rng.IntN(3)
	switch g.rng.IntN(3) {
	case 0:
		for len(t.Compare) < n {
			t.Compare = append(t.Compare, g.compareOp())
		}
	case 1:
		for len(t.Success) < n {
			t.Success = append(t.Success, g.requestOp(maxDepth, true))
		}
	default:
		for len(t.Failure) < n {
			t.Failure = append(t.Failure, g.requestOp(maxDepth, true))
		}
	}
}

// compareOp makes a compare, mostly against the value that etcd had a few operations ago.
func (g *generator) compareOp() *pb.Compare {
	kv := &mvccpb.KeyValue{Key: g.key()}
	if len(g.kvs) > 0 && g.chance(60) {
		kv = one(g, g.kvs...)
	}
	c := &pb.Compare{
		Key: kv.Key, Result: one[pb.Compare_CompareResult](g, 0, 0, 0, 1, 2, 3), Target: pb.Compare_CompareTarget(g.rng.IntN(5)),
	}
	if g.chance(15) {
		c.RangeEnd = g.rangeEnd(c.Key)
	}
	union := c.Target
	switch {
	case g.chance(2):
		return c
	case g.chance(3):
		union = pb.Compare_CompareTarget(g.rng.IntN(5))
	case g.chance(1):
		c.Target = 9
	case g.chance(1):
		c.Result = 9
	}
	g.fillUnion(c, union, kv)
	return c
}

func (g *generator) fillUnion(c *pb.Compare, union pb.Compare_CompareTarget, kv *mvccpb.KeyValue) {
	off := one[int64](g, 0, 0, 0, 0, 1, -1)
	switch union {
	case pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: kv.Version + off}
	case pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: kv.CreateRevision + off}
	case pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: kv.ModRevision + off}
	case pb.Compare_VALUE:
		value := kv.Value
		if off != 0 || len(value) > 1000 {
			value = []byte("v1")
		}
		c.TargetUnion = &pb.Compare_Value{Value: value}
	case pb.Compare_LEASE:
		c.TargetUnion = &pb.Compare_Lease{Lease: kv.Lease + off}
	}
}

// span is what the operations of a Txn seen so far put and delete.
type span struct {
	puts [][]byte
	dels []*pb.DeleteRangeRequest
}

// covers says whether the request deletes the key, if it is there.
func covers(d *pb.DeleteRangeRequest, key []byte) bool {
	switch {
	case len(d.RangeEnd) == 0:
		return bytes.Equal(d.Key, key)
	case bytes.Equal(d.RangeEnd, []byte{0}):
		return bytes.Compare(key, d.Key) >= 0
	default:
		return bytes.Compare(key, d.Key) >= 0 && bytes.Compare(key, d.RangeEnd) < 0
	}
}

// thin replaces most operations that etcd would refuse as duplicates by reads: left alone, hardly any Txn of some
// size would be carried out.
func (g *generator) thin(ops []*pb.RequestOp, s *span) {
	for i, o := range ops {
		clash := false
		switch q := o.Request.(type) {
		case *pb.RequestOp_RequestPut:
			clash = s.clashes(q.RequestPut.Key)
			s.puts = append(s.puts, q.RequestPut.Key)
		case *pb.RequestOp_RequestDeleteRange:
			for _, k := range s.puts {
				clash = clash || covers(q.RequestDeleteRange, k)
			}
			s.dels = append(s.dels, q.RequestDeleteRange)
		case *pb.RequestOp_RequestTxn:
			g.thin(q.RequestTxn.Success, s)
			g.thin(q.RequestTxn.Failure, s)
		}
		if clash && g.chance(80) {
			ops[i] = &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: g.rangeReq()}}
		}
	}
}

func (s *span) clashes(key []byte) bool {
	for _, k := range s.puts {
		if bytes.Equal(k, key) {
			return true
		}
	}
	for _, d := range s.dels {
		if covers(d, key) {
			return true
		}
	}
	return false
}

// rebirths returns the puts of a Txn on keys that it may have deleted before.
func rebirths(t *pb.TxnRequest) []*pb.PutRequest {
	var dels []*pb.DeleteRangeRequest
	var puts []*pb.PutRequest
	walk(t, func(o *pb.RequestOp) {
		if d := o.GetRequestDeleteRange(); d != nil {
			dels = append(dels, d)
		}
	})
	walk(t, func(o *pb.RequestOp) {
		p := o.GetRequestPut()
		if p != nil && slices.ContainsFunc(dels, func(d *pb.DeleteRangeRequest) bool { return covers(d, p.Key) }) {
			puts = append(puts, p)
		}
	})
	return puts
}

// spare drops the flags of which etcd dies: ignore_value and ignore_lease on a key that the Txn may have deleted.
func spare(t *pb.TxnRequest) {
	for _, p := range rebirths(t) {
		p.IgnoreValue, p.IgnoreLease = false, false
	}
}

// walk calls f for every operation of a Txn and of those nested in it.
func walk(t *pb.TxnRequest, f func(*pb.RequestOp)) {
	for _, ops := range [][]*pb.RequestOp{t.Success, t.Failure} {
		for _, o := range ops {
			f(o)
			if n := o.GetRequestTxn(); n != nil {
				walk(n, f)
			}
		}
	}
}
