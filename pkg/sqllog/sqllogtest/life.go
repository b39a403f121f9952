package sqllogtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

func testSpace(f *fixture) {
	var ids []sqllog.ID
	for range 40 {
		rows := f.puts(20)
		for i := range rows {
			rows[i].Value = bytes.Repeat([]byte("x"), 10_000)
		}
		f.check(f.log.Append(rows))
		ids = append(ids, idsOf(rows)...)
	}
	full := f.size()
	for i := 0; i < len(ids)-10; i += 50 {
		f.check(f.log.Remove(ids[i:min(i+50, len(ids)-10)], sqllog.Compaction{}))
	}
	removed := f.size()
	if removed.InUse > full.InUse/4 {
		f.Fatalf("%d bytes are in use after the removal, %d before", removed.InUse, full.InUse)
	}
	free, total, err := f.log.FreePages(f.Context())
	f.check(err)
	if free < total/2 {
		f.Fatalf("%d of %d pages are free", free, total)
	}
	left, err := f.log.Shrink(0)
	f.check(err)
	if left != free {
		f.Fatalf("%d pages are left free of %d, and none was to be given back", left, free)
	}
	for left > 0 {
		before := left
		left, err = f.log.Shrink(100)
		f.check(err)
		if left >= before || left < before-100 {
			f.Fatalf("%d pages are left of %d after giving back 100", left, before)
		}
	}
	if shrunk := f.size(); shrunk.File > full.File/4 || shrunk.File < shrunk.InUse {
		f.Fatalf("size is %+v, was %+v", shrunk, full)
	}
	f.reopen()
	if n := len(f.scan(0, 1<<40)); n != 10 {
		f.Fatalf("%d rows are left", n)
	}
}

func (f *fixture) size() sqllog.Size {
	f.Helper()
	s, err := f.log.Size(f.Context())
	f.check(err)
	return s
}

// testConcurrent reads what is committed while more is appended and history is
// removed behind it.
func testConcurrent(f *fixture) {
	f.fill(50, 50)
	var floor atomic.Int64 // rows up to it may be gone
	var readers sync.WaitGroup
	ctx, stop := context.WithCancel(f.Context())
	for i := range 4 {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			for ctx.Err() == nil {
				if err := readSome(ctx, f.log, rng, &floor); err != nil && ctx.Err() == nil {
					f.Error(err)
					return
				}
			}
		})
	}
	for i := range 60 {
		f.fill(i%40+1, 40)
		if i%10 == 9 {
			from, to := floor.Load(), floor.Load()+20
			floor.Store(to)
			var ids []sqllog.ID
			for id := from + 1; id <= to; id++ {
				ids = append(ids, sqllog.ID(id))
			}
			f.check(f.log.Remove(ids, sqllog.Compaction{Revision: sqllog.Revision(to)}))
			_, err := f.log.Shrink(10)
			f.check(err)
		}
	}
	stop()
	readers.Wait()
}

