// Package sqllogtest is the conformance suite of the log. Every implementation
// runs it: each dialect of pkg/sqllog, and what stands in for a log elsewhere.
package sqllogtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Log is what the suite tests; the methods are those of *sqllog.Log, whose
// docstrings say what each promises.
type Log interface {
	Append(rows []sqllog.Row) error
	Scan(ctx context.Context, after, upTo sqllog.ID, fn func(*sqllog.Row) error) error
	ScanKeys(ctx context.Context, after, upTo sqllog.ID, fn func(*sqllog.Row) error) error
	Values(ctx context.Context, ids []sqllog.ID) ([][]byte, error)
	Truncate(ctx context.Context, to sqllog.Head) error
	Promise(e sqllog.Epoch) (sqllog.Head, error)
	Promised() sqllog.Epoch
	AppendIn(e sqllog.Epoch, rows []sqllog.Row) error
	TruncateIn(e sqllog.Epoch, to sqllog.Head) error
	Remove(ids []sqllog.ID, c sqllog.Compaction) error
	Head() sqllog.Head
	Compaction() sqllog.Compaction
	Recover(ctx context.Context) (sqllog.Head, error)
	Size(ctx context.Context) (sqllog.Size, error)
	FreePages(ctx context.Context) (free, total int64, err error)
	Shrink(maxPages int) (left int64, err error)
	Rows(ctx context.Context) (int64, error)
	HoldRemoval() (release func())
	Close() error
}

var _ Log = (*sqllog.Log)(nil)

// Run runs the suite. open opens the log that is kept in dir, creating it the
// first time; the suite closes it and opens it again. The tests run in parallel.
func Run(t *testing.T, open func(t *testing.T, dir string) Log) {
	for _, c := range []struct {
		name string
		test func(*fixture)
	}{
		{"empty", testEmpty},
		{"append refuses gaps", testAppendGaps},
		{"append refuses invalid rows", testAppendInvalid},
		{"append keeps groups whole", testAppendGroups},
		{"append keeps every column", testAppendColumns},
		{"append large values", testAppendLarge},
		{"scan windows", testScanWindows},
		{"scan pages", testScanPages},
		{"scan passes on the error of fn", testScanError},
		{"scan calls nest", testScanNested},
		{"reads end with their context", testContext},
		{"values in any order", testValues},
		{"values by number", testValuesMany},
		{"truncate", testTruncate},
		{"truncate refuses", testTruncateRefuses},
		{"truncate after removal", testTruncateRemoved},
		{"remove", testRemove},
		{"remove everything", testRemoveAll},
		{"remove refuses", testRemoveRefuses},
		{"compaction is recorded", testCompaction},
		{"several epochs", testEpochs},
		{"epochs diverge", testEpochsDiverge},
		{"promise", testPromise},
		{"append under a promise", testPromiseAppend},
		{"truncate under a promise", testPromiseTruncate},
		{"removal keeps the promise", testPromiseRemoved},
		{"promise during appends", testPromiseRace},
		{"removal is held", testHold},
		{"close ends the wait for a hold", testHoldClose},
		{"scans under a hold", testHoldScans},
		{"recover", testRecover},
		{"space is given back", testSpace},
		{"readers during appends", testConcurrent},
		{"writers exclude each other", testWriters},
		{"close", testClose},
		{"close during reads", testCloseReads},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := &fixture{T: t, dir: t.TempDir(), open: open}
			f.log = open(t, f.dir)
			t.Cleanup(func() { f.check(f.log.Close()) })
			c.test(f)
		})
	}
}

// fixture is one log under test.
type fixture struct {
	*testing.T
	dir  string
	open func(*testing.T, string) Log
	log  Log
}

func (f *fixture) check(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) want(err, target error) {
	f.Helper()
	if !errors.Is(err, target) {
		f.Fatalf("error is %v, want %v", err, target)
	}
}

func (f *fixture) reopen() {
	f.Helper()
	f.check(f.log.Close())
	f.log = f.open(f.T, f.dir)
}

