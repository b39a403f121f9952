package replicate

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/mvcc/mvcctest"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// pass lets time pass, and what is due at its end happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (b *bed) writeMany(n int) {
	b.Helper()
	for range n {
		b.write(put("k", "v"))
	}
}

func TestCompactByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, Config{Compaction: CompactionConfig{Interval: time.Minute, MinRetain: 10}})
		synctest.Wait()
		b.writeMany(20)
		for _, step := range []struct {
			writes int
			want   int64
		}{
			{0, 1},   // what was current when the Primary was started
			{4, 11},  // 21 is old enough, but 10 revisions are kept
			{40, 15}, // at 25
			{0, 25},  // at 65: no more than what was current a minute ago
			{0, 55},
			{0, 55},
		} {
			pass(time.Minute - time.Second)
			before := b.store.CompactRevision()
			pass(time.Second)
			if got := b.store.CompactRevision(); got != step.want || (before == got && step.want != 55) {
				t.Fatalf("compacted from %d to %d, want %d", before, got, step.want)
			}
			b.writeMany(step.writes)
		}
		if rows, _ := b.log.Rows(ctx); rows != 11 {
			t.Fatalf("%d rows are left", rows)
		}
	})
}

func TestCompactByAgeIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, Config{Compaction: CompactionConfig{Interval: time.Minute, Jitter: 50}})
		b.writeMany(5)
		pass(2 * time.Minute)
		b.gate.set(true)
		go func() {
			for range b.gate.entered {
				b.gate.release <- verdict{err: sqllog.ErrFull}
			}
		}()
		b.hook(mvcctest.Hooks{Recover: func() error { return sqllog.ErrFull }})
		compacted := b.store.CompactRevision()
		want(t, "write", <-b.txn(writes(put("k", "v"))), ErrNoSpace)
		pass(2 * time.Minute)
		if got := b.store.CompactRevision(); got != compacted {
			t.Fatalf("compacted to %d while the disk was full", got)
		}
		b.gate.set(false)
		close(b.gate.entered)
		b.hook(mvcctest.Hooks{})
		pass(time.Minute) // recovered
		b.writeMany(5)
		pass(3 * time.Minute)
		if got := b.store.CompactRevision(); got != b.store.Revision() {
			t.Fatalf("compacted to %d of %d", got, b.store.Revision())
		}
	})
}

func TestJitter(t *testing.T) {
	c := CompactionConfig{Interval: time.Minute}
	if c.jittered() != time.Minute {
		t.Fatal(c.jittered())
	}
	c.Jitter = 10
	seen := map[time.Duration]bool{}
	for range 100 {
		d := c.jittered()
		if d < 54*time.Second || d >= 66*time.Second {
			t.Fatal(d)
		}
		seen[d] = true
	}
	if len(seen) < 50 {
		t.Fatalf("%d different intervals", len(seen))
	}
}

func TestCompactErrors(t *testing.T) {
	b := newBed(t, Config{})
	b.writeMany(3)
	rev, err := b.p.Compact(ctx, 3, true)
	if err != nil || rev != 4 {
		t.Fatal(rev, err)
	}
	_, err = b.p.Compact(ctx, 3, true)
	want(t, "again", err, mvcc.ErrCompacted)
	_, err = b.p.Compact(ctx, 5, true)
	want(t, "future", err, mvcc.ErrFutureRevision)
	b.p.Close()
	_, err = b.p.Compact(ctx, 4, true)
	want(t, "closed", err, ErrStopped)
}

// TestPhysicalCompactionWaits until the rows are gone, its context ends, or the
// Primary is closed.
func TestPhysicalCompactionWaits(t *testing.T) {
	b := newBed(t, Config{})
	removing, remove := make(chan struct{}, 10), make(chan struct{})
	b.hook(mvcctest.Hooks{Remove: func([]sqllog.ID) error {
		removing <- struct{}{}
		<-remove
		return nil
	}})
	b.writeMany(5)
	compact := func(ctx context.Context, rev int64) <-chan error {
		return call(func() error { _, err := b.p.Compact(ctx, rev, true); return err })
	}
	leaving, leave := context.WithCancel(ctx)
	first := compact(ctx, 3)
	<-removing
	gone := compact(leaving, 4)
	until(t, "compaction", func() bool { return b.store.CompactRevision() == 4 })
	stillWaits(t, "compaction", first)
	leave()
	want(t, "compaction without a caller", <-gone, context.Canceled)
	close(remove)
	want(t, "compaction", <-first, nil)
	until(t, "scrubbing", func() bool { rows, _ := b.log.Rows(ctx); return rows == 3 })

	blocked, again := make(chan struct{}), make(chan struct{}, 10)
	b.hook(mvcctest.Hooks{Remove: func([]sqllog.ID) error {
		again <- struct{}{}
		<-blocked
		return nil
	}})
	last := compact(ctx, 5)
	<-again
	closed := call(func() error { b.p.Close(); return nil })
	want(t, "compaction while closing", <-last, ErrStopped)
	close(blocked)
	want(t, "close", <-closed, nil)
}