func readSome(ctx context.Context, log Log, rng *rand.Rand, floor *atomic.Int64) error {
	head := log.Head().ID
	low := sqllog.ID(floor.Load()) + 40 // two removals ahead
	if low >= head {
		return nil
	}
	next := low
	err := log.Scan(ctx, low, head, func(r *sqllog.Row) error {
		if next++; r.ID != next && sqllog.ID(floor.Load()) < low {
			return fmt.Errorf("row %d where %d should be", r.ID, next)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if next != head && sqllog.ID(floor.Load()) < low {
		return fmt.Errorf("scan ended at row %d below the head %d", next, head)
	}
	id := low + sqllog.ID(rng.Int64N(int64(head-low))) + 1
	values, err := log.Values(ctx, []sqllog.ID{id, head})
	if errors.Is(err, sqllog.ErrMissing) && sqllog.ID(floor.Load()) >= id {
		return nil
	}
	if err == nil && string(values[0]) != fmt.Sprintf("value of %d", id) {
		err = fmt.Errorf("value of row %d is %q", id, values[0])
	}
	if err == nil {
		_, err = log.Size(ctx)
	}
	return err
}

// testWriters appends the same rows from several goroutines: one of each group
// wins.
func testWriters(f *fixture) {
	var wins atomic.Int64
	for range 20 {
		rows := f.puts(3)
		var writers sync.WaitGroup
		for range 4 {
			writers.Go(func() {
				switch err := f.log.Append(rows); {
				case err == nil:
					wins.Add(1)
				case !errors.Is(err, sqllog.ErrGap):
					f.Error(err)
				}
			})
		}
		writers.Wait()
	}
	if wins.Load() != 20 || f.log.Head().ID != 60 {
		f.Fatalf("%d groups were accepted, head is %d", wins.Load(), f.log.Head().ID)
	}
}

func testClose(f *fixture) {
	all := f.fill(5, 5)
	rows := f.puts(1)
	f.check(f.log.Close())
	f.check(f.log.Close())
	ctx := f.Context()
	for name, call := range map[string]func() error{
		"Append":     func() error { return f.log.Append(rows) },
		"gap":        func() error { return f.log.Append(all) },
		"Scan":       func() error { return f.log.Scan(ctx, 0, 10, func(*sqllog.Row) error { return nil }) },
		"ScanKeys":   func() error { return f.log.ScanKeys(ctx, 0, 10, func(*sqllog.Row) error { return nil }) },
		"Values":     func() error { _, err := f.log.Values(ctx, []sqllog.ID{1}); return err },
		"Truncate":   func() error { return f.log.Truncate(ctx, sqllog.Head{Revision: 1}) },
		"Promise":    func() error { _, err := f.log.Promise(7); return err },
		"AppendIn":   func() error { return f.log.AppendIn(7, rows) },
		"TruncateIn": func() error { return f.log.TruncateIn(7, sqllog.Head{Revision: 1}) },
		"Remove":     func() error { return f.log.Remove([]sqllog.ID{1}, sqllog.Compaction{}) },
		"Recover":    func() error { _, err := f.log.Recover(ctx); return err },
		"Size":       func() error { _, err := f.log.Size(ctx); return err },
		"FreePages":  func() error { _, _, err := f.log.FreePages(ctx); return err },
		"Shrink":     func() error { _, err := f.log.Shrink(1); return err },
		"Rows":       func() error { _, err := f.log.Rows(ctx); return err },
	} {
		if err := call(); !errors.Is(err, sqllog.ErrClosed) {
			f.Errorf("%s after Close: %v", name, err)
		}
	}
	if f.log.Head() != headOf(all) {
		f.Errorf("head after Close is %+v", f.log.Head())
	}
	f.reopen()
	f.holds(all)
}

// testCloseReads closes the log under readers and a writer: each call either
// succeeds or says that the log is closed.
func testCloseReads(f *fixture) {
	all := f.fill(2000, 500)
	started := make(chan struct{}, 7)
	var callers sync.WaitGroup
	run := func(call func() error) {
		callers.Go(func() {
			for first := true; ; first = false {
				err := call()
				if first {
					started <- struct{}{}
				}
				if errors.Is(err, sqllog.ErrClosed) {
					return
				}
				if err != nil {
					f.Error(err)
					return
				}
			}
		})
	}
	ctx := f.Context()
	for range 2 {
		run(func() error { return f.log.Scan(ctx, 0, 2000, func(*sqllog.Row) error { return nil }) })
		run(func() error { _, err := f.log.Values(ctx, idsOf(all[:100])); return err })
		run(func() error { _, err := f.log.Rows(ctx); return err })
	}
	run(func() error { return f.log.Append(f.puts(1)) })
	for range 7 {
		<-started
	}
	callers.Go(func() {
		if err := f.log.Close(); err != nil {
			f.Error(err)
		}
	})
	f.check(f.log.Close())
	callers.Wait()
	f.reopen()
	if n := len(f.scan(0, 1<<40)); n < len(all) || n != int(f.log.Head().ID) {
		f.Fatalf("%d rows after reopening, head is %d", n, f.log.Head().ID)
	}
}
