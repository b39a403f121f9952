package mvcc

import (
	"context"
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

func TestEpochsOfRows(t *testing.T) {
	put := func(id sqllog.ID, e sqllog.Epoch) sqllog.Row {
		return sqllog.Row{ID: id, Epoch: e, Kind: sqllog.KindPut}
	}
	epoch := func(id sqllog.ID, e sqllog.Epoch) sqllog.Row {
		return sqllog.Row{ID: id, Epoch: e, Kind: sqllog.KindEpoch}
	}
	for name, c := range map[string]struct {
		rows []sqllog.Row
		head sqllog.Head
		want []EpochStart
	}{
		"empty":                       {nil, sqllog.Head{}, nil},
		"no row is left":              {nil, sqllog.Head{ID: 9, Epoch: 3}, []EpochStart{{3, 1}}},
		"no row and no epoch is left": {nil, sqllog.Head{ID: 9}, []EpochStart{{1, 1}}},
		"one":                         {[]sqllog.Row{put(1, 1), put(2, 1)}, sqllog.Head{}, []EpochStart{{1, 1}}},
		"begins with its row":         {[]sqllog.Row{epoch(1, 4), put(2, 4)}, sqllog.Head{}, []EpochStart{{4, 1}}},
		"epoch 1 with its row":        {[]sqllog.Row{epoch(5, 1), put(6, 1)}, sqllog.Head{}, []EpochStart{{1, 1}}},
		"several":                     {[]sqllog.Row{put(1, 1), epoch(2, 2), put(3, 2), epoch(4, 7), epoch(5, 8)}, sqllog.Head{}, []EpochStart{{1, 1}, {2, 2}, {7, 4}, {8, 5}}},
		"the first is removed":        {[]sqllog.Row{epoch(6, 3), put(9, 3)}, sqllog.Head{}, []EpochStart{{1, 1}, {3, 6}}},
		"the start is removed":        {[]sqllog.Row{put(6, 3), epoch(9, 4)}, sqllog.Head{}, []EpochStart{{3, 1}, {4, 9}}},
		"no epoch row":                {[]sqllog.Row{put(1, 1), put(2, 3)}, sqllog.Head{}, []EpochStart{{1, 1}, {3, 2}}},
		"no epoch row, and a hole":    {[]sqllog.Row{put(1, 1), put(5, 3)}, sqllog.Head{}, []EpochStart{{1, 1}, {3, 2}}},
		"the head's is removed":       {[]sqllog.Row{put(1, 1), epoch(5, 3)}, sqllog.Head{ID: 8, Epoch: 4}, []EpochStart{{1, 1}, {3, 5}, {4, 6}}},
		"the end is removed":          {[]sqllog.Row{put(1, 1), epoch(5, 3)}, sqllog.Head{ID: 8, Epoch: 3}, []EpochStart{{1, 1}, {3, 5}}},
	} {
		var l epochList
		for i := range c.rows {
			l.row(&c.rows[i])
		}
		s := &Store{}
		if s.Epochs() != nil {
			t.Fatal("epochs of nothing")
		}
		s.loadEpochs(&l, c.head)
		if got := s.Epochs(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestEpochs: the list is the same whether rows are evaluated, applied or loaded,
// and what a caller does with it is its own.
func TestEpochs(t *testing.T) {
	p := newPair(t, Config{})
	if p.store.Epochs() != nil {
		t.Fatal(p.store.Epochs())
	}
	p.write(put("a", "1"))
	p.store.Lead(3)
	p.write(put("a", "2"))
	p.store.Lead(4)
	p.write(put("a", "3"))
	p.write(put("a", "4"))
	p.apply()
	want := []EpochStart{{1, 1}, {3, 2}, {4, 3}}
	for range 2 {
		for _, d := range []*db{p.db, p.replica} {
			got := d.store.Epochs()
			if !slices.Equal(got, want) {
				t.Fatalf("epochs are %v, want %v", got, want)
			}
			clear(got)
			if d.store.Head().Epoch != 4 {
				t.Fatalf("head is %+v", d.store.Head())
			}
		}
		p.reopen()
		p.replica.reopen()
	}
	// What is rolled back is in no list, and the Primary that it was goes on as a Replica.
	p.store.Lead(6)
	b := &Batch{}
	if _, err := p.store.EvaluateTxn(context.Background(), b, &pb.TxnRequest{Success: []*pb.RequestOp{put("x", "y")}}); err != nil {
		t.Fatal(err)
	}
	p.store.Rollback(b)
	head := p.store.Head()
	row := sqllog.Row{ID: head.ID + 1, Epoch: 7, Revision: head.Revision, Kind: sqllog.KindEpoch}
	if err := p.store.Apply([]sqllog.Row{row}); err != nil {
		t.Fatal(err)
	}
	if got, want := p.store.Epochs(), append(want, EpochStart{7, 5}); !slices.Equal(got, want) {
		t.Fatalf("epochs are %v, want %v", got, want)
	}
	b.Reset()
	if _, err := p.store.EvaluateGrant(b, &pb.LeaseGrantRequest{}); err != nil || b.Rows[0].Epoch != 7 {
		t.Fatalf("rows are %+v: %v", b.Rows, err)
	}
}

// TestLeadRenewsLeases: a new Primary knows nothing of the keep-alives of the last
// one, and lets no lease end early.
func TestLeadRenewsLeases(t *testing.T) {
	c := newClock()
	p := newPair(t, Config{Now: c.time})
	p.grant(7, 10)
	p.grant(8, 60)
	p.apply()
	c.now = c.now.Add(9 * time.Second)
	if _, err := p.store.KeepAlive(7); err != nil {
		t.Fatal(err)
	}
	c.now = c.now.Add(9 * time.Second)
	s := p.replica.store
	if !s.lessor.isDue(7) || s.lessor.isDue(8) {
		t.Fatal("lease 7 should be due by what the Replica knows, and lease 8 not")
	}
	s.Lead(2)
	if ids, next := s.Expired(10); len(ids) > 0 || next != 10*time.Second {
		t.Fatalf("%v are due, the next in %v", ids, next)
	}
	if s.EvaluateExpire(&Batch{}, 7) {
		t.Fatal("lease 7 has expired")
	}
	c.now = c.now.Add(10 * time.Second)
	if ids, next := s.Expired(10); !slices.Equal(ids, []int64{7}) || next != time.Second {
		t.Fatalf("%v are due, the next in %v", ids, next)
	}
	b := &Batch{}
	if !s.EvaluateExpire(b, 7) || b.Rows[0].Epoch != 2 {
		t.Fatalf("rows are %+v", b.Rows)
	}
	if n := s.lessor.due.Len(); n != 2 {
		t.Fatalf("%d items of 2 leases", n)
	}
}
