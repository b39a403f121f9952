package sqllogtest

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// history makes rows of every kind that follow each other as a log's rows do.
type history struct {
	rng  *rand.Rand
	head sqllog.Head
	rows []sqllog.Row // all that were made
}

func newHistory(seed uint64) *history {
	return &history{rng: rand.New(rand.NewPCG(seed, 1)), head: sqllog.Head{Epoch: 1, Revision: 1}}
}

// add appends one row to a group.
func (h *history) add(group []sqllog.Row, r sqllog.Row) []sqllog.Row {
	h.head.ID++
	r.ID, r.Epoch, r.Revision = h.head.ID, h.head.Epoch, h.head.Revision
	r.WrittenAt = 1_700_000_000_000 + int64(r.ID)
	h.rows = append(h.rows, r)
	return append(group, r)
}

// group makes the rows of one call of Append: the changes of a revision, or a
// row of another kind, now and then of a new epoch.
func (h *history) group() []sqllog.Row {
	switch h.rng.IntN(12) {
	case 0:
		h.head.Epoch += sqllog.Epoch(h.rng.IntN(3) + 1)
		return h.add(nil, sqllog.Row{Kind: sqllog.KindEpoch, Value: []byte("node")})
	case 1:
		return h.add(nil, sqllog.Row{Kind: sqllog.KindLease, Lease: 7, Version: h.rng.Int64N(2) * 60})
	case 2:
		return h.add(nil, sqllog.Row{Kind: sqllog.KindCompact, CreateRevision: max(1, h.head.Revision-20)})
	case 3:
		return h.add(nil, sqllog.Row{Kind: sqllog.KindMember, Value: []byte("member")})
	}
	h.head.Revision++
	var group []sqllog.Row
	for sub := range h.rng.IntN(3) + 1 {
		r := sqllog.Row{
			Kind: sqllog.KindPut, Sub: int64(sub), Key: fmt.Appendf(nil, "/key/%d", h.rng.IntN(20)*3+sub),
			Value: make([]byte, h.rng.IntN(300)), CreateRevision: h.head.Revision, Version: 1,
		}
		if h.rng.IntN(5) == 0 {
			r.Kind, r.Value, r.CreateRevision, r.Version = sqllog.KindDelete, nil, 0, 0
		}
		group = h.add(group, r)
	}
	return group
}

// headAt names the row of an id.
func (h *history) headAt(id sqllog.ID) sqllog.Head {
	if id == 0 {
		return sqllog.Head{Revision: 1}
	}
	return headOf(h.rows[:id])
}

// some picks, in order, about one of every n ids up to last.
func (h *history) some(last sqllog.ID, n int) []sqllog.ID {
	var ids []sqllog.ID
	for id := sqllog.ID(1); id <= last; id++ {
		if h.rng.IntN(n) == 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

// without gives the rows whose ids are not among those removed.
func (h *history) without(removed []sqllog.ID) []sqllog.Row {
	return slices.DeleteFunc(slices.Clone(h.rows), func(r sqllog.Row) bool { return slices.Contains(removed, r.ID) })
}
