package sqllogtest

import "github.com/kinsy/kinsy/pkg/sqllog"

// testEpochs appends under one Primary after the other, and goes back over their
// rows.
func testEpochs(f *fixture) {
	h := newHistory(3)
	for h.head.Epoch < 12 || len(h.rows) < 150 {
		f.check(f.log.Append(h.group()))
	}
	f.holds(h.rows)
	f.headIs(headOf(h.rows))
	for id := h.head.ID; id >= 0; id -= 1 + id/20 {
		f.refusesOtherHeads(h, id)
		f.check(f.log.Truncate(f.Context(), h.headAt(id)))
		f.headIs(h.headAt(id))
		f.holds(h.rows[:id])
	}
}

// refusesOtherHeads checks that the row of an id is known by its epoch and its
// revision.
func (f *fixture) refusesOtherHeads(h *history, id sqllog.ID) {
	f.Helper()
	for _, spoil := range []func(*sqllog.Head){
		func(to *sqllog.Head) { to.Epoch++ }, func(to *sqllog.Head) { to.Epoch-- },
		func(to *sqllog.Head) { to.Revision++ }, func(to *sqllog.Head) { to.Revision-- },
	} {
		to := h.headAt(id)
		spoil(&to)
		f.want(f.log.Truncate(f.Context(), to), sqllog.ErrInvalidRow)
	}
}

// testEpochsDiverge takes rows of a Primary away and goes on under another: the
// log knows no epoch but that of its head.
func testEpochsDiverge(f *fixture) {
	f.fill(10, 10) // epoch 1
	epoch := func(e sqllog.Epoch) {
		f.Helper()
		h := f.log.Head()
		f.check(f.log.Append([]sqllog.Row{{ID: h.ID + 1, Epoch: e, Revision: h.Revision, Kind: sqllog.KindEpoch}}))
		f.fill(3, 3)
		f.headIs(sqllog.Head{ID: h.ID + 4, Epoch: e, Revision: h.Revision + 3})
	}
	epoch(3)
	epoch(7)
	f.check(f.log.Truncate(f.Context(), sqllog.Head{ID: 12, Epoch: 3, Revision: 12}))
	stale := f.puts(1)
	stale[0].Epoch = 2
	f.refused("an epoch below the head's", stale, sqllog.ErrInvalidRow)
	epoch(5)
	f.check(f.log.Truncate(f.Context(), sqllog.Head{ID: 10, Epoch: 1, Revision: 11}))
	epoch(2)
	// What compaction has removed stays the floor, whatever its epoch.
	f.check(f.log.Remove([]sqllog.ID{3, 11, 12}, sqllog.Compaction{Revision: 11}))
	f.want(f.log.Truncate(f.Context(), sqllog.Head{ID: 10, Epoch: 1, Revision: 11}), sqllog.ErrGap)
	f.want(f.log.Truncate(f.Context(), sqllog.Head{ID: 12, Epoch: 1, Revision: 12}), sqllog.ErrInvalidRow)
	f.check(f.log.Truncate(f.Context(), sqllog.Head{ID: 12, Epoch: 2, Revision: 12}))
	f.headIs(sqllog.Head{ID: 12, Epoch: 2, Revision: 12})
	epoch(9)
}
