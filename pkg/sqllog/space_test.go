package sqllog

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestReserveWAL: the file of the write-ahead log gets its length, commits go on and do
// not lengthen it, and a crash loses none of the rows from before and after.
func TestReserveWAL(t *testing.T) {
	const reserved = 3<<20 + 5
	dir := t.TempDir()
	path := filepath.Join(dir, "log.db")
	l, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	appendRow := func(id ID) {
		t.Helper()
		if err := l.Append([]Row{{ID: id, Epoch: 1, Revision: Revision(id) + 1, Kind: KindPut, Key: []byte("k"), CreateRevision: Revision(id) + 1, Version: 1}}); err != nil {
			t.Fatal(err)
		}
	}
	appendRow(1)
	for range 2 {
		if err := l.ReserveWAL(reserved); err != nil {
			t.Fatal(err)
		}
		appendRow(l.Head().ID + 1)
		if got := fileSize(path + "-wal"); got != reserved {
			t.Fatalf("the write-ahead log has %d bytes, want %d", got, reserved)
		}
	}
	crashed := t.TempDir()
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(crashed, "log.db-shm")); err != nil {
		t.Fatal(err)
	}
	again, err := Open(t.Context(), Config{Path: filepath.Join(crashed, "log.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := again.Head(); got != l.Head() || got.ID != 3 {
		t.Fatalf("after the crash the log ends at %+v, not at %+v", got, l.Head())
	}
}

// TestReserveWALOfAnEmptyLog: zeros alone are no write-ahead log, and one that was
// reserved before its first frame is opened after a crash.
func TestReserveWALOfAnEmptyLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	l, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+"-wal", make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err = Open(t.Context(), Config{Path: path}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.ReserveWAL(1); !errors.Is(err, ErrClosed) {
		t.Fatalf("after Close: %v", err)
	}
}

// TestFillUpWithoutRoom: what could not be filled is not kept.
func TestFillUpWithoutRoom(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	if err := fillUp(full, 1<<20); err == nil {
		t.Fatal("a full disk takes zeros")
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("rows"); err != nil {
		t.Fatal(err)
	}
	if err := fillUp(f, 2<<20+1); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil || len(b) != 2<<20+1 || !bytes.HasPrefix(b, []byte("rows\x00")) || len(bytes.Trim(b[4:], "\x00")) > 0 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
}
