package differential

import (
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// The limits and the lease values that requests use.
var (
	limits    = []int64{1, 2, 3, 4, 5, 10, 11, 100, math.MaxInt64, -1, math.MinInt64}
	leasePool = []int64{1, 2, 3, 4, 5, 6, -3, math.MaxInt64, math.MinInt64}
	leaseTTLs = []int64{1000, 1000, 3600, 86400, 9_000_000_000, 9_000_000_001, math.MaxInt64}
	briefTTLs = []int64{0, 1, -1, math.MinInt64, 2, 60, 9_000_000_001}
)

func (g *generator) putOp() op { return g.op(kindCall, g.put()) }

func (g *generator) put() *pb.PutRequest {
	r := &pb.PutRequest{Key: g.key(), Value: g.value(), Lease: g.lease(), PrevKv: g.chance(30)}
	if g.chance(10) {
		r.IgnoreValue = true
		if g.chance(85) {
			r.Value = nil
		}
	}
	if g.chance(10) {
		r.IgnoreLease = true
		if g.chance(85) {
			r.Lease = 0
		}
	}
	return r
}

func (g *generator) rangeOp() op { return g.op(kindCall, g.rangeReq()) }

func (g *generator) rangeReq() *pb.RangeRequest {
	r := &pb.RangeRequest{Key: g.key(), Revision: g.revision(), Serializable: g.chance(30)}
	r.RangeEnd = g.rangeEnd(r.Key)
	if g.chance(8) {
		r.Key, r.RangeEnd = []byte{0}, []byte{0}
	}
	if g.chance(50) {
		r.Limit = one(g, limits...)
	}
	r.KeysOnly, r.CountOnly = g.chance(15), g.chance(10)
	if g.chance(40) {
		r.SortOrder = one(g, pb.RangeRequest_NONE, pb.RangeRequest_ASCEND, pb.RangeRequest_DESCEND)
		r.SortTarget = pb.RangeRequest_SortTarget(g.rng.IntN(5))
	}
	if g.chance(1) {
		r.SortOrder, r.SortTarget = one[pb.RangeRequest_SortOrder](g, 0, 3, -1), one[pb.RangeRequest_SortTarget](g, 0, 5, -1)
	}
	if g.chance(20) {
		r.MinModRevision, r.MaxModRevision = g.filterRevision(), g.filterRevision()
		r.MinCreateRevision, r.MaxCreateRevision = g.filterRevision(), g.filterRevision()
	}
	return r
}

// rangeStreamOp reads a stream. A sort target without an order is left out: etcd takes it for no order, but sorts each
// chunk by it, so that rows come twice or never and the count depends on how etcd cuts its chunks.
func (g *generator) rangeStreamOp() op {
	r := g.rangeReq()
	if r.SortOrder == pb.RangeRequest_NONE && r.SortTarget >= 0 && r.SortTarget <= pb.RangeRequest_VALUE {
		r.SortTarget = pb.RangeRequest_KEY
	}
	if g.chance(85) {
		r.SortOrder, r.SortTarget = pb.RangeRequest_NONE, pb.RangeRequest_KEY
		r.MinModRevision, r.MaxModRevision, r.MinCreateRevision, r.MaxCreateRevision = 0, 0, 0, 0
	}
	return g.op(kindStream, r)
}

func (g *generator) deleteOp() op { return g.op(kindCall, g.deleteReq()) }

func (g *generator) deleteReq() *pb.DeleteRangeRequest {
	r := &pb.DeleteRangeRequest{Key: g.key(), PrevKv: g.chance(40)}
	if g.chance(35) {
		r.RangeEnd = g.rangeEnd(r.Key)
	}
	return r
}

func (g *generator) compactOp() op {
	if !g.run.progressable(streamFuture) {
		return g.op(kindSettle, nil)
	}
	head, compacted := g.run.head, g.run.compacted
	rev := one(g, compacted, compacted-1, head, head-1, head+1, head-g.rng.Int64N(20),
		compacted+1+g.rng.Int64N(max(head-compacted, 1)), compacted+1+g.rng.Int64N(max(head-compacted, 1)),
		0, -1, math.MaxInt64)
	return g.op(kindCompact, &pb.CompactionRequest{Revision: rev, Physical: g.chance(50)})
}

func (g *generator) hashOp() op {
	return g.op(kindCall, &pb.HashKVRequest{Revision: g.revision()})
}

func (g *generator) leaseOp() op {
	id := one(g, leasePool...)
	switch g.weighted([]int{30, 8, 14, 20, 20, 8}) {
	case 0:
		return g.op(kindCall, &pb.LeaseGrantRequest{ID: id, TTL: one(g, leaseTTLs...)})
	case 1:
		return g.op(kindBrief, &pb.LeaseGrantRequest{ID: one(g, 0, 0, id), TTL: one(g, briefTTLs...)})
	case 2:
		return g.op(kindCall, &pb.LeaseRevokeRequest{ID: one(g, id, id, 0, 7777)})
	case 3:
		return g.op(kindCall, &pb.LeaseKeepAliveRequest{ID: one(g, id, id, 0, 7777)})
	case 4:
		return g.op(kindCall, &pb.LeaseTimeToLiveRequest{ID: one(g, id, id, 0, 7777), Keys: g.chance(70)})
	default:
		return g.op(kindCall, &pb.LeaseLeasesRequest{})
	}
}

// maxWatches bounds the watches of one stream.
const maxWatches = 10

func (g *generator) watchOp() op {
	stream := g.rng.IntN(streamCount)
	if len(g.run.watches[stream]) >= maxWatches {
		return g.cancelOp()
	}
	r := &pb.WatchCreateRequest{Key: g.key(), PrevKv: g.chance(50), Fragment: g.chance(30), ProgressNotify: g.chance(10)}
	r.RangeEnd = g.rangeEnd(r.Key)
	if g.chance(25) {
		r.Key, r.RangeEnd = []byte{0}, []byte{0}
	}
	r.StartRevision = g.startRevision(stream)
	for _, f := range []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT, pb.WatchCreateRequest_NODELETE, 9} {
		if g.chance(8) {
			r.Filters = append(r.Filters, f)
		}
	}
	if g.chance(30) {
		r.WatchId = one[int64](g, 1, 2, 3, 4, 5, 100, -7, math.MaxInt64, math.MinInt64)
	}
	return op{kind: kindWatch, req: r, stream: stream, head: g.run.head}
}

