package sqllogtest

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Loader is what RunLoader tests; the methods are those of *sqllog.Loader.
type Loader interface {
	Add(rows []sqllog.Row) error
	Finish(head sqllog.Head, c sqllog.Compaction) error
	Abort() error
}

var _ Loader = (*sqllog.Loader)(nil)

// RunLoader runs the suite of loading. load begins the log that is to be kept in
// dir, open opens it. The tests run in parallel.
func RunLoader(t *testing.T, load func(t *testing.T, dir string) (Loader, error), open func(t *testing.T, dir string) Log) {
	for _, c := range []struct {
		name string
		test func(*loading)
	}{
		{"empty", testLoadEmpty},
		{"as appended and removed", testLoadSame},
		{"every column", testLoadColumns},
		{"many rows in calls of any size", testLoadMany},
		{"no row is left", testLoadNoRows},
		{"refuses rows", testLoadRefuses},
		{"refuses heads and compactions", testLoadRefusesEnd},
		{"refuses a log that is there", testLoadExists},
		{"abort", testLoadAbort},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := &loading{fixture: fixture{T: t, open: open}, load: load}
			t.Cleanup(func() {
				if f.log != nil {
					f.check(f.log.Close())
				}
			})
			c.test(f)
		})
	}
}

// loading is a fixture whose log is loaded.
type loading struct {
	fixture
	load func(*testing.T, string) (Loader, error)
}

// begin begins a log in a new folder.
func (f *loading) begin() Loader {
	f.Helper()
	f.dir = f.TempDir()
	l, err := f.load(f.T, f.dir)
	f.check(err)
	return l
}

// finish ends the loading and opens the log.
func (f *loading) finish(l Loader, head sqllog.Head, c sqllog.Compaction) {
	f.Helper()
	f.check(l.Finish(head, c))
	f.check(l.Abort())
	f.want(l.Finish(head, c), sqllog.ErrClosed)
	f.want(l.Add(nil), sqllog.ErrClosed)
	f.log = f.open(f.T, f.dir)
}

func (f *loading) goesOn(want sqllog.Head) {
	f.Helper()
	f.headIs(want)
	f.promised(want.Epoch)
	next := f.fill(2, 2)
	if next[0].ID != want.ID+1 || next[0].Revision != want.Revision+1 {
		f.Fatalf("log goes on with row %d of revision %d after %+v", next[0].ID, next[0].Revision, want)
	}
	f.headIs(headOf(next))
	f.check(f.log.Truncate(f.Context(), want))
	f.headIs(want)
	f.promised(headOf(next).Epoch)
}

func testLoadEmpty(f *loading) {
	l := f.begin()
	f.check(l.Add(nil))
	f.finish(l, sqllog.Head{Revision: 1}, sqllog.Compaction{})
	f.holds(nil)
	f.goesOn(sqllog.Head{Revision: 1})
}

// testLoadSame loads what is left of a log after compactions, and has it do what
// the log itself does.
func testLoadSame(f *loading) {
	for seed := range uint64(8) {
		h := newHistory(seed)
		twin := fixture{T: f.T, dir: f.TempDir(), open: f.open}
		twin.log = f.open(f.T, twin.dir)
		for len(h.rows) < 30+int(seed)*15 {
			f.check(twin.log.Append(h.group()))
		}
		head := h.head
		var removed []sqllog.ID
		var c sqllog.Compaction
		for i := range sqllog.ID(seed % 3) { // none, one or two compactions
			ids := h.some(head.ID*(i+1)/3, 2)
			c = sqllog.Compaction{Revision: head.Revision / 2, Deleted: []sqllog.DeletedKey{{Sub: 3, Key: []byte("k")}}}
			f.check(twin.log.Remove(ids, c))
			removed = append(removed, ids...)
		}
		if seed%4 == 1 { // the newest row too
			f.check(twin.log.Remove([]sqllog.ID{head.ID}, c))
			removed = append(removed, head.ID)
		}
		l := f.begin()
		for rows := range slices.Chunk(h.without(removed), 7) {
			f.check(l.Add(rows))
		}
		f.finish(l, head, c)
		twin.reopen()
		f.Logf("seed %d: %d rows, %d removed", seed, len(h.rows), len(removed))
		f.twins(&twin, h)
		f.check(f.log.Close())
		f.check(twin.log.Close())
		f.log = nil
	}
}

