package sqllog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	sqlite3 "modernc.org/sqlite/lib"
)

func quiet() *logrus.Logger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}

func openTest(t testing.TB, cfg Config) *Log {
	t.Helper()
	if cfg.Path == "" {
		cfg.Path = filepath.Join(t.TempDir(), "log.db")
	}
	if cfg.Logger == nil {
		cfg.Logger = quiet()
	}
	l, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// group makes n rows of 256 B after the head, one revision for all of them.
func group(head Head, n int) []Row {
	rows := make([]Row, n)
	for i := range rows {
		rows[i] = Row{ID: head.ID + 1 + ID(i), Epoch: max(head.Epoch, 1), Revision: head.Revision + 1, Sub: int64(i),
			Kind: KindPut, Key: fmt.Appendf(nil, "key %d", i), Value: bytes.Repeat([]byte{byte(i)}, 256),
			CreateRevision: head.Revision + 1, Version: 1}
	}
	return rows
}

// wholeGroups checks that the log holds ids without a hole from first to its
// head, and that every revision above 1 has as many rows as groupSize says.
func wholeGroups(t testing.TB, l *Log, first ID, groupSize func(Revision) int) {
	t.Helper()
	next, count, rev := first, 0, Revision(0)
	complete := func() {
		if rev > 0 && count != groupSize(rev) {
			t.Fatalf("revision %d has %d rows of %d", rev, count, groupSize(rev))
		}
	}
	err := l.Scan(context.Background(), first-1, maxID, func(r *Row) error {
		if r.ID != next {
			return fmt.Errorf("row %d where %d should be", r.ID, next)
		}
		if r.Revision != rev {
			complete()
			rev, count = r.Revision, int(r.Sub)
		}
		next, count = next+1, count+1
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	complete()
	if next != l.Head().ID+1 {
		t.Fatalf("rows end at %d, head is %d", next-1, l.Head().ID)
	}
}

// afterOps fails the nth matching operation and all matching ones after it.
func afterOps(n int, rc int32, match func(fileOp) bool) func(fileOp) int32 {
	return func(op fileOp) int32 {
		if !match(op) {
			return 0
		}
		if n--; n >= 0 {
			return 0
		}
		return rc
	}
}

func walWrite(op fileOp) bool { return op.kind == "write" && op.wal() }
func walSync(op fileOp) bool  { return op.kind == "sync" && op.wal() }

func TestDiskFull(t *testing.T) {
	v := newFaultVFS(t)
	path := filepath.Join(t.TempDir(), "log.db")
	l := openTest(t, Config{Path: path, vfs: v.name})
	size := func(r Revision) int { return int(r)%40 + 10 }
	appendNext := func() error { return l.Append(group(l.Head(), size(l.Head().Revision+1))) }
	for n := range 24 { // the write to the WAL that does not fit
		head := l.Head()
		v.set(afterOps(n, sqlite3.SQLITE_FULL, walWrite))
		err := appendNext()
		if err == nil {
			continue // the group took fewer writes
		}
		if !errors.Is(err, ErrFull) || errors.Is(err, ErrIO) {
			t.Fatalf("write %d: %v", n, err)
		}
		if l.Head() != head {
			t.Fatalf("head moved to %+v", l.Head())
		}
		wholeGroups(t, l, 1, size)
		v.set(afterOps(0, sqlite3.SQLITE_FULL, walWrite))
		if err := appendNext(); !errors.Is(err, ErrFull) {
			t.Fatalf("append to a full disk: %v", err)
		}
		if _, err := l.Recover(t.Context()); !errors.Is(err, ErrFull) {
			t.Fatalf("recover on a full disk: %v", err)
		}
		if err := appendNext(); !errors.Is(err, ErrFull) || errors.Is(err, ErrIO) {
			t.Fatalf("append to a full disk: %v", err)
		}
		v.set(nil)
		if got, err := l.Recover(t.Context()); err != nil || got != head || l.Head() != head {
			t.Fatalf("recovered %+v, want %+v: %v", got, head, err)
		}
		if err := appendNext(); err != nil {
			t.Fatal(err)
		}
		v.set(afterOps(n, sqlite3.SQLITE_FULL, walWrite)) // and without Recover
		if err := appendNext(); err != nil {
			v.set(nil)
			if err := appendNext(); err != nil {
				t.Fatal(err)
			}
		}
		v.set(nil)
	}
	wholeGroups(t, l, 1, size)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	wholeGroups(t, openTest(t, Config{Path: path}), 1, size)
}

// TestIOError fails the nth write or sync of a commit. What Recover says must be
// so, also after a crash that follows.
func TestIOError(t *testing.T) {
	size := func(r Revision) int { return int(r)%40 + 10 }
	for name, match := range map[string]func(fileOp) bool{
		"write": walWrite, "sync": walSync,
	} {
		t.Run(name, func(t *testing.T) {
			v := newFaultVFS(t)
			l := openTest(t, Config{vfs: v.name})
			if err := l.Append(group(l.Head(), size(2))); err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(1, 1))
			for n := range 12 {
				head := l.Head()
				v.set(afterOps(n, sqlite3.SQLITE_IOERR, match))
				rows := group(head, size(head.Revision+1))
				err := l.Append(rows)
				if err == nil {
					v.set(nil)
					continue
				}
				if !errors.Is(err, ErrIO) || l.Head() != head {
					t.Fatalf("%s %d: head %+v, %v", name, n, l.Head(), err)
				}
				recoverFrom(t, l, v, rows)
				wholeGroups(t, l, 1, size)
				for _, rng := range []*rand.Rand{nil, rng} {
					if got := headAfterCrash(t, v, rng); got != l.Head() {
						t.Fatalf("head after a crash is %+v, Recover said %+v", got, l.Head())
					}
				}
			}
		})
	}
}

// recoverFrom recovers a log whose append of rows failed with ErrIO.
func recoverFrom(t *testing.T, l *Log, v *faultVFS, rows []Row) {
	t.Helper()
	before := l.Head()
	v.set(nil)
	for _, err := range []error{l.Append(rows), l.Remove([]ID{1}, Compaction{}), l.Truncate(t.Context(), Head{Revision: 1})} {
		if !errors.Is(err, ErrIO) {
			t.Fatalf("write before Recover: %v", err)
		}
	}
	v.set(afterOps(0, sqlite3.SQLITE_IOERR, func(op fileOp) bool { return op.kind != "read" }))
	if _, err := l.Recover(t.Context()); !errors.Is(err, ErrIO) {
		t.Fatalf("recover on a bad disk: %v", err)

	}
	v.set(nil)
	got, err := l.Recover(t.Context())
	if err != nil || got != l.Head() || (got != before && got.ID != rows[len(rows)-1].ID) {
		t.Fatalf("recovered %+v: %v", got, err)
	}
}

// headAfterCrash opens what a crash would leave now.
func headAfterCrash(t *testing.T, v *faultVFS, rng *rand.Rand) Head {
	t.Helper()
	dir := t.TempDir()
	v.mu.Lock()
	err := v.crash(dir, rng)
	v.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	return openTest(t, Config{Path: filepath.Join(dir, "log.db")}).Head()
}

// TestRemoveError: a removal that failed is tried again, and holds up nothing.
func TestRemoveError(t *testing.T) {
	v := newFaultVFS(t)
	path := filepath.Join(t.TempDir(), "log.db")
	l := openTest(t, Config{Path: path, vfs: v.name})
	if err := l.Append(group(l.Head(), 50)); err != nil {
		t.Fatal(err)
	}
	v.set(afterOps(1, sqlite3.SQLITE_IOERR, walWrite))
	c := Compaction{Revision: 2}
	if err := l.Remove([]ID{1, 2, 50}, c); !errors.Is(err, ErrIO) {
		t.Fatalf("remove on a bad disk: %v", err)
	}
	if l.Compaction().Revision != 2 {
		t.Errorf("compaction is %+v where the rows may be gone", l.Compaction())
	}
	v.set(nil)
	wholeGroups(t, l, 1, func(Revision) int { return 50 })
	if err := l.Append(group(l.Head(), 50)); err != nil {
		t.Fatal(err)
	}
	if err := l.Remove([]ID{1, 2, 50}, c); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openTest(t, Config{Path: path})
	if n, err := l.Rows(t.Context()); err != nil || n != 97 || l.Compaction().Revision != 2 || l.Head().ID != 100 {
		t.Errorf("%d rows, compaction %+v, head %+v: %v", n, l.Compaction(), l.Head(), err)
	}
}

// TestReadError: a disk that does not read is no corruption.
func TestReadError(t *testing.T) {
	v := newFaultVFS(t)
	path := filepath.Join(t.TempDir(), "log.db")
	l := openTest(t, Config{Path: path, vfs: v.name})
	if err := l.Append(group(l.Head(), 500)); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openTest(t, Config{Path: path, vfs: v.name})
	v.set(afterOps(0, sqlite3.SQLITE_IOERR_READ, func(op fileOp) bool { return op.kind == "read" }))
	errs := []error{l.Scan(t.Context(), 0, 500, func(*Row) error { return nil })}
	_, err := l.Values(t.Context(), []ID{250})
	errs = append(errs, err)
	_, err = l.Rows(t.Context())
	for _, err := range append(errs, err) {
		if !errors.Is(err, ErrIO) || errors.Is(err, ErrCorrupt) {
			t.Errorf("read from a bad disk: %v", err)
		}
	}
	v.set(nil)
	wholeGroups(t, l, 1, func(Revision) int { return 500 })
}

func TestCheckpointFailure(t *testing.T) {
	logger, hook := test.NewNullLogger()
	v := newFaultVFS(t)
	l := openTest(t, Config{vfs: v.name, Logger: logger, wal: walLimits{bytes: 64 << 10, rest: 8, frames: 1000, wait: time.Second}})
	asked := make(chan struct{}, 1000)
	v.set(func(op fileOp) int32 {
		if op.wal() || op.kind == "read" {
			return 0
		}
		asked <- struct{}{}
		return sqlite3.SQLITE_IOERR
	})
	write := func() {
		if err := l.Append(group(l.Head(), 50)); err != nil {
			t.Fatal(err)
		}
	}
	for len(asked) < 3 {
		write()
	}
	v.set(nil)
	for len(hook.AllEntries()) < 2 {
		write()
	}
	if e := hook.AllEntries(); e[0].Level != logrus.WarnLevel || e[1].Level != logrus.InfoLevel {
		t.Errorf("log has %v", e)
	}
	wholeGroups(t, l, 1, func(Revision) int { return 50 })
}

// TestPowerFailure takes what a crash of the machine would leave, at moments all
// through a run of appends, checkpoints and removals, and opens it: every
// acknowledged row is there, and no part of a group.
func TestPowerFailure(t *testing.T) {
	t.Parallel()
	type image struct {
		dir     string
		acked   ID
		removed ID
	}
	v := newFaultVFS(t)
	rng := rand.New(rand.NewPCG(7, 7))
	var acked, removed atomic.Int64
	var images []image
	ops := 0
	size := func(r Revision) int { return int(r)*7%50 + 1 }
	l := openTest(t, Config{vfs: v.name, wal: walLimits{bytes: 100 << 10, rest: 1000, frames: 60, wait: time.Second}})
	v.mu.Lock()
	v.watch = func(op fileOp) {
		if op.kind == "read" {
			return
		}
		if ops++; ops%29 != 0 || len(images) >= 30 {
			return
		}
		i := image{dir: t.TempDir(), acked: ID(acked.Load()), removed: ID(removed.Load())}
		if err := v.crash(i.dir, rng); err != nil {
			t.Error(err)
		}
		images = append(images, i)
	}
	v.mu.Unlock()
	for n := range 120 {
		if err := l.Append(group(l.Head(), size(l.Head().Revision+1))); err != nil {
			t.Fatal(err)
		}
		acked.Store(int64(l.Head().ID))
		if n%20 == 19 {
			var ids []ID
			for id := removed.Load() + 1; id <= removed.Load()+30; id++ {
				ids = append(ids, ID(id))
			}
			removed.Add(30) // what is being removed may be gone
			if err := l.Remove(ids, Compaction{Revision: 2}); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Shrink(5); err != nil {
				t.Fatal(err)
			}
		}
	}
	v.mu.Lock()
	v.watch = nil
	v.mu.Unlock()
	if len(images) < 15 {
		t.Fatalf("only %d images were taken", len(images))
	}
	for _, i := range images {
		l := openTest(t, Config{Path: filepath.Join(i.dir, "log.db")})
		if l.Head().ID < i.acked {
			t.Fatalf("head after the crash is %d, %d was acknowledged", l.Head().ID, i.acked)
		}
		wholeGroups(t, l, i.removed+1, size)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
