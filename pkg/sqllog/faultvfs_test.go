package sqllog

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// faultVFS is a file layer of SQLite that passes everything on to the log's own
// one, fails what a test wants to fail, and remembers what was synced.
type faultVFS struct {
	name string
	base uintptr // the sqlite3_vfs that the log uses

	mu    sync.Mutex
	fail  func(op fileOp) int32 // gives the result code of a failure, or 0
	watch func(op fileOp)       // is told of every operation before it is done
	disks map[string]*disk      // by file name
}

// fileOp is one operation on a file.
type fileOp struct {
	kind string // "read", "write", "sync" or "truncate"
	file string // base name
	off  int64
	size int
}

func (op fileOp) wal() bool { return strings.HasSuffix(op.file, "-wal") }

// disk is what a crash of the machine leaves of a file.
type disk struct {
	synced  []byte
	pending []change // since the last sync
}

type change struct {
	off      int64
	data     []byte
	truncate bool
}

func (c change) apply(to []byte) []byte {
	end := int(c.off) + len(c.data)
	if c.truncate {
		return to[:min(len(to), int(c.off))]
	}
	if len(to) < end {
		to = append(to, make([]byte, end-len(to))...)
	}
	copy(to[c.off:], c.data)
	return to
}

// openFile is a sqlite3_file that a faultVFS has opened.
type openFile struct {
	vfs     *faultVFS
	name    string
	methods uintptr // of the ordinary layer
}

var (
	faults     sync.Map // uintptr of a sqlite3_vfs -> *faultVFS
	faultFiles sync.Map // uintptr of a sqlite3_file -> *openFile
	faultCount atomic.Int64
)

func newFaultVFS(t testing.TB) *faultVFS {
	t.Helper()
	tls := libc.NewTLS()
	layer, err := libc.CString(fileLayer())
	if err != nil {
		t.Fatal(err)
	}
	defer libc.Xfree(tls, layer)
	v := &faultVFS{
		name:  fmt.Sprintf("fault%d", faultCount.Add(1)),
		base:  sqlite3.Xsqlite3_vfs_find(tls, layer),
		disks: map[string]*disk{},
	}
	size := unsafe.Sizeof(sqlite3.Tsqlite3_vfs{})
	p := libc.Xcalloc(tls, 1, libc.Tsize_t(size))
	name, err := libc.CString(v.name)
	if err != nil {
		t.Fatal(err)
	}
	vfs := at[sqlite3.Tsqlite3_vfs](p)
	*vfs = *at[sqlite3.Tsqlite3_vfs](v.base)
	vfs.FzName, vfs.FpNext = name, 0
	vfs.FxOpen, vfs.FxDelete = cFunc(faultOpen), cFunc(faultDelete)
	faults.Store(p, v)
	if rc := sqlite3.Xsqlite3_vfs_register(tls, p, 0); rc != 0 {
		t.Fatalf("register VFS: %d", rc)
	}
	t.Cleanup(func() {
		sqlite3.Xsqlite3_vfs_unregister(tls, p)
		faults.Delete(p)
		libc.Xfree(tls, p)
		libc.Xfree(tls, name)
		tls.Close()
	})
	return v
}

// set replaces the fault; nil heals the disk.
func (v *faultVFS) set(fail func(op fileOp) int32) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.fail = fail
}

// failing says whether an operation is to fail, and notes it if it is not.
func (v *faultVFS) failing(op fileOp, c change) int32 {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.watch != nil {
		v.watch(op)
	}
	d := v.disks[op.file]
	if d == nil {
		d = &disk{}
		v.disks[op.file] = d
	}
	var rc int32
	if v.fail != nil {
		if rc = v.fail(op); rc != 0 {
			c.data = c.data[:len(c.data)/2]
		}
	}
	switch {
	case op.kind == "write" || op.kind == "truncate" && rc == 0:
		d.pending = append(d.pending, c)
	case op.kind == "sync" && rc == 0:
		for _, c := range d.pending {
			d.synced = c.apply(d.synced)
		}
		d.pending = nil
	}
	return rc
}

