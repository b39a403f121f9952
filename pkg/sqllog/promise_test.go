package sqllog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// inEpoch makes n rows of an epoch after the head.
func inEpoch(head Head, e Epoch, n int) []Row {
	rows := group(head, n)
	for i := range rows {
		rows[i].Epoch = e
	}
	return rows
}

// promiseCalls write under epoch e, each in its own way.
var promiseCalls = []struct {
	name string
	call func(l *Log, e Epoch) error
}{
	{"promise", func(l *Log, e Epoch) error { _, err := l.Promise(e); return err }},
	{"append", func(l *Log, e Epoch) error { return l.AppendIn(e, inEpoch(l.Head(), e, 40)) }},
	{"append before it", func(l *Log, e Epoch) error { return l.AppendIn(e, inEpoch(l.Head(), l.Head().Epoch, 3)) }},
	{"append nothing", func(l *Log, e Epoch) error { return l.AppendIn(e, nil) }},
	{"truncate", func(l *Log, e Epoch) error { return l.TruncateIn(e, Head{ID: 10, Epoch: 1, Revision: 2}) }},
	{"truncate nothing", func(l *Log, e Epoch) error { return l.TruncateIn(e, l.Head()) }},
	{"append without epoch", func(l *Log, e Epoch) error { return l.Append(inEpoch(l.Head(), e, 3)) }},
}

// TestPromiseIOError fails the nth write or sync of each call that promises: until
// Recover no write is taken, and what it finds is what a crash leaves.
func TestPromiseIOError(t *testing.T) {
	for name, match := range map[string]func(fileOp) bool{"write": walWrite, "sync": walSync} {
		for _, c := range promiseCalls {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				n := 0
				for failPromise(t, n, match, c.call) {
					n++
				}
				if n == 0 {
					t.Fatal("nothing was there to fail")
				}
			})
		}
	}
}

// failPromise reports whether the nth operation was there to fail.
func failPromise(t *testing.T, n int, match func(fileOp) bool, call func(*Log, Epoch) error) bool {
	t.Helper()
	v := newFaultVFS(t)
	l := openTest(t, Config{vfs: v.name})
	for e := range Epoch(2) {
		if err := l.AppendIn(e+1, inEpoch(l.Head(), e+1, 10)); err != nil {
			t.Fatal(err)
		}
	}
	v.set(afterOps(n, sqlite3.SQLITE_IOERR, match))
	err := call(l, 5)
	v.set(nil)
	if err == nil {
		return false
	}
	if !errors.Is(err, ErrIO) {
		t.Fatal(err)
	}
	_, again := l.Promise(7)
	_, same := l.Promise(l.Promised())
	for _, err := range []error{again, same, l.AppendIn(7, nil), l.AppendIn(7, inEpoch(l.Head(), 7, 1)), l.TruncateIn(7, l.Head())} {
		if !errors.Is(err, ErrIO) {
			t.Fatalf("write before Recover: %v", err)
		}
	}
	head, err := l.Recover(t.Context())
	if err != nil || l.Promised() != 2 && l.Promised() != 5 || l.Promised() < head.Epoch {
		t.Fatalf("recovered %+v, epoch %d is promised: %v", head, l.Promised(), err)
	}
	for _, rng := range []*rand.Rand{nil, rand.New(rand.NewPCG(uint64(n), 1))} {
		if after := afterCrash(t, v, rng); after.Promised() != l.Promised() || after.Head() != head {
			t.Fatalf("after a crash epoch %d is promised at %+v, Recover said %d at %+v", after.Promised(), after.Head(), l.Promised(), head)
		}
	}
	if err := call(l, 5); err != nil || l.Promised() != 5 {
		t.Fatalf("epoch %d is promised: %v", l.Promised(), err)
	}
	return true
}

// afterCrash opens what a crash would leave now.
func afterCrash(t *testing.T, v *faultVFS, rng *rand.Rand) *Log {
	t.Helper()
	dir := t.TempDir()
	v.mu.Lock()
	err := v.crash(dir, rng)
	v.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	return openTest(t, Config{Path: filepath.Join(dir, "log.db")})
}

// TestPromiseDiskFull: on a full disk nothing is promised, and the log goes on.
func TestPromiseDiskFull(t *testing.T) {
	for _, c := range promiseCalls {
		t.Run(c.name, func(t *testing.T) {
			v := newFaultVFS(t)
			l := openTest(t, Config{vfs: v.name})
			for e := range Epoch(2) {
				if err := l.AppendIn(e+1, inEpoch(l.Head(), e+1, 10)); err != nil {
					t.Fatal(err)
				}
			}
			head := l.Head()
			v.set(afterOps(0, sqlite3.SQLITE_FULL, walWrite))
			if err := c.call(l, 5); !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			if l.Promised() != 2 || l.Head() != head {
				t.Fatalf("epoch %d is promised at %+v", l.Promised(), l.Head())
			}
			v.set(nil)
			if err := c.call(l, 5); err != nil || l.Promised() != 5 {
				t.Fatalf("epoch %d is promised: %v", l.Promised(), err)
			}
		})
	}
}

