package sqllogtest

import (
	"context"
	"errors"
	"math/rand/v2"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

func testScanWindows(f *fixture) {
	all := f.fill(20, 7)
	f.check(f.log.Remove([]sqllog.ID{5, 6, 12}, sqllog.Compaction{}))
	var kept []sqllog.Row
	for _, r := range all {
		if r.ID != 5 && r.ID != 6 && r.ID != 12 {
			kept = append(kept, r)
		}
	}
	for after := sqllog.ID(-1); after < 23; after++ {
		for upTo := sqllog.ID(-1); upTo < 23; upTo++ {
			var want []sqllog.Row
			for _, r := range kept {
				if r.ID > after && r.ID <= upTo {
					want = append(want, r)
				}
			}
			f.same(f.scan(after, upTo), want)
		}
	}
}

// testScanPages crosses the pages in which an implementation reads.
func testScanPages(f *fixture) {
	all := f.fill(3210, 500)
	f.holds(all)
	for _, n := range []sqllog.ID{999, 1000, 1001, 2000} {
		f.same(f.scan(n, n+1000), all[n:n+1000])
	}
	var odd []sqllog.ID
	var even []sqllog.Row
	for _, r := range all {
		if r.ID%2 == 1 {
			odd = append(odd, r.ID)
		} else {
			even = append(even, r)
		}
	}
	f.check(f.log.Remove(odd, sqllog.Compaction{}))
	f.holds(even)
}

func testScanError(f *fixture) {
	f.fill(1500, 500)
	stop := errors.New("stop")
	for _, at := range []int{1, 7, 1000, 1001} {
		n := 0
		err := f.log.Scan(f.Context(), 0, 1500, func(*sqllog.Row) error {
			if n++; n == at {
				return stop
			}
			return nil
		})
		f.want(err, stop)
		if n != at {
			f.Fatalf("fn was called %d times after it failed", n-at)
		}
	}
	f.same(f.scan(1499, 1500), f.scan(0, 1500)[1499:])
}

// testScanNested reads and writes while fn runs: nothing may be held meanwhile.
func testScanNested(f *fixture) {
	all := f.fill(10, 10)
	var nest func(depth int) error
	nest = func(depth int) error {
		if depth == 0 {
			values, err := f.log.Values(f.Context(), []sqllog.ID{3})
			if err != nil {
				return err
			}
			if string(values[0]) != string(all[2].Value) {
				return errors.New("another value")
			}
			return f.log.Append(f.puts(1))
		}
		return f.log.Scan(f.Context(), 0, 2, func(*sqllog.Row) error { return nest(depth - 1) })
	}
	f.check(nest(5))
	if got := f.log.Head().ID; got != 10+32 {
		f.Fatalf("head is %d", got)
	}
}

func testContext(f *fixture) {
	f.fill(1500, 500)
	cause := errors.New("cause")
	ctx, cancel := context.WithCancelCause(f.Context())
	n := 0
	err := f.log.ScanKeys(ctx, 0, 1500, func(*sqllog.Row) error {
		if n++; n == 10 {
			cancel(cause)
		}
		return nil
	})
	f.want(err, context.Canceled)
	if n != 10 {
		f.Fatalf("fn was called %d times after the context ended", n-10)
	}
	for name, call := range map[string]func() error{
		"Scan":      func() error { return f.log.Scan(ctx, 0, 10, func(*sqllog.Row) error { return nil }) },
		"ScanKeys":  func() error { return f.log.ScanKeys(ctx, 0, 10, func(*sqllog.Row) error { return nil }) },
		"Values":    func() error { _, err := f.log.Values(ctx, []sqllog.ID{1}); return err },
		"Rows":      func() error { _, err := f.log.Rows(ctx); return err },
		"Size":      func() error { _, err := f.log.Size(ctx); return err },
		"FreePages": func() error { _, _, err := f.log.FreePages(ctx); return err },
		"Truncate":  func() error { return f.log.Truncate(ctx, sqllog.Head{ID: 1, Epoch: 1, Revision: 2}) },
		"Recover":   func() error { _, err := f.log.Recover(ctx); return err },
	} {
		if err := call(); !errors.Is(err, context.Canceled) || errors.Is(err, sqllog.ErrCorrupt) {
			f.Errorf("%s with an ended context: %v", name, err)
		}
	}
	f.headIs(sqllog.Head{ID: 1500, Epoch: 1, Revision: 1501})
}

func (f *fixture) values(ids []sqllog.ID, all []sqllog.Row) {
	f.Helper()
	got, err := f.log.Values(f.Context(), ids)
	f.check(err)
	if len(got) != len(ids) {
		f.Fatalf("%d values for %d ids", len(got), len(ids))
	}
	for i, id := range ids {
		if string(got[i]) != string(all[id-1].Value) {
			f.Fatalf("value %d, of row %d, is %q", i, id, got[i])
		}
	}
}

func testValues(f *fixture) {
	all := f.fill(300, 100)
	f.values(nil, all)
	f.values([]sqllog.ID{300, 1, 17, 17, 17, 2, 300}, all)
	down := make([]sqllog.ID, 300)
	for i := range down {
		down[i] = sqllog.ID(300 - i)
	}
	f.values(down, all)
	same := make([]sqllog.ID, 200) // more of one id than a statement takes
	for i := range same {
		same[i] = 42
	}
	f.values(same, all)
	f.check(f.log.Remove([]sqllog.ID{1, 50, 300}, sqllog.Compaction{}))
	for _, ids := range [][]sqllog.ID{{1}, {50}, {300}, {301}, {0}, {-1}, {49, 50}, {49, 51, 50}, {2, 300}, down} {
		_, err := f.log.Values(f.Context(), ids)
		f.want(err, sqllog.ErrMissing)
	}
	f.values([]sqllog.ID{2, 49, 51, 299}, all)
}

func testValuesMany(f *fixture) {
	all := f.fill(500, 250)
	rng := rand.New(rand.NewPCG(1, 2))
	for n := 1; n < 260; n += 1 + n/10 {
		ids := make([]sqllog.ID, n)
		for i := range ids {
			ids[i] = sqllog.ID(rng.IntN(500) + 1)
		}
		f.values(ids, all)
		ids[rng.IntN(n)] = 501
		_, err := f.log.Values(f.Context(), ids)
		f.want(err, sqllog.ErrMissing)
	}
}
