package sqllog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"
)

func TestConnectionSettings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	for _, when := range []string{"created", "reopened", "recovered"} {
		l := openTest(t, Config{Path: path})
		conns := map[string]*conn{"checkpointer": l.ckpt.conn}
		if when == "recovered" {
			if _, err := l.Recover(t.Context()); err != nil {
				t.Fatal(err)
			}
			delete(conns, "checkpointer") // it works now
		}
		conns["writer"] = l.w.conn
		var readers []*reader
		for i := range readerConns {
			r := <-l.readers.free
			conns[fmt.Sprint("reader ", i)] = r.conn
			readers = append(readers, r)
		}
		for name, c := range conns {
			for pragma, want := range map[string]string{
				"journal_mode": "wal", "synchronous": "2", "auto_vacuum": "2", "wal_autocheckpoint": "0",
			} {
				row, err := c.pragma(pragma)
				if err != nil || fmt.Sprint(row[0]) != want {
					t.Errorf("%s, %s: %s is %v, want %s: %v", when, name, pragma, row, want, err)
				}
			}
		}
		for _, r := range readers {
			l.readers.put(r)
		}
	}
}

// files gives the contents of a folder, shared memory left out: SQLite makes it
// to read a database whose write-ahead log was left behind.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".db-shm" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = string(b)
	}
	return got
}