// TestPromisePowerFailure takes what a crash of the machine would leave, at
// moments all through a run of promises, appends and truncations: what was
// promised is, and no row is held whose epoch is not.
func TestPromisePowerFailure(t *testing.T) {
	t.Parallel()
	type image struct {
		dir      string
		promised Epoch
	}
	v := newFaultVFS(t)
	rng := rand.New(rand.NewPCG(5, 5))
	var images []image
	var promised Epoch // by a call that has returned
	ops := 0
	l := openTest(t, Config{vfs: v.name, wal: walLimits{bytes: 1 << 30, rest: 8, frames: 1 << 30, wait: time.Second}})
	v.mu.Lock()
	v.watch = func(op fileOp) { // in the goroutine of the test: no checkpoint runs
		if op.kind == "read" {
			return
		}
		if ops++; ops%5 != 0 || len(images) >= 60 {
			return
		}
		i := image{dir: t.TempDir(), promised: promised}
		if err := v.crash(i.dir, rng); err != nil {
			t.Error(err)
		}
		images = append(images, i)
	}
	v.mu.Unlock()
	if err := l.AppendIn(1, inEpoch(l.Head(), 1, 10)); err != nil {
		t.Fatal(err)
	}
	for e := Epoch(2); e < 60; e++ {
		if err := promiseCalls[rng.IntN(len(promiseCalls))].call(l, e); err != nil {
			t.Fatal(err)
		}
		promised = e
	}
	v.mu.Lock()
	v.watch = nil
	v.mu.Unlock()
	if len(images) < 30 {
		t.Fatalf("only %d images were taken", len(images))
	}
	for _, i := range images {
		l := openTest(t, Config{Path: filepath.Join(i.dir, "log.db")})
		recorded := Epoch(l.promise.Load())
		if recorded < i.promised || recorded > i.promised+1 || recorded < l.Head().Epoch {
			t.Fatalf("epoch %d is promised after the crash with the head at %+v, %d was", recorded, l.Head(), i.promised)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPromiseOldLog: a log whose meta names no promise has promised the epoch of
// its newest row, and keeps that when the row is truncated.
func TestPromiseOldLog(t *testing.T) {
	cfg := Config{Path: filepath.Join(t.TempDir(), "log.db")}
	l := openTest(t, cfg)
	for e := Epoch(1); e < 9; e += 3 {
		if err := l.Append(inEpoch(l.Head(), e, 2)); err != nil {
			t.Fatal(err)
		}
	}
	spoilMeta(t, l, "DELETE FROM meta WHERE name = 'promise'")
	l = openTest(t, cfg)
	if l.Promised() != 7 || l.promise.Load() != 0 {
		t.Fatalf("epoch %d is promised", l.Promised())
	}
	if _, err := l.Promise(7); err != nil || l.promise.Load() != 0 {
		t.Fatalf("promise of the head's epoch: %v", err)
	}
	if err := l.Truncate(t.Context(), Head{ID: 2, Epoch: 1, Revision: 2}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l = openTest(t, cfg); l.Promised() != 7 {
		t.Fatalf("epoch %d is promised after the truncation", l.Promised())
	}
}

// TestPromiseRecovered: where a promise failed that is on disk all the same,
// Recover finds it.
func TestPromiseRecovered(t *testing.T) {
	v := newFaultVFS(t)
	l := openTest(t, Config{vfs: v.name})
	v.set(afterOps(0, sqlite3.SQLITE_IOERR, walSync))
	if _, err := l.Promise(5); !errors.Is(err, ErrIO) {
		t.Fatal(err)
	}
	v.set(nil)
	if err := l.w.tx(func() error { return l.w.putPromise(5) }); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Recover(t.Context()); err != nil || l.Promised() != 5 {
		t.Fatalf("epoch %d is promised: %v", l.Promised(), err)
	}
	if err := l.AppendIn(4, inEpoch(l.Head(), 4, 1)); !errors.Is(err, ErrPromised) {
		t.Fatal(err)
	}
}

// TestPromiseLoaded: a Loader promises the epoch of the head.
func TestPromiseLoaded(t *testing.T) {
	cfg := Config{Path: filepath.Join(t.TempDir(), "log.db"), Logger: quiet()}
	loader, err := NewLoader(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := loader.Finish(Head{ID: 9, Epoch: 4, Revision: 5}, Compaction{}); err != nil {
		t.Fatal(err)
	}
	if l := openTest(t, cfg); l.promise.Load() != 4 || l.Promised() != 4 {
		t.Fatalf("epoch %d is promised", l.Promised())
	}
}

// TestPromiseDamaged: a log whose promise is not readable is corrupt, not
// promised to nobody.
func TestPromiseDamaged(t *testing.T) {
	for _, value := range []string{"x''", "x'00'", "x'0000000000000000'", "x'ffffffffffffffff'", "x'000000000000000700'"} {
		cfg := Config{Path: filepath.Join(t.TempDir(), "log.db"), Logger: quiet()}
		l := openTest(t, cfg)
		if _, err := l.Promise(3); err != nil {
			t.Fatal(err)
		}
		spoilMeta(t, l, fmt.Sprintf("UPDATE meta SET value = %s WHERE name = 'promise'", value))
		if _, err := Open(t.Context(), cfg); !errors.Is(err, ErrCorrupt) {
			t.Errorf("promise %s: %v", value, err)
		}
	}
}

// spoilMeta runs a statement and closes the log.
func spoilMeta(t *testing.T, l *Log, text string) {
	t.Helper()
	var s *stmt
	err := l.w.prepareAll([]prepared{{&s, text, 0}})
	if err == nil {
		err = errors.Join(s.exec(), s.Close())
	}
	if err = errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
}
