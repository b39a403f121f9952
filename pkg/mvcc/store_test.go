package mvcc

import (
	"context"
	"errors"
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

func TestFreshStore(t *testing.T) {
	d := newDB(t, Config{})
	if d.store.Revision() != 1 || d.store.CompactRevision() != 0 || d.store.Head() != (sqllog.Head{Revision: 1}) || d.store.ScrubDue() {
		t.Fatalf("%d, %d, %+v", d.store.Revision(), d.store.CompactRevision(), d.store.Head())
	}
	d.scrub()
	d.store.Publish(&Batch{})
	if d.store.Revision() != 1 {
		t.Fatal("an empty batch moved the revision")
	}
	d.write(put("a", "1"))
	if d.store.Head() != (sqllog.Head{ID: 1, Epoch: 1, Revision: 2}) {
		t.Fatalf("%+v", d.store.Head())
	}
}

// headedLog says what it likes of itself.
type headedLog struct {
	Log
	head func(sqllog.Head) sqllog.Head
	row  func(*sqllog.Row)
}

func (l headedLog) Head() sqllog.Head { return l.head(l.Log.Head()) }

func (l headedLog) ScanKeys(ctx context.Context, after, upTo sqllog.ID, fn func(*sqllog.Row) error) error {
	return l.Log.ScanKeys(ctx, after, upTo, func(r *sqllog.Row) error {
		l.row(r)
		return fn(r)
	})
}

// TestOpenRefusesDamage: a log that contradicts itself is reported.
func TestOpenRefusesDamage(t *testing.T) {
	same := func(h sqllog.Head) sqllog.Head { return h }
	for name, damage := range map[string]headedLog{
		"head below a row": {head: func(h sqllog.Head) sqllog.Head { h.Revision = 2; return h }, row: func(*sqllog.Row) {}},
		"value of a compact row": {head: same, row: func(r *sqllog.Row) {
			if r.Kind == sqllog.KindCompact {
				r.ID-- // whose value is no list of keys
			}
		}},
	} {
		d := newDB(t, Config{})
		d.write(put("a", "1"))
		d.write(put("b", "\x01\x02\x03"))
		d.compact(2)
		damage.Log = d.log
		if _, err := Open(context.Background(), damage, d.cfg); !errors.Is(err, sqllog.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d := newDB(t, Config{})
	d.write(put("a", "1"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Open(ctx, d.log, d.cfg); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestMetrics(t *testing.T) {
	d := newDB(t, Config{})
	d.grant(7, 10)
	d.write(put("a", "123"), leased("b", 7))
	s := d.stream()
	s.create(everything)
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(d.store); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		m := f.Metric[0]
		got[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
	}
	for name, want := range map[string]float64{
		"kinsy_revision": 2, "kinsy_compact_revision": 0, "kinsy_rows": 3, "kinsy_keys": 2, "kinsy_history_records": 2, "kinsy_leases": 1,
		"kinsy_watchers": 1, "kinsy_slow_watchers": 0, "kinsy_watch_streams": 1, "kinsy_value_cache_bytes": 4 + 2*cacheOverhead,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}

// TestBatchIsUsedAgain: a batch that was reset holds nothing of its past.
func TestBatchIsUsedAgain(t *testing.T) {
	d := newDB(t, Config{})
	b := &Batch{}
	for i := range 5 {
		if !b.Empty() || b.Compacts() || b.Grants() || b.Bytes != 0 {
			t.Fatalf("%+v", b)
		}
		a, err := d.store.EvaluateTxn(context.Background(), b, &pb.TxnRequest{Success: []*pb.RequestOp{put("k", fmt.Sprint(i))}})
		if err != nil {
			t.Fatal(err)
		}
		a.Release()
		if i == 2 {
			if err := d.store.EvaluateCompact(b, d.store.Revision()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := d.store.EvaluateGrant(b, &pb.LeaseGrantRequest{ID: int64(i + 1), TTL: 10}); err != nil {
			t.Fatal(err)
		}
		if b.Compacts() != (i == 2) || !b.Grants() || b.Bytes == 0 {
			t.Fatalf("%+v", b)
		}
		d.commit(b)
		b.Reset()
	}
	if d.store.Revision() != 6 || d.store.CompactRevision() != 3 {
		t.Fatalf("%d, %d", d.store.Revision(), d.store.CompactRevision())
	}
}