// TestScrubIsTriedAgain when the log fails.
func TestScrubIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, Config{})
		b.writeMany(5)
		failures := 3
		b.hook(mvcctest.Hooks{Remove: func([]sqllog.ID) error {
			if failures--; failures >= 0 {
				return sqllog.ErrFull
			}
			return nil
		}})
		start := time.Now()
		if _, err := b.p.Compact(ctx, 6, true); err != nil {
			t.Fatal(err)
		}
		if rows, _ := b.log.Rows(ctx); rows != 1 || failures >= 0 || time.Since(start) > 3*scrubRetry {
			t.Fatalf("%d rows are left after %v", rows, time.Since(start))
		}
	})
}

// TestScrubGoesOnAfterRestart without a compaction to start it.
func TestScrubGoesOnAfterRestart(t *testing.T) {
	b := newBed(t, Config{})
	b.writeMany(5)
	b.hook(mvcctest.Hooks{Remove: func([]sqllog.ID) error { return sqllog.ErrIO }})
	if _, err := b.p.Compact(ctx, 6, false); err != nil {
		t.Fatal(err)
	}
	b.close()
	b.log = b.log.Reopen()
	b.hook(mvcctest.Hooks{})
	b.start(Config{})
	until(t, "scrubbing", func() bool { rows, _ := b.log.Rows(ctx); return rows == 1 })
}

func TestFollowKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Compaction: CompactionConfig{FollowKey: true}}
		b := newBed(t, cfg)
		b.mem.CacheBytes = 1
		b.reopen(cfg)
		b.writeMany(10)
		for _, step := range []struct {
			value string
			want  int64
		}{
			{"5", 5}, {"4", 5}, {"seven", 5}, {"-1", 5}, {"100", 5}, {"", 5}, {"9", 9},
		} {
			b.write(put(compactKey, step.value))
			synctest.Wait()
			if got := b.store.CompactRevision(); got != step.want {
				t.Fatalf("%q: compacted to %d, want %d", step.value, got, step.want)
			}
		}
		b.write(del(compactKey, ""))
		b.hook(mvcctest.Hooks{Values: func([]sqllog.ID) error { return sqllog.ErrIO }})
		b.write(put(compactKey, "12"))
		synctest.Wait()
		if got := b.store.CompactRevision(); got != 9 {
			t.Fatalf("compacted to %d by a value that cannot be read", got)
		}
		b.hook(mvcctest.Hooks{})
		pass(2 * followRetry)
		if got := b.store.CompactRevision(); got != 12 {
			t.Fatalf("compacted to %d after the log has recovered", got)
		}
		b.reopen(Config{})
		b.write(put(compactKey, "13"))
		synctest.Wait()
		if got := b.store.CompactRevision(); got != 12 {
			t.Fatalf("compacted to %d without being told to follow", got)
		}
		b.reopen(cfg)
		synctest.Wait()
		if got := b.store.CompactRevision(); got != 13 {
			t.Fatalf("compacted to %d after a restart", got)
		}
	})
}

// TestShrink gives pages back when an eighth of the file is unused.
func TestShrink(t *testing.T) {
	for _, c := range []struct {
		free, total int64
		want        bool
	}{{shrinkFree - 1, 300, false}, {300, 8 * 301, false}, {300, 8 * 299, true}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			b := newBed(t, Config{})
			free, shrunk := c.free, false
			b.hook(mvcctest.Hooks{
				FreePages: func() (int64, int64, error) { return free, c.total, nil },
				Shrink: func(pages int) (int64, error) {
					shrunk = true
					free = max(0, free-int64(pages))
					return free, nil
				},
			})
			b.writeMany(3)
			if _, err := b.p.Compact(ctx, 4, true); err != nil {
				t.Fatal(err)
			}
			if shrunk != c.want || (shrunk && free != 0) {
				t.Fatalf("shrunk is %v, %d pages are unused", shrunk, free)
			}
		})
	}
}

func TestDefragment(t *testing.T) {
	b := newBed(t, Config{})
	left := int64(500)
	b.hook(mvcctest.Hooks{Shrink: func(pages int) (int64, error) {
		left = max(0, left-int64(pages))
		return left, nil
	}})
	if err := b.p.Defragment(ctx); err != nil || left != 0 {
		t.Fatalf("%d left, %v", left, err)
	}
	leaving, leave := context.WithCancel(ctx)
	b.hook(mvcctest.Hooks{Shrink: func(int) (int64, error) { leave(); return 100, nil }})
	want(t, "canceled", b.p.Defragment(leaving), context.Canceled)
	b.hook(mvcctest.Hooks{Shrink: func(int) (int64, error) { return 100, sqllog.ErrFull }})
	want(t, "full", b.p.Defragment(ctx), sqllog.ErrFull)
	b.hook(mvcctest.Hooks{Shrink: func(int) (int64, error) { return 100, nil }})
	b.p.Close()
	want(t, "closed", b.p.Defragment(ctx), nil)
}

func TestAdaptStep(t *testing.T) {
	for _, c := range []struct {
		step, most int
		took       time.Duration
		want       int
	}{
		{128, 1000, 5 * stepTime, 64}, {128, 1000, stepTime, 128}, {128, 1000, 0, 256}, {800, 1000, 0, 1000},
		{16, 1000, 5 * stepTime, 16}, {5, 5, 5 * stepTime, 5}, {5, 5, 0, 5}, {1, 1, time.Hour, 1},
	} {
		if got := adaptStep(c.step, c.most, c.took); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
