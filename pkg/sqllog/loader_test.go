package sqllog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	sqlite3 "modernc.org/sqlite/lib"
)

// loadEnv names the log that this binary makes, in place of running tests.
const loadEnv = "KINSY_SQLLOG_LOAD"

const loadedRows = 12_000

// loadedSize is how many rows a revision of loadAll has.
func loadedSize(Revision) int { return 100 }

// loadAll makes a log of loadedRows rows and calls step after each call.
func loadAll(ctx context.Context, cfg Config, step func(string)) (err error) {
	l, err := NewLoader(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Abort()) }()
	head := Head{Revision: 1}
	for head.ID < loadedRows {
		rows := group(head, loadedSize(0))
		if err := l.Add(rows); err != nil {
			return err
		}
		last := rows[len(rows)-1]
		head = Head{ID: last.ID, Epoch: last.Epoch, Revision: last.Revision}
		step("added")
	}
	step("finish")
	if err := l.Finish(head, Compaction{Revision: 7}); err != nil {
		return err
	}
	step("finished")
	return nil
}

// loadUntilKilled makes a log and tells of each step.
func loadUntilKilled(path string) error {
	return loadAll(context.Background(), Config{Path: path, Logger: quiet()}, func(s string) { fmt.Println(s) })
}

// whole checks that a log is all that loadAll makes.
func whole(t *testing.T, path string) {
	t.Helper()
	l := openTest(t, Config{Path: path})
	if l.Head().ID != loadedRows || l.Compaction().Revision != 7 {
		t.Fatalf("head %+v, compaction %+v", l.Head(), l.Compaction())
	}
	wholeGroups(t, l, 1, loadedSize)
	if err := l.Append(group(l.Head(), 5)); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func exists(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// TestLoadKill kills the loading process at random moments: there is no log, or
// the whole one, and the next process can load it.
func TestLoadKill(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(2, 71))
	finished, rounds := 0, 10
	if testing.Short() {
		rounds = 4
	}
	for round := range rounds {
		path := filepath.Join(t.TempDir(), "log.db")
		steps, looks := rng.IntN(loadedRows/loadedSize(0)), 0
		if round%2 == 0 { // kill it while it finishes
			steps, looks = loadedRows/loadedSize(0), rng.IntN(10_000)
		}
		killLoad(t, path, steps, looks)
		if exists(t, path) {
			finished++
		} else if err := loadAll(t.Context(), Config{Path: path}, func(string) {}); err != nil {
			t.Fatal(err)
		}
		whole(t, path)
	}
	t.Logf("%d of %d had finished", finished, rounds)
}

// killLoad runs a loading process and kills it after some steps and, if no log
// is there sooner, some looks for it.
func killLoad(t *testing.T, path string, steps, looks int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), loadEnv+"="+path)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); steps-- {
		if steps == 0 {
			for ; looks > 0 && !exists(t, path); looks-- {
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	// It may have ended before it was killed.
	if err := cmd.Wait(); err != nil && cmd.ProcessState.Exited() {
		t.Fatal(err)
	}
}

// TestLoadPowerFailure: what is put in the log's place is durable by then, and
// nothing is there before.
func TestLoadPowerFailure(t *testing.T) {
	t.Parallel()
	v := newFaultVFS(t)
	path := filepath.Join(t.TempDir(), "log.db")
	v.mu.Lock()
	v.watch = func(op fileOp) {
		if exists(t, path) {
			t.Errorf("%+v after the log was put in its place", op)
		}
	}
	v.mu.Unlock()
	if err := loadAll(t.Context(), Config{Path: path, vfs: v.name}, func(string) {}); err != nil {
		t.Fatal(err)
	}
	v.mu.Lock()
	v.watch = nil
	dir := t.TempDir()
	if err := v.crash(dir, rand.New(rand.NewPCG(1, 1))); err != nil {
		t.Fatal(err)
	}
	v.mu.Unlock()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 || !strings.HasSuffix(files[0], loadingSuffix) {
		t.Fatalf("files are %v: %v", files, err)
	}
	crashed := filepath.Join(dir, "log.db")
	if err := os.Rename(files[0], crashed); err != nil {
		t.Fatal(err)
	}
	whole(t, crashed)
	whole(t, path)
}

// TestLoadFaults fails writes and syncs of the file: the error says so, and
// there is no log.
func TestLoadFaults(t *testing.T) {
	t.Parallel()
	v := newFaultVFS(t)
	for _, c := range []struct {
		kind string
		n    int
		rc   int32
		want error
	}{
		{"write", 0, sqlite3.SQLITE_FULL, ErrFull},
		{"write", 3, sqlite3.SQLITE_IOERR_WRITE, ErrIO},
		{"write", 400, sqlite3.SQLITE_FULL, ErrFull},
		{"write", 800, sqlite3.SQLITE_IOERR_WRITE, ErrIO},
		{"sync", 0, sqlite3.SQLITE_IOERR_FSYNC, ErrIO},
	} {
		path := filepath.Join(t.TempDir(), "log.db")
		v.set(afterOps(c.n, c.rc, func(op fileOp) bool { return op.kind == c.kind }))
		err := loadAll(t.Context(), Config{Path: path, vfs: v.name}, func(string) {})
		if !errors.Is(err, c.want) {
			t.Errorf("%s %d fails: %v, want %v", c.kind, c.n, err, c.want)
		}
		v.set(nil)
		if left, err := filepath.Glob(filepath.Dir(path) + "/*"); err != nil || len(left) > 0 {
			t.Errorf("%s %d fails and leaves %v: %v", c.kind, c.n, left, err)
		}
		if err := loadAll(t.Context(), Config{Path: path}, func(string) {}); err != nil {
			t.Fatal(err)
		}
		whole(t, path)
	}
}

// TestLoadStaysFailed: after a failed write a Loader gives nothing but that
// failure.
func TestLoadStaysFailed(t *testing.T) {
	v := newFaultVFS(t)
	path := filepath.Join(t.TempDir(), "log.db")
	l, err := NewLoader(t.Context(), Config{Path: path, vfs: v.name})
	if err != nil {
		t.Fatal(err)
	}
	v.set(afterOps(0, sqlite3.SQLITE_FULL, func(op fileOp) bool { return op.kind == "write" }))
	rows := group(Head{Revision: 1}, 5)
	if err := l.Add(rows); err != nil {
		t.Fatal(err)
	}
	head := Head{ID: 5, Epoch: 1, Revision: 2}
	if err := l.Finish(head, Compaction{}); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	v.set(nil)
	for name, err := range map[string]error{"Finish": l.Finish(head, Compaction{}), "Add": l.Add(rows)} {
		if !errors.Is(err, ErrFull) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := l.Abort(); err != nil || exists(t, path) || exists(t, path+loadingSuffix) {
		t.Error(err)
	}
}

func TestLoadContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	ctx, cancel := context.WithCancel(t.Context())
	l, err := NewLoader(ctx, Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	rows := group(Head{Revision: 1}, 5)
	if err := l.Add(rows); err != nil {
		t.Fatal(err)
	}
	cancel()
	for name, err := range map[string]error{
		"Add": l.Add(rows), "Finish": l.Finish(Head{ID: 5, Epoch: 1, Revision: 2}, Compaction{}),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := l.Abort(); err != nil || exists(t, path) {
		t.Error(err)
	}
	if _, err := NewLoader(ctx, Config{Path: path}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestLoadPlace: what may be where the log is to stand, and what may not.
func TestLoadPlace(t *testing.T) {
	meta := "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID"
	for name, c := range map[string]struct {
		script []string
		want   error
	}{
		"kine": {[]string{"CREATE TABLE kine (id INTEGER PRIMARY KEY AUTOINCREMENT, name INTEGER)"}, ErrForeign},
		"newer": {[]string{"CREATE TABLE log (id INTEGER PRIMARY KEY, more TEXT)", meta,
			"INSERT INTO meta VALUES ('schema_version', X'393939')"}, ErrNewer},
		"creation cut short": {[]string{"PRAGMA auto_vacuum=incremental", "PRAGMA journal_mode=wal", "CREATE TABLE t(x)", "DROP TABLE t"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := database(t, c.script, c.want == nil)
			before := files(t, dir)
			path := filepath.Join(dir, "log.db")
			err := loadAll(t.Context(), Config{Path: path}, func(string) {})
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if c.want == nil {
				whole(t, path)
			} else if after := files(t, dir); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("files were changed: %d before, %d now", len(before), len(after))
			}
		})
	}
	t.Run("empty file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "log.db")
		for _, leftover := range []string{"", loadingSuffix, loadingSuffix + "-journal"} {
			if err := os.WriteFile(path+leftover, []byte(leftover), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := loadAll(t.Context(), Config{Path: path}, func(string) {}); err != nil {
			t.Fatal(err)
		}
		if left, err := filepath.Glob(path + "*"); err != nil || len(left) != 1 {
			t.Errorf("files are %v: %v", left, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode of the log is %v: %v", info.Mode(), err)
		}
		whole(t, path)
	})
	t.Run("write-ahead log without a file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "log.db")
		if err := os.WriteFile(path+"-wal", []byte("frames"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := loadAll(t.Context(), Config{Path: path}, func(string) {}); !errors.Is(err, ErrCorrupt) || !exists(t, path+"-wal") {
			t.Error(err)
		}
	})
	t.Run("no folder", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "none", "log.db")
		if err := loadAll(t.Context(), Config{Path: path}, func(string) {}); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
}

// TestLoadedFile: a loaded log is the same kind of file as one that Open makes,
// and no different to Salvage.
func TestLoadedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	loader, err := NewLoader(t.Context(), Config{Path: path, Cluster: 77})
	if err != nil {
		t.Fatal(err)
	}
	if err := loader.Add([]Row{{ID: 9, Epoch: 3, Revision: 4, Kind: KindMember}}); err != nil {
		t.Fatal(err)
	}
	if err := loader.Finish(Head{ID: 9, Epoch: 3, Revision: 4}, Compaction{Revision: 2}); err != nil {
		t.Fatal(err)
	}
	rep := salvage(t, path)
	if rep.Damage != nil || rep.FromStart.Rows != 1 || rep.FromStart.Last != 9 {
		t.Errorf("%s", rep)
	}
	l := openTest(t, Config{Path: path})
	if id := l.Identity(); id.Cluster != 77 || id.Node == 0 {
		t.Errorf("identity %+v", id)
	}
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "auto_vacuum": "2", "page_size": "4096", "locking_mode": "normal"} {
		row, err := l.w.pragma(pragma)
		if err != nil || fmt.Sprint(row[0]) != want {
			t.Errorf("%s is %v, want %s: %v", pragma, row, want, err)
		}
	}
}
