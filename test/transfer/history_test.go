package transfer

import (
	"fmt"
	"math/rand/v2"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// longTTL is the TTL of leases that are not to run out during a test.
const longTTL = 3600

// history writes random changes to a server.
type history struct {
	t      testing.TB
	p      *peer
	rng    *rand.Rand
	rev    int64
	leases []int64
	nextID int64

	compacts bool
}

// What the seed decides about a history beside its changes.
const (
	endings        = 4
	neverCompacted = 1 // no compaction
	compactedHead  = 2 // ends with a compaction to a revision that deletes keys
	nothingLeft    = 3 // ends with everything deleted and compacted
)

// writeAll makes n random changes and one of the endings.
func writeAll(t testing.TB, p *peer, seed uint64, n int) {
	t.Helper()
	ending := seed % endings
	h := newHistory(t, p, seed, ending != neverCompacted)
	h.write(n)
	all := &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
		RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte{0}, RangeEnd: []byte{0}},
	}}
	switch ending {
	case compactedHead:
		for _, key := range []string{"x", "y", "z"} {
			h.txn(h.put([]byte(key)))
		}
		h.txn(&pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
			RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("x"), RangeEnd: []byte("z")},
		}}, h.put([]byte("z")))
		h.compactTo(h.rev, true)
		if seed%8 < 4 {
			h.txn(h.put([]byte("x")))
		}
	case nothingLeft:
		h.txn(h.put([]byte("x")))
		h.txn(all)
		if seed%8 < 4 {
			h.txn(h.put([]byte("y")))
			h.txn(all)
		}
		h.compactTo(h.rev, true)
	}
}

// write makes n random changes and returns the revision after them.
func write(t testing.TB, p *peer, seed uint64, n int) int64 {
	t.Helper()
	h := newHistory(t, p, seed, true)
	h.write(n)
	return h.rev
}

func newHistory(t testing.TB, p *peer, seed uint64, compacts bool) *history {
	return &history{t: t, p: p, rng: rand.New(rand.NewPCG(seed, 7)), rev: 1, nextID: 1000, compacts: compacts}
}

func (h *history) write(n int) {
	h.t.Helper()
	for range n {
		switch k := h.rng.IntN(100); {
		case k < 45:
			h.txn(h.put(h.key()))
		case k < 60:
			h.txn(h.delete())
		case k < 80:
			h.many()
		case k < 90:
			h.grant()
		case k < 94:
			h.revoke()
		case k < 97:
			h.compact()
		default: // a read-only Txn moves nothing
			h.txn(&pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: h.key()}}})
		}
	}
}

func (h *history) key() []byte {
	if h.rng.IntN(10) == 0 {
		return []byte{0xff, byte(h.rng.IntN(3)), 0, '\n'}
	}
	return fmt.Appendf(nil, "/registry/%c/%d", 'a'+h.rng.IntN(3), h.rng.IntN(8))
}

func (h *history) put(key []byte) *pb.RequestOp {
	value := make([]byte, h.rng.IntN(40))
	for i := range value {
		value[i] = byte(h.rng.IntN(256))
	}
	if h.rng.IntN(50) == 0 {
		value = make([]byte, 20_000)
	}
	r := &pb.PutRequest{Key: key, Value: value}
	if len(h.leases) > 0 && h.rng.IntN(3) == 0 {
		r.Lease = h.leases[h.rng.IntN(len(h.leases))]
	}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
}

func (h *history) delete() *pb.RequestOp {
	r := &pb.DeleteRangeRequest{Key: h.key()}
	if h.rng.IntN(3) == 0 {
		r.RangeEnd = append([]byte(nil), r.Key...)
		r.RangeEnd[len(r.RangeEnd)-1] += 3
	}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}
}

// many is a Txn of several keys: deletes of one half of them, puts of the other.
func (h *history) many() {
	var ops []*pb.RequestOp
	seen := map[string]bool{}
	for range 1 + h.rng.IntN(6) {
		key := h.key()
		if seen[string(key)] {
			continue
		}
		seen[string(key)] = true
		if h.rng.IntN(3) == 0 {
			ops = append(ops, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
				RequestDeleteRange: &pb.DeleteRangeRequest{Key: key},
			}})
			continue
		}
		ops = append(ops, h.put(key))
	}
	h.txn(ops...)
}

func (h *history) txn(ops ...*pb.RequestOp) {
	h.t.Helper()
	r, err := h.p.kv.Txn(call(h.t), &pb.TxnRequest{Success: ops})
	ok(h.t, err)
	h.rev = r.Header.Revision
}

func (h *history) grant() {
	h.nextID += 1 + h.rng.Int64N(1<<40)
	r, err := h.p.lease.LeaseGrant(call(h.t), &pb.LeaseGrantRequest{ID: h.nextID, TTL: longTTL + h.rng.Int64N(1000)})
	ok(h.t, err)
	h.leases = append(h.leases, r.ID)
}

func (h *history) revoke() {
	if len(h.leases) == 0 {
		return
	}
	i := h.rng.IntN(len(h.leases))
	r, err := h.p.lease.LeaseRevoke(call(h.t), &pb.LeaseRevokeRequest{ID: h.leases[i]})
	ok(h.t, err)
	h.leases = append(h.leases[:i], h.leases[i+1:]...)
	h.rev = r.Header.Revision
}

// compact compacts to a random revision, most of the time physically.
func (h *history) compact() {
	if h.rev < 10 || !h.compacts {
		return
	}
	h.compactTo(h.rev-h.rng.Int64N(min(h.rev-1, 40)), h.rng.IntN(4) > 0)
}

func (h *history) compactTo(rev int64, physical bool) {
	h.t.Helper()
	_, err := h.p.kv.Compact(call(h.t), &pb.CompactionRequest{Revision: rev, Physical: physical})
	if err != nil && !isCompacted(err) {
		h.t.Fatal(err)
	}
}
