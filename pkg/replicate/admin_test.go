package replicate

import (
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/mvcc/mvcctest"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

func TestStatus(t *testing.T) {
	b := newBed(t, Config{})
	b.writeMany(3)
	st := b.p.Status()
	if !st.Healthy || st.NoSpace || len(st.Errors) != 0 || st.Revision != 4 || st.DBSize != 3*4096 || st.DBSizeInUse != 3*4096 {
		t.Fatalf("%+v", st)
	}
	b.hook(mvcctest.Hooks{Size: func() (sqllog.Size, error) { return sqllog.Size{}, errors.New("busy") }})
	if again := b.p.Status(); again.DBSize != st.DBSize || !again.Healthy {
		t.Fatalf("%+v", again)
	}
}

func TestMetrics(t *testing.T) {
	b := newBed(t, Config{})
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(b.p); err != nil {
		t.Fatal(err)
	}
	gathered := func() (serving, failed float64) {
		families, err := r.Gather()
		if err != nil || len(families) != 2 {
			t.Fatal(families, err)
		}
		return families[1].Metric[0].GetGauge().GetValue(), families[0].Metric[0].GetCounter().GetValue()
	}
	if serving, failed := gathered(); serving != 1 || failed != 0 {
		t.Fatal(serving, failed)
	}
	b.hook(mvcctest.Hooks{Recover: func() error { return sqllog.ErrFull }})
	b.gate.set(true)
	over := b.txn(writes(put("a", "1")))
	<-b.gate.entered
	b.gate.release <- verdict{err: sqllog.ErrFull}
	want(t, "write", <-over, ErrNoSpace)
	if serving, failed := gathered(); serving != 0 || failed != 1 {
		t.Fatal(serving, failed)
	}
}

// TestReads go to the store as they are.
func TestReads(t *testing.T) {
	b := newBed(t, Config{})
	b.write(put("a", "1"), put("b", "2"))
	resp, err := b.p.Txn(ctx, &pb.TxnRequest{Compare: []*pb.Compare{absent("a")}, Failure: []*pb.RequestOp{get("b")}})
	if err != nil || resp.Succeeded || len(resp.Responses) != 1 || resp.Header.Revision != 2 {
		t.Fatalf("%v, %v", resp, err)
	}
	keys := 0
	err = b.p.RangeStream(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}, func(part *pb.RangeStreamResponse) error {
		keys += len(part.RangeResponse.Kvs)
		return nil
	})
	if err != nil || keys != 2 {
		t.Fatal(keys, err)
	}
	one, err := b.p.HashKV(ctx, 0)
	if err != nil || one.HashRevision != 2 {
		t.Fatalf("%v, %v", one, err)
	}
	if h, err := b.p.Hash(ctx); err != nil || h == 0 {
		t.Fatal(h, err)
	}
}
