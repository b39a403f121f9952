package sqllogtest

import (
	"bytes"
	"fmt"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

func testEmpty(f *fixture) {
	f.headIs(sqllog.Head{Revision: 1})
	f.holds(nil)
	if c := f.log.Compaction(); c.Revision != 0 || c.Deleted != nil {
		f.Fatalf("compaction of an empty log is %+v", c)
	}
	f.check(f.log.Append(nil))
	f.check(f.log.Remove(nil, sqllog.Compaction{}))
	f.headIs(sqllog.Head{Revision: 1})
}

// refused checks that a group is refused with a sentinel and leaves no trace.
func (f *fixture) refused(name string, rows []sqllog.Row, target error) {
	f.Helper()
	before, head := f.scan(0, 1<<40), f.log.Head()
	f.Logf("append: %s", name)
	f.want(f.log.Append(rows), target)
	f.same(f.scan(0, 1<<40), before)
	if f.log.Head() != head {
		f.Fatalf("head moved to %+v", f.log.Head())
	}
}

func testAppendGaps(f *fixture) {
	gap := func(name string, move func([]sqllog.Row)) {
		f.Helper()
		rows := f.puts(3)
		move(rows)
		f.refused(name, rows, sqllog.ErrGap)
	}
	for range 2 { // in an empty log, then in one with rows
		gap("first id too high", func(r []sqllog.Row) { r[0].ID += 3; r[1].ID += 3; r[2].ID += 3 })
		gap("hole", func(r []sqllog.Row) { r[2].ID++ })
		gap("repeated", func(r []sqllog.Row) { r[2].ID-- })
		gap("order", func(r []sqllog.Row) { r[1].ID, r[2].ID = r[2].ID, r[1].ID })
		f.fill(5, 5)
	}
	gap("the head again", func(r []sqllog.Row) { r[0].ID--; r[1].ID--; r[2].ID-- })
	f.headIs(sqllog.Head{ID: 10, Epoch: 1, Revision: 11})
}

func testAppendInvalid(f *fixture) {
	first := f.puts(2)
	first[0].Epoch, first[1].Epoch = 3, 3
	f.check(f.log.Append(first))
	for name, spoil := range map[string]func(r *sqllog.Row){
		"epoch goes back":        func(r *sqllog.Row) { r.Epoch = 2 },
		"revision goes back":     func(r *sqllog.Row) { r.Revision, r.CreateRevision = 2, 2 },
		"revision is complete":   func(r *sqllog.Row) { r.Revision, r.CreateRevision, r.Sub = 3, 3, 1 },
		"no kind":                func(r *sqllog.Row) { r.Kind = 0 },
		"unknown kind":           func(r *sqllog.Row) { r.Kind = 99 },
		"no epoch":               func(r *sqllog.Row) { r.Epoch = 0 },
		"no key":                 func(r *sqllog.Row) { r.Key = nil },
		"no create revision":     func(r *sqllog.Row) { r.CreateRevision = 0 },
		"created in the future":  func(r *sqllog.Row) { r.CreateRevision = 9 },
		"no version":             func(r *sqllog.Row) { r.Version = 0 },
		"negative sub":           func(r *sqllog.Row) { r.Sub = -1 },
		"previous in the future": func(r *sqllog.Row) { r.PrevRevision = 9 },
		"delete without key":     func(r *sqllog.Row) { r.Kind, r.Key = sqllog.KindDelete, nil },
		"lease without id":       func(r *sqllog.Row) { r.Kind = sqllog.KindLease },
		"lease with TTL below 0": func(r *sqllog.Row) { r.Kind, r.Lease, r.Version = sqllog.KindLease, 7, -1 },
		"compacts to nothing":    func(r *sqllog.Row) { r.Kind, r.CreateRevision = sqllog.KindCompact, 0 },
		"compacts to the future": func(r *sqllog.Row) { r.Kind, r.CreateRevision = sqllog.KindCompact, 9 },
	} {
		rows := f.puts(3)
		spoil(&rows[0])
		f.refused(name, rows, sqllog.ErrInvalidRow)
		if rows = f.puts(3); name == "revision is complete" {
			continue
		}
		spoil(&rows[2]) // the rows before it must not be written either
		f.refused(name+", third", rows, sqllog.ErrInvalidRow)
	}
	rows := f.puts(2)
	rows[1].Revision, rows[1].CreateRevision = rows[0].Revision, rows[0].Revision
	f.refused("two changes in one place", rows, sqllog.ErrInvalidRow)
	f.holds(first)
}

func testAppendGroups(f *fixture) {
	var all []sqllog.Row
	for n := 1; n <= 200; n += max(1, n/8) {
		all = append(all, f.fill(n, n)...)
	}
	for _, n := range []int{31, 32, 33, 40, 41, 72} { // around the sizes of statements
		all = append(all, f.fill(n, n)...)
	}
	f.holds(all)
	f.headIs(headOf(all))
	f.holds(all)
}

func testAppendColumns(f *fixture) {
	binary := make([]byte, 256)
	for i := range binary {
		binary[i] = byte(i)
	}
	const big = 1<<62 - 1
	rows := []sqllog.Row{
		{ID: 1, Epoch: 1, Revision: 2, Kind: sqllog.KindPut, Key: binary, Value: binary, CreateRevision: 2, Version: 1},
		{ID: 2, Epoch: 1, Revision: 3, Kind: sqllog.KindPut, Key: []byte{0}, Value: nil, CreateRevision: 3, Version: 1, Lease: -1},
		{ID: 3, Epoch: 1, Revision: 3, Sub: 1, Kind: sqllog.KindPut, Key: []byte{0, 0}, Value: []byte{}, CreateRevision: 3, Version: 1},
		{ID: 4, Epoch: 1, Revision: 3, Sub: 2, Kind: sqllog.KindDelete, Key: []byte("é\xff"), PrevRevision: 2},
		{ID: 5, Epoch: 2, Revision: 3, Kind: sqllog.KindEpoch, Value: []byte("node")},
		{ID: 6, Epoch: 2, Revision: 3, Kind: sqllog.KindLease, Lease: big, Version: 60, WrittenAt: big},
		{ID: 7, Epoch: 2, Revision: 3, Kind: sqllog.KindLease, Lease: -big},
		{ID: 8, Epoch: 2, Revision: 3, Kind: sqllog.KindMember, Key: []byte("m"), Value: []byte{0}},
		{ID: 9, Epoch: 2, Revision: 3, Kind: sqllog.KindCompact, CreateRevision: 2},
		{ID: 10, Epoch: big - 1, Revision: big - 1, Sub: big, Kind: sqllog.KindPut, Key: []byte("k"),
			CreateRevision: 3, PrevRevision: 3, Version: big, Lease: 1, WrittenAt: -1},
	}
	f.check(f.log.Append(rows))
	f.holds(rows)
	f.headIs(headOf(rows))
	f.holds(rows)
	values, err := f.log.Values(f.Context(), idsOf(rows))
	f.check(err)
	for i := range rows {
		if values[i] == nil || !bytes.Equal(values[i], rows[i].Value) {
			f.Fatalf("value of row %d is %v, want %v, not nil", rows[i].ID, values[i], rows[i].Value)
		}
	}
}

func testAppendLarge(f *fixture) {
	rows := f.puts(5)
	for i := range rows {
		rows[i].Value = bytes.Repeat(fmt.Appendf(nil, "%d", i), 1536<<10)
	}
	rows[3].Key = bytes.Repeat([]byte{0xff}, 1<<20)
	f.check(f.log.Append(rows))
	f.reopen()
	f.holds(rows)
}