// twins does the same to two logs and checks that they cannot be told apart.
func (f *loading) twins(o *fixture, h *history) {
	f.Helper()
	f.equal(o)
	before := h.head
	for range 5 {
		rows := h.group()
		f.check(errors.Join(f.log.Append(rows), o.log.Append(rows)))
	}
	f.equal(o)
	f.truncateTwins(o, h, before.ID-1, h.head.ID)
	ids := h.some(before.ID/2, 3)
	c := sqllog.Compaction{Revision: before.Revision}
	f.check(errors.Join(f.log.Remove(ids, c), o.log.Remove(ids, c)))
	f.equal(o)
	f.truncateTwins(o, h, 0, h.head.ID)
	recovered, err := f.log.Recover(f.Context())
	f.check(err)
	if recovered != o.log.Head() {
		f.Fatalf("recovered head is %+v, want %+v", recovered, o.log.Head())
	}
	f.equal(o)
}

// truncateTwins cuts both logs back, row by row, as far as they let it.
func (f *loading) truncateTwins(o *fixture, h *history, from, to sqllog.ID) {
	f.Helper()
	for id := to; id >= max(from, 0); id-- {
		at := h.headAt(id)
		got, want := f.log.Truncate(f.Context(), at), o.log.Truncate(f.Context(), at)
		if errors.Is(got, sqllog.ErrGap) != errors.Is(want, sqllog.ErrGap) || (got == nil) != (want == nil) {
			f.Fatalf("truncate to %+v gives %v, the twin %v", at, got, want)
		}
		if want == nil && id%31 == 0 {
			f.equal(o)
		}
	}
	// Rows that were cut off are not to be made again.
	h.head = o.log.Head()
	h.rows = h.rows[:h.head.ID]
}

func (f *loading) equal(o *fixture) {
	f.Helper()
	for range 2 {
		if got, want := f.log.Head(), o.log.Head(); got != want {
			f.Fatalf("head is %+v, want %+v", got, want)
		}
		if got, want := f.log.Compaction(), o.log.Compaction(); fmt.Sprint(got) != fmt.Sprint(want) {
			f.Fatalf("compaction is %+v, want %+v", got, want)
		}
		f.holds(o.scan(0, 1<<40))
		f.reopen()
		o.reopen()
	}
}

func testLoadColumns(f *loading) {
	const big, far = 1<<62 - 1, 1 << 39
	rows := []sqllog.Row{
		{ID: 3, Epoch: 1, Revision: 2, Sub: 1, Kind: sqllog.KindPut, Key: []byte{0}, Value: nil, CreateRevision: 2, Version: 1, Lease: -1},
		{ID: 9, Epoch: 1, Revision: 2, Sub: 4, Kind: sqllog.KindDelete, Key: []byte("é\xff"), PrevRevision: 2},
		{ID: 10, Epoch: 2, Revision: 7, Kind: sqllog.KindEpoch, Value: []byte("node")},
		{ID: 11, Epoch: 2, Revision: 7, Kind: sqllog.KindLease, Lease: big, Version: 60, WrittenAt: big},
		{ID: 100, Epoch: 2, Revision: 9, Kind: sqllog.KindCompact, CreateRevision: 2, Value: sqllog.EncodeDeleted([]sqllog.DeletedKey{{Key: []byte("k")}})},
		{ID: far, Epoch: big - 1, Revision: big - 1, Sub: big, Kind: sqllog.KindPut, Key: []byte("k"), Value: make([]byte, 3<<20),
			CreateRevision: 3, PrevRevision: 3, Version: big, Lease: 1, WrittenAt: -1},
	}
	l := f.begin()
	f.check(l.Add(rows[:2]))
	f.check(l.Add(rows[2:]))
	f.finish(l, headOf(rows), sqllog.Compaction{})
	f.holds(rows)
	f.headIs(headOf(rows))
	f.want(f.log.Truncate(f.Context(), sqllog.Head{ID: 100, Epoch: 2, Revision: 9}), sqllog.ErrGap)
	// Of the newest row that is missing nothing is known but where it was.
	at := sqllog.Head{ID: far - 1}
	for _, to := range []sqllog.Head{{}, {Epoch: 1, Revision: 9}, {Epoch: 2, Revision: 8}, {Epoch: big, Revision: 9}, {Epoch: 2, Revision: big}} {
		to.ID = at.ID
		f.want(f.log.Truncate(f.Context(), to), sqllog.ErrInvalidRow)
	}
	at.Epoch, at.Revision = 5, 77
	f.check(f.log.Truncate(f.Context(), at))
	f.headIs(at)
	f.holds(rows[:5])
}

