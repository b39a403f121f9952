package sqllog

import (
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// SQLite's ordinary file layer as it is built here syncs by fsync, which also makes a
// file's time of change durable: on a journaling file system that is an entry in the
// journal, and a wait for everybody else's. The layer below differs in one call: it
// syncs by fdatasync, which makes durable what SQLite reads back, the length included.

// dataSyncName is its name in SQLite.
const dataSyncName = "kinsy-datasync"

// dataSync is registered once and never taken back.
var dataSync struct {
	once sync.Once
	base uintptr // the ordinary sqlite3_vfs
	err  int32

	mu      sync.Mutex
	methods map[uintptr]uintptr // of the ordinary layer -> of this one
	sync    atomic.Uintptr      // the ordinary FxSync, the same for all of them
}

// fileLayer names the layer that connections use; empty is SQLite's ordinary one.
func fileLayer() string {
	dataSync.once.Do(registerDataSync)
	if dataSync.err != 0 {
		return ""
	}
	return dataSyncName
}

func registerDataSync() {
	d := &dataSync
	d.methods = map[uintptr]uintptr{}
	tls := libc.NewTLS() // stays with what is registered
	d.base = sqlite3.Xsqlite3_vfs_find(tls, 0)
	name, err := libc.CString(dataSyncName)
	p := libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(sqlite3.Tsqlite3_vfs{})))
	if d.base == 0 || err != nil || p == 0 {
		d.err = sqlite3.SQLITE_NOMEM
		return
	}
	vfs := at[sqlite3.Tsqlite3_vfs](p)
	*vfs = *at[sqlite3.Tsqlite3_vfs](d.base)
	vfs.FzName, vfs.FpNext = name, 0
	vfs.FxOpen = cFunc(dataSyncOpen)
	d.err = sqlite3.Xsqlite3_vfs_register(tls, p, 0)
}

func dataSyncOpen(tls *libc.TLS, _, zName, file uintptr, flags int32, out uintptr) int32 {
	base := dataSync.base
	open := goFunc[func(*libc.TLS, uintptr, uintptr, uintptr, int32, uintptr) int32](at[sqlite3.Tsqlite3_vfs](base).FxOpen)
	rc := open(tls, base, zName, file, flags, out)
	f := at[sqlite3.Tsqlite3_file](file)
	if rc != 0 || f.FpMethods == 0 {
		return rc
	}
	if own := dataSyncMethods(tls, f.FpMethods); own != 0 {
		f.FpMethods = own
	}
	return rc
}

// dataSyncMethods gives the methods that differ from others in FxSync; 0 where there are
// none: the file then keeps those it has.
func dataSyncMethods(tls *libc.TLS, base uintptr) uintptr {
	d := &dataSync
	d.mu.Lock()
	defer d.mu.Unlock()
	if own := d.methods[base]; own != 0 {
		return own
	}
	theirs := at[sqlite3.Tsqlite3_io_methods](base)
	if !d.sync.CompareAndSwap(0, theirs.FxSync) && d.sync.Load() != theirs.FxSync {
		return 0
	}
	own := libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(sqlite3.Tsqlite3_io_methods{})))
	if own == 0 {
		return 0
	}
	m := at[sqlite3.Tsqlite3_io_methods](own)
	*m = *theirs
	m.FxSync = cFunc(dataSyncSync)
	d.methods[base] = own
	return own
}

func dataSyncSync(tls *libc.TLS, file uintptr, flags int32) int32 {
	f := at[sqlite3.TunixFile](file)
	if f.FctrlFlags&sqlite3.UNIXFILE_DIRSYNC != 0 { // the first time: the folder too
		return goFunc[func(*libc.TLS, uintptr, int32) int32](dataSync.sync.Load())(tls, file, flags)
	}
	for {
		switch err := syscall.Fdatasync(int(f.Fh)); err {
		case nil:
			return sqlite3.SQLITE_OK
		case syscall.EINTR:
		default:
			errno, _ := err.(syscall.Errno)
			f.FlastErrno = int32(errno)
			return sqlite3.SQLITE_IOERR_FSYNC
		}
	}
}
