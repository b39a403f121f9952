package mvcc

import (
	"sync/atomic"
	"unsafe"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// entry is one key of the index. Its head is changed under Store.mu and read
// without a lock.
type entry struct {
	key  []byte // never changed; the tree's key shares its bytes
	head atomic.Pointer[record]
}

// record is one change of one key. Only prev and value ever change: prev is
// cleared by Scrub, value by the cache.
type record struct {
	entry *entry
	prev  atomic.Pointer[record] // the change before; never newer than this one

	id      sqllog.ID
	mod     int64
	create  int64
	version int64
	lease   int64
	sub     int32 // position among the changes of the revision
	size    int32 // bytes of the value

	tombstone bool
	dropped   bool        // Scrub has given its row away; under Store.mu
	used      atomic.Bool // read since the cache last looked

	value atomic.Pointer[byte] // first byte of the value; nil while not in memory
}

// setValue keeps v, which nobody changes any more, in memory.
func (r *record) setValue(v []byte) {
	if len(v) > 0 {
		r.value.Store(unsafe.SliceData(v))
	}
}

// cached gives the value if it is in memory. An empty value always is.
func (r *record) cached() ([]byte, bool) {
	if r.size == 0 {
		return nil, true
	}
	p := r.value.Load()
	if p == nil {
		return nil, false
	}
	if !r.used.Load() {
		r.used.Store(true)
	}
	return unsafe.Slice(p, r.size), true
}

// at gives the newest change at or below a revision, nil if there is none.
func (e *entry) at(rev int64) *record {
	r := e.head.Load()
	for r != nil && r.mod > rev {
		r = r.prev.Load()
	}
	return r
}

// live is at, but nil for a key that is deleted at that revision.
func (e *entry) live(rev int64) *record {
	r := e.at(rev)
	if r == nil || r.tombstone {
		return nil
	}
	return r
}

// keyValue fills kv with everything but the value. Key bytes are shared.
func (r *record) keyValue(kv *mvccpb.KeyValue) {
	kv.Key = r.entry.key
	kv.CreateRevision = r.create
	kv.ModRevision = r.mod
	kv.Version = r.version
	kv.Lease = r.lease
}

// treeKey is the key as the tree holds it, sharing the bytes of b, which are
// never changed.
func treeKey(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