func testLoadMany(f *loading) {
	h := newHistory(5)
	for len(h.rows) < 30_000 {
		h.group()
	}
	l := f.begin()
	for rows, n := h.rows, 1; len(rows) > 0; n = n*3 + 1 {
		n = min(n, len(rows))
		f.check(l.Add(rows[:n]))
		rows = rows[n:]
		if n > 5000 {
			n = 0
		}
	}
	f.finish(l, headOf(h.rows), sqllog.Compaction{})
	f.holds(h.rows)
	f.goesOn(headOf(h.rows))
	f.refusesOtherHeads(h, h.head.ID-10) // no row is missing: every one can be the head
	f.check(f.log.Truncate(f.Context(), h.headAt(h.head.ID-10)))
	f.check(f.log.Truncate(f.Context(), sqllog.Head{Revision: 1}))
}

func testLoadNoRows(f *loading) {
	c := sqllog.Compaction{Revision: 500, Deleted: []sqllog.DeletedKey{{Sub: 0, Key: []byte("a")}, {Sub: 7, Key: []byte{0, 255}}}}
	head := sqllog.Head{ID: 10, Epoch: 4, Revision: 500}
	f.finish(f.begin(), head, c)
	f.holds(nil)
	f.goesOn(head)
	if got := f.log.Compaction(); fmt.Sprint(got) != fmt.Sprint(c) {
		f.Fatalf("compaction is %v, want %v", got, c)
	}
	f.want(f.log.Truncate(f.Context(), sqllog.Head{ID: 9, Epoch: 4, Revision: 500}), sqllog.ErrGap)
}

func testLoadRefuses(f *loading) {
	put := func(id sqllog.ID, epoch sqllog.Epoch, rev sqllog.Revision, sub int64) sqllog.Row {
		return sqllog.Row{ID: id, Epoch: epoch, Revision: rev, Sub: sub, Kind: sqllog.KindPut, Key: []byte("k"), CreateRevision: rev, Version: 1}
	}
	l := f.begin()
	good := []sqllog.Row{put(3, 2, 5, 0), put(6, 2, 5, 2), put(7, 3, 6, 0)}
	f.want(l.Add([]sqllog.Row{put(2, 1, 1, 0)}), sqllog.ErrInvalidRow) // revision 1 has no changes
	f.check(l.Add(good[:2]))
	for name, bad := range map[string]struct {
		row    sqllog.Row
		target error
	}{
		"the same id":     {put(6, 2, 6, 0), sqllog.ErrGap},
		"an id below":     {put(4, 2, 6, 0), sqllog.ErrGap},
		"no id":           {put(0, 2, 6, 0), sqllog.ErrInvalidRow},
		"epoch back":      {put(7, 1, 6, 0), sqllog.ErrInvalidRow},
		"revision back":   {put(7, 2, 4, 0), sqllog.ErrInvalidRow},
		"the same change": {put(7, 2, 5, 2), sqllog.ErrInvalidRow},
		"a change before": {put(9, 2, 5, 1), sqllog.ErrInvalidRow},
		"no kind":         {sqllog.Row{ID: 7, Epoch: 2, Revision: 5}, sqllog.ErrInvalidRow},
	} {
		f.Logf("add: %s", name)
		f.want(l.Add([]sqllog.Row{bad.row}), bad.target)
	}
	f.want(l.Add([]sqllog.Row{good[2], put(7, 3, 7, 0)}), sqllog.ErrGap) // nothing of the call is added
	f.want(l.Add([]sqllog.Row{put(60, 3, 7, 0), put(70, 2, 8, 0)}), sqllog.ErrInvalidRow)
	f.check(l.Add(good[2:]))
	f.finish(l, headOf(good), sqllog.Compaction{})
	f.holds(good)
	f.headIs(headOf(good))
	f.want(f.log.Truncate(f.Context(), headOf(good[:1])), sqllog.ErrGap)
	f.check(f.log.Truncate(f.Context(), sqllog.Head{ID: 5, Epoch: 2, Revision: 5}))
}

