package sqllog_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// indexed is a log with the index over it.
type indexed struct {
	t     *testing.T
	path  string
	log   *sqllog.Log
	store *mvcc.Store
}

func openIndexed(t *testing.T, path string) *indexed {
	t.Helper()
	x := &indexed{t: t, path: path}
	x.open()
	t.Cleanup(x.close)
	return x
}

func (x *indexed) open() {
	x.t.Helper()
	var err error
	x.log, err = sqllog.Open(x.t.Context(), sqllog.Config{Path: x.path})
	x.check(err)
	x.store, err = mvcc.Open(x.t.Context(), x.log, mvcc.Config{})
	x.check(err)
}

func (x *indexed) close() {
	x.store.Close()
	x.check(x.log.Close())
}

func (x *indexed) check(err error) {
	x.t.Helper()
	if err != nil {
		x.t.Fatal(err)
	}
}

// commit takes the rows that fn evaluates through the log.
func (x *indexed) commit(fn func(b *mvcc.Batch) error) {
	x.t.Helper()
	var b mvcc.Batch
	x.check(fn(&b))
	x.check(x.log.Append(b.Rows))
	x.store.Publish(&b)
}

func (x *indexed) txn(ops ...*pb.RequestOp) {
	x.t.Helper()
	x.commit(func(b *mvcc.Batch) error {
		answer, err := x.store.EvaluateTxn(context.Background(), b, &pb.TxnRequest{Success: ops})
		if err == nil {
			answer.Release()
		}
		return err
	})
}

// compact compacts to a revision and removes what nobody can see any more.
func (x *indexed) compact(rev int64) {
	x.t.Helper()
	x.commit(func(b *mvcc.Batch) error { return x.store.EvaluateCompact(b, rev) })
	x.check(x.store.Scrub(nil, func() int { return 13 }, x.log.Remove))
}

func put(key string, value byte, lease int64) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
		RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte{value, value}, Lease: lease},
	}}
}

func remove(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key)}}}
}

// write makes changes, leases and compactions at random.
func (x *indexed) write(rng *rand.Rand, n int) {
	x.t.Helper()
	for i := range n {
		key := func(part int) string { return fmt.Sprintf("/%d/%d", part, rng.IntN(12)) }
		switch rng.IntN(12) {
		case 0:
			x.txn(remove(key(0)), remove(key(1)))
		case 1:
			id := int64(i + 1)
			x.commit(func(b *mvcc.Batch) error {
				_, err := x.store.EvaluateGrant(b, &pb.LeaseGrantRequest{ID: x.store.Revision()*1000 + id, TTL: 1000})
				return err
			})
		case 2:
			if leases := x.store.Leases().Leases; len(leases) > 0 {
				slices.SortFunc(leases, func(a, b *pb.LeaseStatus) int { return cmp.Compare(a.ID, b.ID) })
				id := leases[rng.IntN(len(leases))].ID
				if rng.IntN(3) == 0 {
					x.commit(func(b *mvcc.Batch) error { _, err := x.store.EvaluateRevoke(b, id); return err })
				} else {
					x.txn(put(key(2), byte(i), id))
				}
			}
		case 3:
			if low, high := x.store.CompactRevision(), x.store.Revision(); high > low+8 {
				x.compact(low + 1 + rng.Int64N(high-low-1))
			}
		default:
			x.txn(put(key(0), byte(i), 0), put(key(1), byte(i), 0))
		}
	}
}

// loaded makes another log of what this one keeps, as a snapshot would.
func (x *indexed) loaded() *indexed {
	x.t.Helper()
	defer x.log.HoldRemoval()()
	path := filepath.Join(x.t.TempDir(), "log.db")
	l, err := sqllog.NewLoader(x.t.Context(), sqllog.Config{Path: path, Cluster: x.log.Identity().Cluster})
	x.check(err)
	head := x.log.Head()
	x.check(x.log.Scan(x.t.Context(), 0, head.ID, func(r *sqllog.Row) error { return l.Add([]sqllog.Row{*r}) }))
	x.check(l.Finish(head, x.log.Compaction()))
	y := openIndexed(x.t, path)
	if a, b := x.log.Identity(), y.log.Identity(); a.Cluster != b.Cluster || a.Node == b.Node {
		x.t.Fatalf("identity %+v was made of %+v", b, a)
	}
	return y
}

// view is all that a client can see.
func (x *indexed) view() []string {
	x.t.Helper()
	ctx := x.t.Context()
	out := []string{fmt.Sprint(x.log.Head(), x.store.Head(), x.store.Revision(), x.store.CompactRevision(), x.store.Rows(), x.leases())}
	for rev := max(1, x.store.CompactRevision()); rev <= x.store.Revision(); rev++ {
		h, err := x.store.HashKV(ctx, rev)
		x.check(err)
		r, err := x.store.Range(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: rev})
		x.check(err)
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
		x.check(err)
		out = append(out, fmt.Sprint(rev, h.Hash, h.CompactRevision, h.HashRevision), fmt.Sprintf("%d %x", rev, raw))
	}
	return append(out, fmt.Sprint(x.watched()))
}

// leases gives every lease with its TTL and its keys.
func (x *indexed) leases() (out []string) {
	x.t.Helper()
	for _, l := range x.store.Leases().Leases {
		r, err := x.store.TimeToLive(x.t.Context(), &pb.LeaseTimeToLiveRequest{ID: l.ID, Keys: true})
		x.check(err)
		slices.SortFunc(r.Keys, bytes.Compare)
		out = append(out, fmt.Sprintf("%d %d %q", r.ID, r.GrantedTTL, r.Keys))
	}
	slices.Sort(out)
	return out
}

// watched gives all events from the compacted revision on.
func (x *indexed) watched() (out []string) {
	x.t.Helper()
	w := x.store.NewWatchStream()
	defer w.Close()
	start := max(1, x.store.CompactRevision())
	_, err := w.Create(mvcc.WatchRequest{Key: []byte{0}, FromKey: true, StartRevision: start, PrevKV: true})
	x.check(err)
	for seen := int64(0); seen < x.store.Revision(); {
		resp, err := w.Next(x.t.Context())
		x.check(err)
		for _, e := range resp.Events {
			out = append(out, fmt.Sprint(e.Type, e.Kv, e.PrevKv))
			seen = e.Kv.ModRevision
		}
	}
	return out
}

func (x *indexed) same(y *indexed) {
	x.t.Helper()
	a, b := x.view(), y.view()
	if len(a) != len(b) {
		x.t.Fatalf("%d lines and %d", len(a), len(b))
	}
	for i := range a {
		if a[i] != b[i] {
			x.t.Fatalf("the loaded log gives\n%.2000s\nits origin\n%.2000s", b[i], a[i])
		}
	}
}

// TestLoadedIndex compares the index over a loaded log with that over the log
// whose rows were loaded, also after both have gone on.
func TestLoadedIndex(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 9))
		x := openIndexed(t, filepath.Join(t.TempDir(), "log.db"))
		x.write(rng, 150)
		y := x.loaded()
		x.close()
		x.open()
		x.same(y)
		next := rng.Uint64()
		for _, z := range []*indexed{x, y} {
			z.txn(put("/last", 1, 0))
			z.write(rand.New(rand.NewPCG(next, 9)), 60)
			z.compact(z.store.Revision() - 2)
		}
		x.same(y)
		y = y.loaded() // from a loaded one, with what it has removed since
		x.same(y)
	}
}
