package mvcc

import (
	"container/heap"
	"sync"
	"time"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Bounds of a lease's TTL in seconds. The smallest is etcd's with its default
// election time-out: shorter TTLs are raised to it.
const (
	MinLeaseTTL = 2
	MaxLeaseTTL = 9_000_000_000
)

// lease is one granted lease.
type lease struct {
	id       int64
	ttl      int64 // seconds, as granted
	row      sqllog.ID
	expiry   time.Time
	pending  bool // its grant is not committed
	revoking bool // its revocation is not committed
	// entries holds every key whose committed record, or a pending one, names the
	// lease, and perhaps some that do no longer; readers check.
	entries map[*entry]struct{}
}

// lessor holds the leases and knows which are due. The order of expiry is a heap
// with one item a lease; a keepalive moves only the lease's own time, and the
// item is put back in its place when it comes up.
type lessor struct {
	now func() time.Time

	mu     sync.Mutex
	leases map[int64]*lease
	due    dueHeap
}

type dueItem struct {
	at    time.Time
	lease *lease
}

type dueHeap []dueItem

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)        { *h = append(*h, x.(dueItem)) }
func (h *dueHeap) Pop() any {
	old := *h
	item := old[len(old)-1]
	*h = old[:len(old)-1]
	return item
}

// leaseChange is a grant or a revocation in a batch.
type leaseChange struct {
	lease  *lease
	revoke bool
	row    sqllog.ID
}

func (l *lessor) init(now func() time.Time) {
	l.now = now
	l.leases = map[int64]*lease{}
}

func ttlDuration(seconds int64) time.Duration {
	return time.Duration(seconds) * time.Second
}

func newLease(id, ttl int64, row sqllog.ID) *lease {
	return &lease{id: id, ttl: ttl, row: row, entries: map[*entry]struct{}{}}
}

// load takes a lease row into account while the index is loaded.
func (l *lessor) load(r *sqllog.Row, scrub *scrubState) {
	if r.Version > 0 {
		l.leases[r.Lease] = newLease(r.Lease, r.Version, r.ID)
		return
	}
	if old, ok := l.leases[r.Lease]; ok {
		scrub.rows = append(scrub.rows, old.row)
		delete(l.leases, r.Lease)
	}
	scrub.rows = append(scrub.rows, r.ID)
}

// loaded gives every lease its full TTL from now on.
func (l *lessor) loaded() {
	now := l.now()
	for _, le := range l.leases {
		le.expiry = now.Add(ttlDuration(le.ttl))
		l.due = append(l.due, dueItem{at: le.expiry, lease: le})
	}
	heap.Init(&l.due)
}

// restart is loaded for leases that are in the heap already.
func (l *lessor) restart() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.due)
	l.due = l.due[:0]
	l.loaded()
}

// exists tells whether a key may be put under the lease, in the order of
// evaluation: a lease granted or revoked before counts, committed or not.
func (l *lessor) exists(id int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	le := l.leases[id]
	return le != nil && !le.revoking
}

func (l *lessor) attach(id int64, e *entry) {
	if id == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if le := l.leases[id]; le != nil {
		le.entries[e] = struct{}{}
	}
}

// detach takes the key off the lease, unless its newest record at the committed
// revision, or one that is pending above it, names the lease.
func (l *lessor) detach(id int64, e *entry, committed int64) {
	if id == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	le := l.leases[id]
	if le == nil {
		return
	}
	for r := e.head.Load(); r != nil; r = r.prev.Load() {
		if r.lease == id {
			return
		}
		if r.mod <= committed {
			break
		}
	}
	delete(le.entries, e)
}

// attached lists the keys whose record at a revision names the lease.
func (l *lessor) attached(le *lease, rev int64) []*record {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []*record
	for e := range le.entries {
		if r := e.live(rev); r != nil && r.lease == le.id {
			list = append(list, r)
		}
	}
	return list
}

func (l *lessor) grant(id, ttl int64, row sqllog.ID) leaseChange {
	l.mu.Lock()
	defer l.mu.Unlock()
	le := newLease(id, ttl, row)
	le.pending = true
	l.leases[id] = le
	return leaseChange{lease: le, row: row}
}

func (l *lessor) undo(c leaseChange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.revoke {
		c.lease.revoking = false
		l.leases[c.lease.id] = c.lease
		return
	}
	delete(l.leases, c.lease.id)
}

// publish makes a change count. due: the lease is to come up when its time is over,
// which is the Primary's to see to.
func (l *lessor) publish(c leaseChange, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	le := c.lease
	if c.revoke {
		if l.leases[le.id] == le {
			delete(l.leases, le.id)
		}
		return
	}
	le.pending = false
	le.expiry = l.now().Add(ttlDuration(le.ttl))
	if due {
		heap.Push(&l.due, dueItem{at: le.expiry, lease: le})
	}
}

// lookup gives a committed lease, nil if there is none.
func (l *lessor) lookupLocked(id int64) *lease {
	le := l.leases[id]
	if le == nil || le.pending {
		return nil
	}
	return le
}

// renew starts the TTL of a lease anew and returns it. A lease that is due
// already is gone for its clients.
func (l *lessor) renew(id int64) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	le := l.lookupLocked(id)
	now := l.now()
	if le == nil || le.revoking || !le.expiry.After(now) {
		return 0, ErrLeaseNotFound
	}
	le.expiry = now.Add(ttlDuration(le.ttl))
	return le.ttl, nil
}

// expired takes the leases that are due, at most max, and says when to look
// again: after the zero Duration if there may be more now, never if it is
// negative. A lease that was taken comes up again unless it is revoked.
func (l *lessor) expired(max int) (ids []int64, next time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for len(l.due) > 0 {
		item := &l.due[0]
		le := item.lease
		switch {
		case l.leases[le.id] != le: // revoked meanwhile
			heap.Pop(&l.due)
		case item.at.Before(le.expiry): // kept alive meanwhile
			item.at = le.expiry
			heap.Fix(&l.due, 0)
		case item.at.After(now):
			return ids, item.at.Sub(now)
		case len(ids) == max:
			return ids, 0
		default:
			if !le.revoking {
				ids = append(ids, le.id)
			}
			item.at = now.Add(expiryRetry)
			heap.Fix(&l.due, 0)
		}
	}
	return ids, -1
}

// expiryRetry is when a lease whose revocation did not succeed comes up again.
const expiryRetry = time.Second

func (l *lessor) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.leases)
}