func testLoadRefusesEnd(f *loading) {
	l := f.begin()
	for _, head := range []sqllog.Head{{}, {Revision: 2}, {Epoch: 1, Revision: 1}, {ID: 1, Revision: 1}, {ID: -1, Epoch: 1, Revision: 1}} {
		f.want(l.Finish(head, sqllog.Compaction{}), sqllog.ErrInvalidRow)
	}
	row := sqllog.Row{ID: 5, Epoch: 2, Revision: 9, Kind: sqllog.KindMember}
	f.check(l.Add([]sqllog.Row{row}))
	for _, head := range []sqllog.Head{
		{Revision: 1}, {ID: 4, Epoch: 2, Revision: 9}, {ID: 5, Epoch: 3, Revision: 9}, {ID: 5, Epoch: 2, Revision: 10},
		{ID: 6, Epoch: 1, Revision: 9}, {ID: 6, Epoch: 2, Revision: 8}, {ID: 6, Revision: 9}, {ID: 1 << 62, Epoch: 2, Revision: 9},
	} {
		f.want(l.Finish(head, sqllog.Compaction{}), sqllog.ErrInvalidRow)
	}
	head := sqllog.Head{ID: 6, Epoch: 2, Revision: 10}
	for _, c := range []sqllog.Compaction{
		{Revision: 11}, {Revision: -1}, {Deleted: []sqllog.DeletedKey{{Key: []byte("k")}}},
		{Revision: 3, Deleted: []sqllog.DeletedKey{{}}}, {Revision: 3, Deleted: []sqllog.DeletedKey{{Sub: -1, Key: []byte("k")}}},
	} {
		f.want(l.Finish(head, c), sqllog.ErrInvalidRow)
	}
	f.finish(l, head, sqllog.Compaction{Revision: 10})
	f.holds([]sqllog.Row{row})
	f.goesOn(head)
}

func testLoadExists(f *loading) {
	l := f.begin()
	f.log = f.open(f.T, f.dir)
	all := f.fill(3, 3)
	f.check(f.log.Close())
	// The one that had begun finds the log at its end, another at once.
	f.want(l.Finish(sqllog.Head{Revision: 1}, sqllog.Compaction{}), fs.ErrExist)
	f.check(l.Abort())
	_, err := f.load(f.T, f.dir)
	f.want(err, fs.ErrExist)
	f.log = f.open(f.T, f.dir)
	f.holds(all)
}

func testLoadAbort(f *loading) {
	l := f.begin()
	f.check(l.Add([]sqllog.Row{{ID: 5, Epoch: 2, Revision: 9, Kind: sqllog.KindMember}}))
	f.check(l.Abort())
	f.check(l.Abort())
	f.want(l.Add(nil), sqllog.ErrClosed)
	f.want(l.Finish(sqllog.Head{ID: 5, Epoch: 2, Revision: 9}, sqllog.Compaction{}), sqllog.ErrClosed)
	if left, err := filepath.Glob(filepath.Join(f.dir, "*")); err != nil || len(left) > 0 {
		f.Fatalf("aborting leaves %v: %v", left, err)
	}
	again, err := f.load(f.T, f.dir)
	f.check(err)
	other, err := f.load(f.T, f.dir) // takes the place of one that was never ended
	f.check(err)
	f.finish(other, sqllog.Head{Revision: 1}, sqllog.Compaction{})
	f.check(again.Abort())
	f.holds(nil)
}
