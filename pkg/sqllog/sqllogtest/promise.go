package sqllogtest

import (
	"errors"
	"sync"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// promised checks the promise, and that it stays the same when the log is
// reopened.
func (f *fixture) promised(want sqllog.Epoch) {
	f.Helper()
	if got := f.log.Promised(); got != want {
		f.Fatalf("epoch %d is promised, want %d", got, want)
	}
	f.reopen()
	if got := f.log.Promised(); got != want {
		f.Fatalf("epoch %d is promised after reopening, want %d", got, want)
	}
}

func (f *fixture) promise(e sqllog.Epoch) {
	f.Helper()
	head, err := f.log.Promise(e)
	f.check(err)
	if head != f.log.Head() {
		f.Fatalf("promise of %d answers head %+v, which is %+v", e, head, f.log.Head())
	}
}

// in gives rows of an epoch that follow the head.
func (f *fixture) in(e sqllog.Epoch, n int) []sqllog.Row {
	rows := f.puts(n)
	for i := range rows {
		rows[i].Epoch = e
	}
	return rows
}

func testPromise(f *fixture) {
	f.promised(0)
	f.promise(3)
	f.promised(3)
	f.promise(3)
	for _, e := range []sqllog.Epoch{2, 1} {
		_, err := f.log.Promise(e)
		f.want(err, sqllog.ErrPromised)
	}
	for _, e := range []sqllog.Epoch{0, -1, 1 << 62} {
		_, err := f.log.Promise(e)
		f.want(err, sqllog.ErrInvalidRow)
	}
	f.promised(3)
	first := f.in(1, 4)
	f.check(f.log.AppendIn(3, first)) // rows of a Primary before, sent by that of 3
	f.promised(3)
	f.holds(first)
	f.promise(9)
	f.promised(9)
	f.holds(first)
	f.headIs(headOf(first))
}

func testPromiseAppend(f *fixture) {
	refused := func(e sqllog.Epoch, rows []sqllog.Row, target error) {
		f.Helper()
		before, head, promised := f.scan(0, 1<<40), f.log.Head(), f.log.Promised()
		f.want(f.log.AppendIn(e, rows), target)
		f.same(f.scan(0, 1<<40), before)
		if f.log.Head() != head || f.log.Promised() != promised {
			f.Fatalf("head %+v and promise %d, were %+v and %d", f.log.Head(), f.log.Promised(), head, promised)
		}
	}
	all := f.in(2, 3)
	f.check(f.log.AppendIn(2, all))
	f.promised(2)
	refused(1, f.in(2, 1), sqllog.ErrPromised)
	refused(1, nil, sqllog.ErrPromised)
	refused(2, f.in(3, 1), sqllog.ErrInvalidRow) // what was not promised is not taken
	refused(0, f.in(2, 1), sqllog.ErrInvalidRow)
	refused(5, f.in(1, 1), sqllog.ErrInvalidRow)
	refused(5, all, sqllog.ErrGap)
	f.check(f.log.AppendIn(4, f.in(2, 2)))
	f.promised(4)
	refused(3, f.in(2, 1), sqllog.ErrPromised)
	f.check(f.log.AppendIn(5, nil))
	f.promised(5)
	f.check(f.log.AppendIn(5, f.in(5, 1)))
	// Append looks at no promise, and raises it.
	f.check(f.log.Append(f.in(5, 1)))
	f.promise(8)
	f.check(f.log.Append(f.in(6, 1)))
	f.promised(8)
	f.check(f.log.Append(f.in(10, 1)))
	f.promised(10)
	refused(9, f.in(10, 1), sqllog.ErrPromised)
}

func testPromiseTruncate(f *fixture) {
	first := f.in(1, 3)
	f.check(f.log.Append(first))
	f.check(f.log.Append(f.in(4, 3)))
	f.want(f.log.TruncateIn(3, headOf(first)), sqllog.ErrPromised)
	f.want(f.log.TruncateIn(0, headOf(first)), sqllog.ErrInvalidRow)
	f.check(f.log.Truncate(f.Context(), headOf(first)))
	f.promised(4) // though no row of it is left
	f.want(f.log.AppendIn(3, f.in(1, 1)), sqllog.ErrPromised)
	f.check(f.log.AppendIn(4, f.in(4, 2)))
	f.check(f.log.TruncateIn(6, f.log.Head())) // nothing to remove
	f.promised(6)
	f.want(f.log.TruncateIn(7, sqllog.Head{ID: 99, Epoch: 4, Revision: 99}), sqllog.ErrGap)
	f.want(f.log.TruncateIn(7, sqllog.Head{ID: 2, Epoch: 3, Revision: 3}), sqllog.ErrInvalidRow)
	f.promised(6)
	f.check(f.log.TruncateIn(7, headOf(first)))
	f.promised(7)
	f.holds(first)
	f.check(f.log.TruncateIn(7, sqllog.Head{Revision: 1}))
	f.promised(7)
	f.want(f.log.TruncateIn(6, sqllog.Head{Revision: 1}), sqllog.ErrPromised)
	f.holds(nil)
}

// testPromiseRemoved: compaction takes no promise away.
func testPromiseRemoved(f *fixture) {
	rows := f.in(3, 5)
	f.check(f.log.AppendIn(6, rows))
	f.check(f.log.Remove(idsOf(rows), sqllog.Compaction{Revision: 4}))
	f.promised(6)
	f.want(f.log.AppendIn(5, f.in(3, 1)), sqllog.ErrPromised)
	f.check(f.log.AppendIn(6, f.in(6, 1)))
}

// testPromiseRace promises while others append: no row of a lower epoch comes
// after the head that the promise was answered with.
func testPromiseRace(f *fixture) {
	for e := sqllog.Epoch(1); e <= 20; e++ {
		var writers sync.WaitGroup
		started := make(chan struct{}, 3)
		for range 3 {
			writers.Go(func() {
				for first := true; ; first = false {
					err := f.log.AppendIn(e, f.in(e, 2))
					if first {
						started <- struct{}{}
					}
					switch {
					case err == nil:
					case errors.Is(err, sqllog.ErrPromised):
						return
					case !errors.Is(err, sqllog.ErrGap) && !errors.Is(err, sqllog.ErrInvalidRow):
						f.Error(err)
						return
					}
				}
			})
		}
		<-started
		head, err := f.log.Promise(e + 1)
		f.check(err)
		writers.Wait()
		if f.log.Head() != head {
			f.Fatalf("head is %+v, %+v was promised", f.log.Head(), head)
		}
	}
	f.promised(21)
}
