package sqllog

import (
	"path/filepath"
	"testing"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// TestSyncErrors: a sync that fails is told to SQLite, with the reason.
func TestSyncErrors(t *testing.T) {
	tls := libc.NewTLS()
	defer tls.Close()
	p := libc.Xcalloc(tls, 1, 1024)
	defer libc.Xfree(tls, p)
	f := at[sqlite3.TunixFile](p)
	f.Fh = -1
	if rc := dataSyncSync(tls, p, sqlite3.SQLITE_SYNC_FULL); rc != sqlite3.SQLITE_IOERR_FSYNC || f.FlastErrno == 0 {
		t.Fatalf("result %d, errno %d", rc, f.FlastErrno)
	}
}

// TestFilesSyncTheirData: the files of a log are opened by the layer.
func TestFilesSyncTheirData(t *testing.T) {
	if fileLayer() != dataSyncName {
		t.Fatalf("the file layer is %q", fileLayer())
	}
	path := filepath.Join(t.TempDir(), "log.db")
	l, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dataSync.mu.Lock()
	defer dataSync.mu.Unlock()
	if len(dataSync.methods) == 0 {
		t.Fatal("no file was opened by it")
	}
}
