package mvcc

import (
	"context"
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// noLog takes everything and keeps nothing.
type noLog struct{ Log }

func (noLog) Head() sqllog.Head             { return sqllog.Head{Revision: 1} }
func (noLog) Compaction() sqllog.Compaction { return sqllog.Compaction{} }
func (noLog) ScanKeys(context.Context, sqllog.ID, sqllog.ID, func(*sqllog.Row) error) error {
	return nil
}

func newBench(b *testing.B) *Store {
	s, err := Open(context.Background(), noLog{}, Config{Logger: quiet(), ProgressInterval: -1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	return s
}

func benchKey(i int) []byte { return fmt.Appendf(nil, "/registry/pods/default/%08d", i) }

// fill commits n keys in groups of 100 with values of 256 bytes.
func fill(b *testing.B, s *Store, n int) {
	value := make([]byte, 256)
	batch := &Batch{}
	for i := range n {
		a, err := s.EvaluateTxn(context.Background(), batch, &pb.TxnRequest{Success: []*pb.RequestOp{opPut(&pb.PutRequest{Key: benchKey(i), Value: value})}})
		if err != nil {
			b.Fatal(err)
		}
		a.Release()
		if i%100 == 99 || i == n-1 {
			s.Publish(batch)
			batch.Reset()
		}
	}
}

func BenchmarkEvaluateTxnPut(b *testing.B) {
	for _, keys := range []string{"new", "existing"} {
		b.Run(keys, func(b *testing.B) {
			s := newBench(b)
			const known = 100_000
			if keys == "existing" {
				fill(b, s, known)
			}
			value := make([]byte, 256)
			requests := make([]*pb.TxnRequest, known)
			for i := range requests {
				requests[i] = &pb.TxnRequest{Success: []*pb.RequestOp{opPut(&pb.PutRequest{Key: benchKey(i), Value: value})}}
			}
			batch := &Batch{}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				a, err := s.EvaluateTxn(context.Background(), batch, requests[i%known])
				if err != nil {
					b.Fatal(err)
				}
				a.Release()
				if i%100 == 99 {
					s.Publish(batch)
					batch.Reset()
				}
			}
		})
	}
}

// otherKeys gives n keys of their own for each id.
func otherKeys(id, n int) [][]byte {
	keys := make([][]byte, n)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "/registry/pods/%d/%08d", id, i)
	}
	return keys
}