// database makes a database by a script and gives its folder, copied while it is
// open where crashed is set: then its write-ahead log is left behind.
func database(t *testing.T, script []string, crashed bool) string {
	t.Helper()
	dir := t.TempDir()
	c, err := openConn("file:"+filepath.Join(dir, "log.db"), classifySQLite)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range script {
		s, err := c.prepare(text, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.first(); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if crashed {
		dir2 := t.TempDir()
		if err := os.CopyFS(dir2, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir2, "log.db-shm")); err != nil {
			t.Fatal(err)
		}
		dir = dir2
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestRefusedUntouched(t *testing.T) {
	meta := "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID"
	for name, c := range map[string]struct {
		script []string
		want   error
	}{
		"kine": {[]string{"CREATE TABLE kine (id INTEGER PRIMARY KEY AUTOINCREMENT, name INTEGER)",
			"INSERT INTO kine (name) VALUES ('compact_rev_key')"}, ErrForeign},
		"foreign":       {[]string{"CREATE TABLE users (id INTEGER PRIMARY KEY)"}, ErrForeign},
		"foreign names": {[]string{"CREATE TABLE log (line TEXT)", "CREATE TABLE meta (k TEXT, v TEXT)"}, ErrForeign},
		"newer": {[]string{"CREATE TABLE log (id INTEGER PRIMARY KEY, more TEXT)", meta,
			"INSERT INTO meta VALUES ('schema_version', X'393939')"}, ErrNewer},
		"no version": {[]string{"CREATE TABLE log (id INTEGER PRIMARY KEY)", meta}, ErrCorrupt},
		"odd version": {[]string{"CREATE TABLE log (id INTEGER PRIMARY KEY)", meta,
			"INSERT INTO meta VALUES ('schema_version', X'78')"}, ErrCorrupt},
	} {
		for _, mode := range []string{"delete", "wal"} {
			for _, crashed := range []bool{false, true} {
				if crashed && mode == "delete" {
					continue
				}
				t.Run(fmt.Sprintf("%s, %s, crashed %v", name, mode, crashed), func(t *testing.T) {
					dir := database(t, append([]string{"PRAGMA journal_mode=" + mode}, c.script...), crashed)
					before := files(t, dir)
					if crashed && len(before["log.db-wal"]) == 0 {
						t.Fatal("no write-ahead log was left behind")
					}
					l, err := Open(context.Background(), Config{Path: filepath.Join(dir, "log.db"), Logger: quiet()})
					if !errors.Is(err, c.want) {
						t.Fatalf("open gives %v, %v, want %v", l, err, c.want)
					}
					if after := files(t, dir); fmt.Sprint(after) != fmt.Sprint(before) {
						t.Errorf("files were changed: %d before, %d now", len(before), len(after))
					}
				})
			}
		}
	}
}

// TestVanishedFile: a log whose file is gone does not begin anew while its
// write-ahead log is still there, nor by Recover.
func TestVanishedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	l := openTest(t, Config{Path: path})
	if err := l.Append(group(l.Head(), 5)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Recover(t.Context()); !errors.Is(err, ErrIO) {
		t.Errorf("recover without a file: %v", err)
	}
	if err := l.Append(group(l.Head(), 5)); !errors.Is(err, ErrIO) {
		t.Errorf("append after a failed Recover: %v", err)
	}
	for _, create := range []bool{false, true} {
		if create {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Open(t.Context(), Config{Path: path, Logger: quiet()}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("open beside a write-ahead log: %v", err)
		}
	}
}

// walSize is the length of the write-ahead log in bytes.
func walSize(l *Log) int64 { return fileSize(l.Path() + "-wal") }

// write appends about n bytes in groups. It goes on while the checkpointer works,
// but not while the machine keeps that from beginning.
func write(t *testing.T, l *Log, n int64) {
	t.Helper()
	for n > 0 {
		rows := group(l.Head(), 50)
		if err := l.Append(rows); err != nil {
			t.Fatal(err)
		}
		n -= rowsSize(rows)
		for start := time.Now(); l.ckpt.written.Load() > 4*l.ckpt.limits.bytes; runtime.Gosched() {
			if time.Since(start) > 20*time.Second {
				t.Fatal("no checkpoint begins")
			}
		}
	}
}

var smallWAL = walLimits{bytes: 64 << 10, rest: 16, frames: 80, wait: 5 * time.Second}

const smallWALBytes = 3 << 19 // far above what smallWAL allows, far below what is written

func TestWALBounded(t *testing.T) {
	const written = 3 << 20
	t.Run("writes alone", func(t *testing.T) {
		l := openTest(t, Config{wal: smallWAL})
		write(t, l, written)
		if n := walSize(l); n > smallWALBytes {
			t.Errorf("write-ahead log has %d bytes", n)
		}
	})
	t.Run("a scan that waits", func(t *testing.T) {
		l := openTest(t, Config{wal: smallWAL})
		write(t, l, 1<<18)
		started, end, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		go func() {
			n := 0
			done <- l.Scan(t.Context(), 0, l.Head().ID, func(*Row) error {
				if n++; n == 100 {
					close(started)
					<-end
				}
				return nil
			})
		}()
		<-started
		write(t, l, written)
		close(end)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := walSize(l); n > smallWALBytes {
			t.Errorf("write-ahead log has %d bytes", n)
		}
	})
	t.Run("readers that never pause", func(t *testing.T) {
		l := openTest(t, Config{wal: smallWAL})
		write(t, l, 1<<18)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, readerConns)
		for range readerConns {
			go func() {
				for ctx.Err() == nil {
					if _, err := l.Values(ctx, []ID{1, 30, 60}); err != nil && ctx.Err() == nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
		}
		write(t, l, written)
		stop()
		for range readerConns {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if n := walSize(l); n > smallWALBytes {
			t.Errorf("write-ahead log has %d bytes", n)
		}
	})
}

// TestWALAfterForeignReader: a read transaction that somebody else keeps open
// makes the log grow and does not stop it; once it ends the log starts over.
func TestWALAfterForeignReader(t *testing.T) {
	limits := smallWAL
	limits.wait = time.Millisecond
	l := openTest(t, Config{wal: limits})
	write(t, l, 1<<18)
	c, err := openConn(sqliteReaderDSN(l.cfg), classifySQLite)
	if err != nil {
		t.Fatal(err)
	}
	run := func(text string) {
		t.Helper()
		s, err := c.prepare(text, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.first(); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	run("BEGIN")
	run("SELECT count(*) FROM log")
	write(t, l, 2<<20)
	grown := walSize(l)
	if grown < 2<<20 {
		t.Fatalf("write-ahead log has %d bytes: the reader holds nothing", grown)
	}
	run("COMMIT")
	write(t, l, 2<<20)
	if n := walSize(l); n > grown+smallWALBytes {
		t.Errorf("write-ahead log has %d bytes, %d when the reader ended", n, grown)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestShrinkFile(t *testing.T) {
	l := openTest(t, Config{wal: smallWAL})
	write(t, l, 2<<20)
	var ids []ID
	for id := ID(1); id < l.Head().ID; id++ {
		ids = append(ids, id)
	}
	for part := range slices.Chunk(ids, 200) {
		if err := l.Remove(part, Compaction{}); err != nil {
			t.Fatal(err)
		}
	}
	for left := int64(1); left > 0; {
		var err error
		if left, err = l.Shrink(50); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n := fileSize(l.Path()); n > 64<<10 {
		t.Errorf("file has %d bytes for one row", n)
	}
	if n := walSize(l); n > 0 {
		t.Errorf("a write-ahead log of %d bytes was left behind", n)
	}
}

func TestMigrationsInSequence(t *testing.T) {
	steps, err := migrations("sqlite")
	if err != nil || len(steps) == 0 {
		t.Fatalf("%d migrations: %v", len(steps), err)
	}
	for i, m := range steps {
		if m.version != i+1 || m.text == "" {
			t.Errorf("migration %d has version %d", i, m.version)
		}
	}
}
