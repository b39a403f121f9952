package replicate

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// bench is a Primary on a log in a folder of the test.
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
	if r.log, err = sqllog.Open(context.Background(), sqllog.Config{Path: r.path}); err != nil {
		r.t.Fatal(err)
	}
	if r.store, err = mvcc.Open(context.Background(), r.log, mvcc.Config{}); err != nil {
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
	resp, err := r.p.Txn(context.Background(), &pb.TxnRequest{Success: ops})
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
	resp, err := r.p.Range(context.Background(), &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: rev})
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

func TestCompactionFreesHistory(t *testing.T) {
	r := newRig(t, Config{})
	const keys = 2000
	for round := range 12 {
		for k := range keys {
			r.txn(put(fmt.Sprintf("live/%04d", k), fmt.Sprint(round)))
			if k%10 == 0 {
				r.txn(put(fmt.Sprintf("gone/%04d", k), "x"))
			}
		}
		r.txn(del("gone/", "gone0"))
		if _, err := r.p.Compact(context.Background(), r.store.Revision(), true); err != nil {
			t.Fatal(err)
		}
	}
	n, err := r.log.Rows(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if n != keys || r.store.Rows() != keys {
		t.Fatalf("%d rows are left, the store counts %d", n, r.store.Rows())
	}
	r.reopen(Config{})
	if kvs := r.all(0); len(kvs) != keys || string(kvs[7].Value) != "11" || kvs[7].Version != 12 {
		t.Fatalf("%d keys after reopening, %v", len(kvs), kvs[7])
	}
}

func TestConcurrentWritesGetDistinctRevisions(t *testing.T) {
	r := newRig(t, Config{})
	const clients, each = 32, 50
	var mu sync.Mutex
	seen := map[int64]bool{}
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := range each {
				resp, err := r.p.Txn(context.Background(), &pb.TxnRequest{Success: []*pb.RequestOp{put(fmt.Sprintf("k%d-%d", c, i), "v")}})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[resp.Header.Revision] {
					t.Errorf("revision %d was given twice", resp.Header.Revision)
				}
				seen[resp.Header.Revision] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(r.all(0)) != clients*each || r.store.Revision() != 1+clients*each {
		t.Fatalf("%d keys at revision %d", len(r.all(0)), r.store.Revision())
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
						if _, err := r.p.Txn(context.Background(), &pb.TxnRequest{Success: []*pb.RequestOp{op}}); err != nil {
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
