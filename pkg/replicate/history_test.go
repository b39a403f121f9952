package replicate

import (
	"math/rand/v2"
	"testing"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

func TestHistory(t *testing.T) {
	h := historyIn([]sqllog.Epoch{1, 1, 3, 3, 3, 4})
	for id, want := range []sqllog.Epoch{0, 1, 1, 3, 3, 3, 4, 4} {
		if got := h.EpochAt(sqllog.ID(id)); got != want {
			t.Errorf("row %d is of epoch %d", id, got)
		}
	}
	for _, c := range []struct{ with, want elect.Position }{
		{at(6, 4), at(6, 4)},
		{at(5, 3), at(5, 3)},
		{at(9, 3), at(5, 3)},
		{at(4, 2), at(2, 1)},
		{at(9, 2), at(2, 1)},
		{at(1, 1), at(1, 1)},
		{at(9, 5), at(6, 4)},
		{at(0, 0), at(0, 0)},
	} {
		if got := h.Common(6, c.with); got != c.want {
			t.Errorf("Common(%v) = %v, not %v", c.with, got, c.want)
		}
	}
	if got := (History{}).Common(0, at(3, 1)); got != at(0, 0) {
		t.Errorf("an empty log shares %v", got)
	}
}

// Two logs that agree on where each epoch that both have begins are compared as if
// row by row.
func TestCommonIsTheLastSharedRow(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		shared := rows(r, nil, 1, r.IntN(8))
		last := sqllog.Epoch(1)
		if n := len(shared); n > 0 {
			last = shared[n-1]
		}
		// The one that leads has the newest epoch; where they part the other goes on
		// in an epoch that it has begun already, or not at all.
		primary := rows(r, shared, last+1, r.IntN(5))
		replica := shared
		if len(shared) > 0 {
			for range r.IntN(4) {
				replica = append(replica[:len(replica):len(replica)], last)
			}
		}
		end := elect.Position{ID: sqllog.ID(len(replica))}
		if end.ID > 0 {
			end.Epoch = replica[end.ID-1]
		}
		want := 0
		for want < len(primary) && want < len(replica) && primary[want] == replica[want] {
			want++
		}
		if got := historyIn(primary).Common(sqllog.ID(len(primary)), end); got.ID != sqllog.ID(want) {
			t.Fatalf("primary %v, replica %v: common row is %v, not %d", primary, replica, got, want)
		}
	}
}

// rows adds rows to the epochs of a log: from an epoch on, ascending.
func rows(r *rand.Rand, log []sqllog.Epoch, from sqllog.Epoch, n int) []sqllog.Epoch {
	log = log[:len(log):len(log)]
	for range n {
		log = append(log, from)
		from += sqllog.Epoch(r.IntN(2))
	}
	return log
}

func historyIn(log []sqllog.Epoch) History {
	var h History
	for i, e := range log {
		if len(h) == 0 || h[len(h)-1].Epoch != e {
			h = append(h, Reign{Epoch: e, First: sqllog.ID(i + 1)})
		}
	}
	return h
}
