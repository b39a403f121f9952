package replicate

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// followers are the Replicas that follow this Primary. Its methods may be called
// concurrently.
type followers struct {
	m *Member

	mu      sync.Mutex
	list    map[elect.NodeID]*follower
	changed chan struct{} // closed at a receipt, or when a stream ends; nil while nobody waits
}

type follower struct {
	name    string
	streams int
	id      sqllog.ID // of the newest receipt
	at      time.Time // of it
}

func (f *followers) init(m *Member) { f.m, f.list = m, make(map[elect.NodeID]*follower) }

// enter notes a stream of a Replica.
func (f *followers) enter(n elect.NodeID, name string) {
	f.mu.Lock()
	x := f.list[n]
	if x == nil {
		x = &follower{}
		f.list[n] = x
	}
	x.name, x.at, x.id = name, time.Now(), 0
	x.streams++
	f.mu.Unlock()
	f.tell()
}

// leave notes the end of one.
func (f *followers) leave(n elect.NodeID) {
	f.mu.Lock()
	if x := f.list[n]; x != nil {
		if x.streams--; x.streams == 0 {
			delete(f.list, n)
		}
	}
	f.wakeLocked()
	f.mu.Unlock()
	f.tell()
}

// tell names them to the Core, which sends them heartbeats.
func (f *followers) tell() {
	f.m.control.do(func(core *elect.Core, _ time.Duration) { core.SetObservers(f.nodes()) })
}

func (f *followers) nodes() []elect.NodeID {
	f.mu.Lock()
	defer f.mu.Unlock()
	nodes := make([]elect.NodeID, 0, len(f.list))
	for n := range f.list {
		nodes = append(nodes, n)
	}
	slices.Sort(nodes)
	return nodes
}

func (f *followers) receipt(n elect.NodeID, id sqllog.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if x := f.list[n]; x != nil {
		x.id, x.at = max(x.id, id), time.Now()
	}
	f.wakeLocked()
}

func (f *followers) wakeLocked() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// held is up to which id a Replica holds every row, by its receipts, and a channel
// that is closed when that may have changed. It reports false for one that does not
// follow.
func (f *followers) held(n elect.NodeID) (id sqllog.ID, changed <-chan struct{}, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := f.list[n]
	if x == nil {
		return 0, nil, false
	}
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return x.id, f.changed, true
}

func (f *followers) connected(n elect.NodeID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.list[n] != nil
}

// followerState is one Replica as the Primary sees it.
type followerState struct {
	node elect.NodeID
	follower
}

func (f *followers) states() []followerState {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]followerState, 0, len(f.list))
	for n, x := range f.list {
		all = append(all, followerState{node: n, follower: *x})
	}
	slices.SortFunc(all, func(a, b followerState) int { return cmp.Compare(a.node, b.node) })
	return all
}
