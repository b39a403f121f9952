package sqllogtest

import (
	"fmt"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

func testTruncate(f *fixture) {
	all := f.fill(30, 10)
	f.check(f.log.Truncate(f.Context(), headOf(all))) // to where it is
	for _, to := range []int{25, 20, 3} {
		f.check(f.log.Truncate(f.Context(), headOf(all[:to])))
		f.holds(all[:to])
		f.headIs(headOf(all[:to]))
	}
	// Ids and revisions go on from the new head, now of a newer epoch.
	again := f.puts(4)
	for i := range again {
		again[i].Epoch = 9
	}
	f.check(f.log.Append(again))
	f.holds(append(all[:3:3], again...))
	f.headIs(headOf(again))
	f.check(f.log.Truncate(f.Context(), sqllog.Head{Revision: 1}))
	f.holds(nil)
	f.headIs(sqllog.Head{Revision: 1})
	f.holds(f.fill(2, 2))
}

func testTruncateRefuses(f *fixture) {
	all := f.fill(10, 10)
	for _, c := range []struct {
		to     sqllog.Head
		target error
	}{
		{sqllog.Head{ID: 11, Epoch: 1, Revision: 12}, sqllog.ErrGap},
		{sqllog.Head{ID: -1, Epoch: 1, Revision: 1}, sqllog.ErrGap},
		{sqllog.Head{ID: 5, Epoch: 2, Revision: 6}, sqllog.ErrInvalidRow},
		{sqllog.Head{ID: 5, Epoch: 1, Revision: 5}, sqllog.ErrInvalidRow},
		{sqllog.Head{ID: 5, Epoch: 1, Revision: 7}, sqllog.ErrInvalidRow},
		{sqllog.Head{ID: 10, Epoch: 1, Revision: 10}, sqllog.ErrInvalidRow},
		{sqllog.Head{}, sqllog.ErrInvalidRow},
	} {
		f.want(f.log.Truncate(f.Context(), c.to), c.target)
		f.holds(all)
	}
	f.headIs(headOf(all))
}

func testTruncateRemoved(f *fixture) {
	all := f.fill(20, 10)
	f.check(f.log.Remove([]sqllog.ID{2, 3, 9, 10}, sqllog.Compaction{}))
	for range 2 {
		f.want(f.log.Truncate(f.Context(), headOf(all[:9])), sqllog.ErrGap)
		f.want(f.log.Truncate(f.Context(), sqllog.Head{Revision: 1}), sqllog.ErrGap)
		f.reopen()
	}
	// A later compaction begins with low ids again.
	f.check(f.log.Remove([]sqllog.ID{1}, sqllog.Compaction{}))
	f.want(f.log.Truncate(f.Context(), headOf(all[:9])), sqllog.ErrGap)
	f.check(f.log.Truncate(f.Context(), headOf(all[:10]))) // row 10 is gone, but it was the newest removed
	f.headIs(headOf(all[:10]))
	f.holds([]sqllog.Row{all[3], all[4], all[5], all[6], all[7]})
	next := f.puts(1)
	if next[0].ID != 11 || next[0].Revision != 12 {
		f.Fatalf("log goes on with row %d of revision %d", next[0].ID, next[0].Revision)
	}
	f.check(f.log.Append(next))
	f.headIs(headOf(next))
}

func testRemove(f *fixture) {
	all := f.fill(200, 50)
	f.check(f.log.Remove([]sqllog.ID{7}, sqllog.Compaction{}))
	f.check(f.log.Remove([]sqllog.ID{7, 8}, sqllog.Compaction{})) // 7 is gone already
	f.check(f.log.Remove([]sqllog.ID{9, 9}, sqllog.Compaction{}))
	f.check(f.log.Remove(idsOf(all[20:190]), sqllog.Compaction{}))
	left := append(append(all[:6:6], all[9:20]...), all[190:]...)
	f.holds(left)
	f.headIs(headOf(all))
	f.holds(left)
}

func testRemoveAll(f *fixture) {
	all := f.fill(100, 50)
	f.check(f.log.Remove(idsOf(all[:60]), sqllog.Compaction{}))
	f.headIs(headOf(all))
	f.check(f.log.Remove(append(idsOf(all[60:]), 101, 5000), sqllog.Compaction{}))
	f.holds(nil)
	f.headIs(headOf(all))
	_, err := f.log.Recover(f.Context())
	f.check(err)
	f.headIs(headOf(all))
	f.check(f.log.Remove([]sqllog.ID{3, 99}, sqllog.Compaction{}))
	f.want(f.log.Truncate(f.Context(), headOf(all[:99])), sqllog.ErrGap)
	next := f.fill(3, 3)
	if next[0].ID != 101 || next[0].Revision != 102 {
		f.Fatalf("log goes on with row %d of revision %d", next[0].ID, next[0].Revision)
	}
	f.holds(next)
	f.check(f.log.Truncate(f.Context(), headOf(all)))
	f.headIs(headOf(all))
	f.holds(nil)
}

func testRemoveRefuses(f *fixture) {
	all := f.fill(10, 10)
	f.want(f.log.Remove([]sqllog.ID{3, 2}, sqllog.Compaction{Revision: 5}), sqllog.ErrInvalidRow)
	f.holds(all)
	f.reopen()
	if c := f.log.Compaction(); c.Revision != 0 {
		f.Fatalf("a refused call recorded compaction %+v", c)
	}
}

func testCompaction(f *fixture) {
	all := f.fill(10, 10)
	recorded := func(want sqllog.Compaction) {
		f.Helper()
		for range 2 {
			if got := f.log.Compaction(); fmt.Sprint(got) != fmt.Sprint(want) {
				f.Fatalf("compaction is %v, want %v", got, want)
			}
			f.reopen()
		}
	}
	c := sqllog.Compaction{Revision: 5, Deleted: []sqllog.DeletedKey{{Sub: 0, Key: []byte("a")}, {Sub: 7, Key: []byte{0, 255}}}}
	f.check(f.log.Remove(idsOf(all[:2]), c))
	recorded(c)
	f.check(f.log.Remove(idsOf(all[2:3]), sqllog.Compaction{})) // nothing to record
	recorded(c)
	_, err := f.log.Recover(f.Context())
	f.check(err)
	recorded(c)
	c = sqllog.Compaction{Revision: 9}
	f.check(f.log.Remove(idsOf(all[3:4]), c))
	recorded(c)
	f.holds(all[4:])
}

func testRecover(f *fixture) {
	for _, n := range []int{0, 5, 5} {
		all := f.fill(n, 5)
		h, err := f.log.Recover(f.Context())
		f.check(err)
		if h != f.log.Head() || n > 0 && h != headOf(all) {
			f.Fatalf("recovered head is %+v, log's head %+v", h, f.log.Head())
		}
		f.headIs(h)
	}
}
