package replicate

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// rig is a Primary on a log in a folder of the test.
type rig struct {
	t     testing.TB
	path  string
	log   *sqllog.Log
	store *mvcc.Store
	p     *Primary
}

func newRig(t testing.TB, cfg Config) *rig {
	r := &rig{t: t, path: filepath.Join(t.TempDir(), "log.db")}
	r.open(cfg)
	t.Cleanup(r.close)
	return r
}

func (r *rig) open(cfg Config) {
	r.t.Helper()
	var err error
	if r.log, err = sqllog.Open(ctx, sqllog.Config{Path: r.path}); err != nil {
		r.t.Fatal(err)
	}
	if r.store, err = mvcc.Open(ctx, r.log, mvcc.Config{}); err != nil {
		r.t.Fatal(err)
	}
	r.p = New(r.log, r.store, cfg)
}

func (r *rig) close() {
	r.p.Close()
	r.store.Close()
	if err := r.log.Close(); err != nil {
		r.t.Error(err)
	}
}

func (r *rig) reopen(cfg Config) {
	r.t.Helper()
	r.close()
	r.open(cfg)
}

func (r *rig) txn(ops ...*pb.RequestOp) *pb.TxnResponse {
	r.t.Helper()
	resp, err := r.p.Txn(ctx, &pb.TxnRequest{Success: ops})
	if err != nil {
		r.t.Fatal(err)
	}
	return resp
}

func put(key, value string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte(value)}}}
}

func del(key, end string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)}}}
}

func (r *rig) all(rev int64) []*mvccpb.KeyValue {
	r.t.Helper()
	resp, err := r.p.Range(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: rev})
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.Kvs
}

func TestWritesSurviveReopening(t *testing.T) {
	r := newRig(t, Config{})
	if rev := r.store.Revision(); rev != 1 {
		t.Fatalf("a fresh store is at revision %d", rev)
	}
	r.txn(put("a", "1"), put("b", "2"))
	r.txn(put("a", "3"))
	r.txn(del("b", ""))
	check := func() {
		t.Helper()
		kvs := r.all(0)
		if len(kvs) != 1 || string(kvs[0].Value) != "3" || kvs[0].Version != 2 || kvs[0].CreateRevision != 2 || kvs[0].ModRevision != 3 {
			t.Fatalf("current: %v", kvs)
		}
		if kvs := r.all(2); len(kvs) != 2 || string(kvs[0].Value) != "1" || string(kvs[1].Value) != "2" {
			t.Fatalf("at 2: %v", kvs)
		}
	}
	check()
	r.reopen(Config{})
	check()
	if rev := r.txn(put("c", "x")).Header.Revision; rev != 5 {
		t.Fatalf("next revision is %d", rev)
	}
}

// TestCompactionFreesHistory: rounds of update, create and delete, each compacted
// to the head, leave nothing but the live keys.
func TestCompactionFreesHistory(t *testing.T) {
	r := newRig(t, Config{})
	rounds := 12
	if raceEnabled {
		rounds = 4
	}
	freeHistory(t, r.p, rounds)
	n, err := r.log.Rows(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if n != liveKeys || r.store.Rows() != liveKeys {
		t.Fatalf("%d rows are left, the store counts %d", n, r.store.Rows())
	}
	r.reopen(Config{})
	if kvs := r.all(0); len(kvs) != liveKeys || string(kvs[7].Value) != "last" || kvs[7].Version != int64(rounds) {
		t.Fatalf("%d keys after reopening, %v", len(kvs), kvs[7])
	}
}

// TestCompactionFreesHistoryInMemory is the same, in all its rounds also under the
// race detector.
func TestCompactionFreesHistoryInMemory(t *testing.T) {
	b := newBed(t, Config{})
	freeHistory(t, b.p, 12)
	if n, _ := b.log.Rows(ctx); n != liveKeys || b.store.Rows() != liveKeys {
		t.Fatalf("%d rows are left, the store counts %d", n, b.store.Rows())
	}
}

const liveKeys = 2000

func freeHistory(t *testing.T, p *Primary, rounds int) {
	t.Helper()
	txn := func(ops ...*pb.RequestOp) {
		t.Helper()
		if _, err := p.Txn(ctx, writes(ops...)); err != nil {
			t.Fatal(err)
		}
	}
	const group = 100
	for round := range rounds {
		value := fmt.Sprint(round)
		if round == rounds-1 {
			value = "last"
		}
		for k := 0; k < liveKeys; k += group {
			var ops []*pb.RequestOp
			for i := k; i < k+group; i++ {
				ops = append(ops, put(fmt.Sprintf("live/%04d", i), value))
				if i%10 == 0 {
					ops = append(ops, put(fmt.Sprintf("gone/%04d", i), "x"))
				}
			}
			txn(ops...)
		}
		txn(del("gone/", "gone0"))
		if _, err := p.Compact(ctx, p.Status().Revision, true); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkPut(b *testing.B) {
	for _, clients := range []int{1, 100} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			r := newRig(b, Config{})
			value := make([]byte, 256)
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for c := range clients {
				wg.Go(func() {
					for i := c; i < b.N; i += clients {
						op := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: fmt.Appendf(nil, "/registry/pods/default/%08d", i), Value: value}}}
						if _, err := r.p.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{op}}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