func (g *generator) startRevision(stream int) int64 {
	head, compacted := g.run.head, g.run.compacted
	switch {
	case stream == streamNever:
		return one(g, head+100_000_000, math.MaxInt64, math.MaxInt64-1)
	case stream == streamFuture && g.chance(60):
		return head + 1 + g.rng.Int64N(15)
	}
	return one(g, 0, 0, 0, 1, head, head-g.rng.Int64N(30), compacted-1, compacted, compacted+1,
		compacted+g.rng.Int64N(max(head-compacted, 1)+1), -1, math.MinInt64)
}

// cancelOp cancels a watch, or an id that is not in use. Where progress can not be asked for there is no telling
// which events still come before the answer, so watches that wait for a revision are left alone.
func (g *generator) cancelOp() op {
	stream := g.rng.IntN(streamCount)
	id := one[int64](g, 55, 66, -9, 0, 1, 2, 3, 100)
	if n := len(g.run.watches[stream]); n > 0 && g.chance(85) {
		skip := g.rng.IntN(n)
		for _, id = range g.run.watchIDs(stream) {
			if skip--; skip < 0 {
				break
			}
		}
	}
	if _, known := g.run.watches[stream][id]; known && stream == streamFuture && !g.run.progressable(stream) {
		return g.op(kindSettle, nil)
	}
	return op{kind: kindCancel, req: &pb.WatchCancelRequest{WatchId: id}, stream: stream, head: g.run.head}
}

func (g *generator) settleOp() op {
	if g.chance(20) {
		return g.op(kindState, nil)
	}
	if g.chance(20) {
		return g.op(kindCall, &pb.AlarmRequest{})
	}
	return g.op(kindSettle, nil)
}