// BenchmarkApply applies rows of 256 bytes, each a revision, in calls of 1 to
// 1000.
func BenchmarkApply(b *testing.B) {
	for _, size := range []int{1, 100, 1000} {
		for _, keys := range []string{"new", "existing"} {
			b.Run(fmt.Sprintf("%s/rows=%d", keys, size), func(b *testing.B) {
				s := newBench(b)
				const known = 100_000
				if keys == "existing" {
					fill(b, s, known)
				}
				value := make([]byte, 256)
				mod := make([]sqllog.Revision, known)
				for i := range mod {
					if keys == "existing" {
						mod[i] = sqllog.Revision(i) + 2
					}
				}
				rows := make([]sqllog.Row, size)
				names := make([][]byte, known)
				for i := range names {
					names[i] = benchKey(i)
				}
				n := 0
				b.ReportAllocs()
				for b.Loop() {
					head := s.Head()
					for i := range rows {
						k := n % known
						if n++; k == 0 && keys == "new" {
							b.StopTimer()
							names, mod = otherKeys(n, known), make([]sqllog.Revision, known)
							b.StartTimer()
						}
						rev := head.Revision + sqllog.Revision(i) + 1
						rows[i] = sqllog.Row{ID: head.ID + sqllog.ID(i) + 1, Epoch: 1, Revision: rev, Kind: sqllog.KindPut,
							Key: names[k], Value: value, CreateRevision: rev, PrevRevision: mod[k], Version: 1}
						mod[k] = rev
					}
					if err := s.Apply(rows); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
			})
		}
	}
}

// BenchmarkEvaluateTxnUpdate is what kube-apiserver sends: compare, put, else get.
func BenchmarkEvaluateTxnUpdate(b *testing.B) {
	s := newBench(b)
	fill(b, s, 1)
	value := make([]byte, 256)
	mod := &pb.Compare_ModRevision{ModRevision: s.Revision()}
	r := &pb.TxnRequest{
		Compare: []*pb.Compare{{Key: benchKey(0), Target: pb.Compare_MOD, TargetUnion: mod}},
		Success: []*pb.RequestOp{opPut(&pb.PutRequest{Key: benchKey(0), Value: value})},
		Failure: []*pb.RequestOp{opRange(&pb.RangeRequest{Key: benchKey(0)})},
	}
	batch := &Batch{}
	b.ReportAllocs()
	for b.Loop() {
		a, err := s.EvaluateTxn(context.Background(), batch, r)
		if err != nil || !a.Wrote {
			b.Fatal(err)
		}
		s.Publish(batch)
		batch.Reset()
		resp, err := a.Complete(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		mod.ModRevision = resp.Header.Revision
	}
}

func BenchmarkRange(b *testing.B) {
	for name, r := range map[string]*pb.RangeRequest{
		"get":           {Key: benchKey(777)},
		"list=1000":     {Key: benchKey(1000), RangeEnd: benchKey(2000)},
		"page=500":      {Key: benchKey(0), RangeEnd: []byte{0}, Limit: 500},
		"keys":          {Key: benchKey(1000), RangeEnd: benchKey(2000), KeysOnly: true},
		"count=100,000": {Key: benchKey(0), RangeEnd: []byte{0}, CountOnly: true},
	} {
		b.Run(name, func(b *testing.B) {
			s := newBench(b)
			fill(b, s, 100_000)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Range(context.Background(), r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDispatch matches events of one key each with watchers of other keys:
// an event costs what its own watcher costs, not what 10,000 cost.
func BenchmarkDispatch(b *testing.B) {
	for _, watchers := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("ranges=%d", watchers), func(b *testing.B) {
			s, err := load(context.Background(), noLog{}, Config{Logger: quiet()})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(s.Close)
			st := s.NewWatchStream()
			for i := range watchers {
				key := benchKey(i)
				if _, err := st.Create(WatchRequest{Key: append(key, '/'), End: append(benchKey(i), '0')}); err != nil {
					b.Fatal(err)
				}
			}
			benchDispatch(b, s, st, watchers)
		})
	}
}

func benchDispatch(b *testing.B, s *Store, st *WatchStream, watchers int) {
	for {
		if _, ok, _ := st.poll(context.Background()); !ok {
			break
		}
	}
	value := make([]byte, 256)
	requests := make([]*pb.TxnRequest, watchers)
	for i := range requests {
		requests[i] = &pb.TxnRequest{Success: []*pb.RequestOp{opPut(&pb.PutRequest{Key: append(benchKey(i), "/x"...), Value: value})}}
	}
	batch := &Batch{}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		a, err := s.EvaluateTxn(context.Background(), batch, requests[i*7919%watchers])
		if err != nil {
			b.Fatal(err)
		}
		a.Release()
		s.Publish(batch)
		batch.Reset()
		s.hub.dispatch()
		r, ok, err := st.poll(context.Background())
		if err != nil || !ok || len(r.Events) != 1 {
			b.Fatalf("%+v, %v", r, err)
		}
	}
}

// BenchmarkExpired looks for leases that are due among 50,000 that are not: what
// the reaper costs while nothing happens, and while all are kept alive.
func BenchmarkExpired(b *testing.B) {
	for name, keepAlive := range map[string]bool{"idle": false, "kept alive": true} {
		b.Run(name, func(b *testing.B) {
			const leases = 50_000
			l, c := &lessor{}, newClock()
			l.init(c.time)
			for id := range int64(leases) {
				l.publish(l.grant(id+1, 3600+id%600, 1), true)
			}
			b.ReportAllocs()
			for i := int64(0); b.Loop(); i++ {
				if keepAlive {
					c.now = c.now.Add(1800 * time.Second / leases)
					if _, err := l.renew(1 + i%leases); err != nil {
						b.Fatal(err)
					}
				}
				if ids, _ := l.expired(256); len(ids) > 0 {
					b.Fatalf("%v are due", ids)
				}
			}
		})
	}
}