// puts makes n rows that follow the head, each a put of its own revision.
func (f *fixture) puts(n int) []sqllog.Row {
	h := f.log.Head()
	rows := make([]sqllog.Row, n)
	for i := range rows {
		id, rev := h.ID+sqllog.ID(i)+1, h.Revision+sqllog.Revision(i)+1
		rows[i] = sqllog.Row{
			ID: id, Epoch: max(h.Epoch, 1), Revision: rev, Kind: sqllog.KindPut,
			Key: fmt.Appendf(nil, "/key/%d", id), Value: fmt.Appendf(nil, "value of %d", id),
			CreateRevision: rev, Version: 1, WrittenAt: 1_700_000_000_000,
		}
	}
	return rows
}

// fill appends n puts in groups and returns them.
func (f *fixture) fill(n, group int) []sqllog.Row {
	f.Helper()
	var all []sqllog.Row
	for n > 0 {
		rows := f.puts(min(n, group))
		f.check(f.log.Append(rows))
		all = append(all, rows...)
		n -= len(rows)
	}
	return all
}

// copyRow copies a row out of a scan.
func copyRow(r *sqllog.Row) sqllog.Row {
	c := *r
	c.Key, c.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
	return c
}

func (f *fixture) scan(after, upTo sqllog.ID) []sqllog.Row {
	f.Helper()
	var rows []sqllog.Row
	f.check(f.log.Scan(f.Context(), after, upTo, func(r *sqllog.Row) error {
		rows = append(rows, copyRow(r))
		return nil
	}))
	return rows
}

// holds checks that the log holds exactly these rows, values included, and that
// the scan without values agrees.
func (f *fixture) holds(want []sqllog.Row) {
	f.Helper()
	f.same(f.scan(0, 1<<40), want)
	i := 0
	f.check(f.log.ScanKeys(f.Context(), 0, 1<<40, func(r *sqllog.Row) error {
		if i >= len(want) {
			return fmt.Errorf("row %d was not expected", r.ID)
		}
		w := want[i]
		if r.Value != nil || r.ValueSize != int64(len(w.Value)) {
			return fmt.Errorf("row %d has value %q of %d bytes, want nil of %d", r.ID, r.Value, r.ValueSize, len(w.Value))
		}
		got := copyRow(r)
		got.Value = w.Value
		i++
		return differ(&got, &w)
	}))
	if i != len(want) {
		f.Fatalf("scan of keys gave %d rows, want %d", i, len(want))
	}
	n, err := f.log.Rows(f.Context())
	f.check(err)
	if n != int64(len(want)) {
		f.Fatalf("log counts %d rows, want %d", n, len(want))
	}
}

func (f *fixture) same(got, want []sqllog.Row) {
	f.Helper()
	if len(got) != len(want) {
		f.Fatalf("got %d rows, want %d", len(got), len(want))
	}
	for i := range got {
		f.check(differ(&got[i], &want[i]))
	}
}

// differ says in what a row differs from the one that was written: nil and
// empty are the same, and ValueSize is what was found.
func differ(got, want *sqllog.Row) error {
	g, w := *got, *want
	g.Key, g.Value, w.Key, w.Value = nil, nil, nil, nil
	w.ValueSize = int64(len(want.Value))
	switch {
	case fmt.Sprint(g) != fmt.Sprint(w):
		return fmt.Errorf("row is %+v, want %+v", g, w)
	case !bytes.Equal(got.Key, want.Key):
		return fmt.Errorf("row %d has key %q, want %q", got.ID, got.Key, want.Key)
	case !bytes.Equal(got.Value, want.Value):
		return fmt.Errorf("row %d has another value than was written", got.ID)
	}
	return nil
}

// headIs checks the head, and that it stays the same when the log is reopened.
func (f *fixture) headIs(want sqllog.Head) {
	f.Helper()
	if got := f.log.Head(); got != want {
		f.Fatalf("head is %+v, want %+v", got, want)
	}
	f.reopen()
	if got := f.log.Head(); got != want {
		f.Fatalf("head after reopening is %+v, want %+v", got, want)
	}
}

// headOf is the head after the last of rows.
func headOf(rows []sqllog.Row) sqllog.Head {
	r := rows[len(rows)-1]
	return sqllog.Head{ID: r.ID, Epoch: r.Epoch, Revision: r.Revision}
}

func idsOf(rows []sqllog.Row) []sqllog.ID {
	ids := make([]sqllog.ID, len(rows))
	for i := range rows {
		ids[i] = rows[i].ID
	}
	return ids
}