// crash writes what a crash of the machine would leave now: what was synced, and
// of what was not each write whole, not at all or torn, as rng says; without rng,
// what a crash of the process would leave. It is called from watch, or under mu.
func (v *faultVFS) crash(dir string, rng *rand.Rand) error {
	for _, name := range slices.Sorted(maps.Keys(v.disks)) {
		d := v.disks[name]
		image := slices.Clone(d.synced)
		for _, c := range d.pending {
			switch {
			case rng == nil:
			case rng.IntN(3) == 0:
				continue
			case rng.IntN(2) == 0:
				c.data = c.data[:len(c.data)*rng.IntN(8)/8]
			}
			image = c.apply(image)
		}
		if err := os.WriteFile(filepath.Join(dir, name), image, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func faultOpen(tls *libc.TLS, vfs, zName, file uintptr, flags int32, out uintptr) int32 {
	got, ok := faults.Load(vfs)
	if !ok {
		return sqlite3.SQLITE_MISUSE
	}
	v := got.(*faultVFS)
	open := goFunc[func(*libc.TLS, uintptr, uintptr, uintptr, int32, uintptr) int32](at[sqlite3.Tsqlite3_vfs](v.base).FxOpen)
	rc := open(tls, v.base, zName, file, flags, out)
	f := at[sqlite3.Tsqlite3_file](file)
	if rc != 0 || f.FpMethods == 0 || zName == 0 {
		return rc
	}
	faultFiles.Store(file, &openFile{vfs: v, name: filepath.Base(libc.GoString(zName)), methods: f.FpMethods})
	p := libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(sqlite3.Tsqlite3_io_methods{})))
	m := at[sqlite3.Tsqlite3_io_methods](p)
	*m = *at[sqlite3.Tsqlite3_io_methods](f.FpMethods)
	m.FxClose, m.FxRead, m.FxWrite = cFunc(faultClose), cFunc(faultRead), cFunc(faultWrite)
	m.FxTruncate, m.FxSync = cFunc(faultTruncate), cFunc(faultSync)
	f.FpMethods = p
	return rc
}

func faultDelete(tls *libc.TLS, vfs, zName uintptr, syncDir int32) int32 {
	got, ok := faults.Load(vfs)
	if !ok {
		return sqlite3.SQLITE_MISUSE
	}
	v := got.(*faultVFS)
	v.mu.Lock()
	delete(v.disks, filepath.Base(libc.GoString(zName)))
	v.mu.Unlock()
	del := goFunc[func(*libc.TLS, uintptr, uintptr, int32) int32](at[sqlite3.Tsqlite3_vfs](v.base).FxDelete)
	return del(tls, v.base, zName, syncDir)
}

func fileOf(file uintptr) (*openFile, *sqlite3.Tsqlite3_io_methods) {
	got, _ := faultFiles.Load(file)
	f := got.(*openFile)
	return f, at[sqlite3.Tsqlite3_io_methods](f.methods)
}

func faultClose(tls *libc.TLS, file uintptr) int32 {
	_, m := fileOf(file)
	faultFiles.Delete(file)
	ours := at[sqlite3.Tsqlite3_file](file).FpMethods
	rc := goFunc[func(*libc.TLS, uintptr) int32](m.FxClose)(tls, file)
	libc.Xfree(tls, ours)
	return rc
}

func faultRead(tls *libc.TLS, file, buf uintptr, n int32, off int64) int32 {
	f, m := fileOf(file)
	if rc := f.vfs.failing(fileOp{kind: "read", file: f.name, off: off, size: int(n)}, change{}); rc != 0 {
		return rc
	}
	return goFunc[func(*libc.TLS, uintptr, uintptr, int32, int64) int32](m.FxRead)(tls, file, buf, n, off)
}

// faultWrite leaves half of a write that fails on the disk.
func faultWrite(tls *libc.TLS, file, buf uintptr, n int32, off int64) int32 {
	f, m := fileOf(file)
	write := goFunc[func(*libc.TLS, uintptr, uintptr, int32, int64) int32](m.FxWrite)
	data := slices.Clone(libc.GoBytes(buf, int(n)))
	failed := f.vfs.failing(fileOp{kind: "write", file: f.name, off: off, size: int(n)}, change{off: off, data: data})
	if failed != 0 {
		n /= 2
	}
	if rc := write(tls, file, buf, n, off); rc != 0 {
		return rc
	}
	return failed
}

func faultTruncate(tls *libc.TLS, file uintptr, size int64) int32 {
	f, m := fileOf(file)
	op := fileOp{kind: "truncate", file: f.name, off: size}
	if rc := f.vfs.failing(op, change{off: size, truncate: true}); rc != 0 {
		return rc
	}
	return goFunc[func(*libc.TLS, uintptr, int64) int32](m.FxTruncate)(tls, file, size)
}

func faultSync(tls *libc.TLS, file uintptr, flags int32) int32 {
	f, m := fileOf(file)
	if rc := f.vfs.failing(fileOp{kind: "sync", file: f.name}, change{}); rc != 0 {
		return rc
	}
	return goFunc[func(*libc.TLS, uintptr, int32) int32](m.FxSync)(tls, file, flags)
}
