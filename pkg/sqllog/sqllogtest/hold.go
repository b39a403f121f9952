package sqllogtest

import (
	"sync"
	"sync/atomic"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// removal is a call of Remove that goes on by itself.
type removal struct {
	err  error
	done chan struct{}
}

func (f *fixture) removing(ids ...sqllog.ID) *removal {
	r := &removal{done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = f.log.Remove(ids, sqllog.Compaction{})
	}()
	return r
}

func (r *removal) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// testHold holds removal while rows are read and written.
func testHold(f *fixture) {
	all := f.fill(10, 10)
	first, second := f.log.HoldRemoval(), f.log.HoldRemoval()
	r := f.removing(2, 3)
	all = append(all, f.fill(10, 2)...)
	f.holds(all)
	first()
	first() // again: it does not count twice
	all = append(all, f.fill(10, 2)...)
	f.holds(all)
	f.check(f.log.Truncate(f.Context(), headOf(all[:25])))
	_, err := f.log.Recover(f.Context())
	f.check(err)
	if r.ended() {
		f.Fatalf("rows were removed in spite of a hold: %v", r.err)
	}
	second()
	<-r.done
	f.check(r.err)
	f.holds(append(all[:1:1], all[3:25]...))
	f.check(f.log.Remove([]sqllog.ID{4}, sqllog.Compaction{})) // none is in force
	f.log.HoldRemoval()()
	f.check(f.log.Remove([]sqllog.ID{5}, sqllog.Compaction{}))
}

// testHoldClose closes a log under a hold.
func testHoldClose(f *fixture) {
	all := f.fill(10, 10)
	release := f.log.HoldRemoval()
	r := f.removing(2)
	f.check(f.log.Close())
	<-r.done
	f.want(r.err, sqllog.ErrClosed)
	release()
	f.log.HoldRemoval()()
	f.reopen()
	f.holds(all)
}

// testHoldScans scans twice under a hold while rows are removed without end:
// both scans see the same rows.
func testHoldScans(f *fixture) {
	f.fill(600, 100)
	var stop atomic.Bool
	var remover sync.WaitGroup
	defer remover.Wait()
	defer stop.Store(true)
	remover.Go(func() {
		for id := sqllog.ID(1); id <= 600 && !stop.Load(); id++ {
			if err := f.log.Remove([]sqllog.ID{id}, sqllog.Compaction{}); err != nil {
				f.Error(err)
				return
			}
		}
	})
	for range 20 {
		release := f.log.HoldRemoval()
		first := f.scan(0, 600)
		f.same(f.scan(0, 600), first)
		n, err := f.log.Rows(f.Context())
		f.check(err)
		if n != int64(len(first)) {
			f.Fatalf("log counts %d rows, the scan before saw %d", n, len(first))
		}
		release()
	}
}
