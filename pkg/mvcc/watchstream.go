package mvcc

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// NoWatch is the watch id of responses that concern no single watch.
const NoWatch = -1

// WatchRequest asks for a watch.
type WatchRequest struct {
	ID            int64  // 0: the stream chooses
	Key           []byte // empty: the smallest key
	End           []byte // empty: Key alone
	FromKey       bool   // every key from Key on; End is not used
	StartRevision int64  // 0: from now on
	PrevKV        bool
	NoPut         bool
	NoDelete      bool
	// ProgressNotify asks for a progress response now and then while no event
	// comes.
	ProgressNotify bool
}

// WatchResponse is one response of a stream. One without events, Created or
// Canceled is progress: every event up to Revision was handed out before, of the
// watch WatchID, or of all watches of the stream if that is NoWatch.
type WatchResponse struct {
	WatchID         int64
	Revision        int64
	Created         bool
	Canceled        bool
	CancelReason    string
	CompactRevision int64
	Events          []*mvccpb.Event
}

// WatchStream is a set of watches whose responses come out of one Next, in
// order. Next has one caller at a time; the other methods may be called
// concurrently.
type WatchStream struct {
	hub     *hub
	touched bool          // in hub.touched; under hub.mu
	signal  chan struct{} // size one: look again
	closed  chan struct{}
	room    chan struct{} // a token for each response in control

	mu       sync.Mutex
	done     bool
	nextID   int64
	watchers map[int64]*watcher
	control  []WatchResponse
	dirty    []*watcher
	behind   []*watcher
	progress []int64 // requested: the revision each answer must reach
	tick     bool
	ticking  []*watcher // still to be told of progress in this tick

	unsent unsent // Next's own
}

// unsent is what was taken for a watcher and not handed out, since building the
// response failed.
type unsent struct {
	w       *watcher
	records []*record
}

// maxControl bounds the answers to Create and Cancel that wait for Next: a client
// that asks and does not read is not served without end.
const maxControl = 16 << 10

// NewWatchStream opens a stream. It must be closed.
func (s *Store) NewWatchStream() *WatchStream {
	st := &WatchStream{
		hub: s.hub, signal: make(chan struct{}, 1), closed: make(chan struct{}),
		room:     make(chan struct{}, maxControl),
		watchers: map[int64]*watcher{},
	}
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.hub.streams[st] = struct{}{}
	if s.hub.closed {
		st.done = true
		close(st.closed)
	}
	return st
}

func (st *WatchStream) wakeUp() {
	select {
	case st.signal <- struct{}{}:
	default:
	}
}

// offer queues a record. It reports false if the queue is full; the watcher is
// then behind from this record's revision on. hub.mu is held.
func (st *WatchStream) offer(w *watcher, r *record) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(w.queue) < st.hub.s.cfg.limits.queueRecords {
		w.queue = append(w.queue, r)
		st.markDirtyLocked(w)
		return true
	}
	n := len(w.queue)
	for n > 0 && w.queue[n-1].mod == r.mod {
		n--
	}
	w.queue = w.queue[:n]
	st.behind = append(st.behind, w)
	return false
}

func (st *WatchStream) markDirtyLocked(w *watcher) {
	if !w.dirty {
		w.dirty = true
		st.dirty = append(st.dirty, w)
	}
}

// Create starts a watch; its `created` response comes out of Next before its
// events. On ErrWatchIDInUse, ErrEmptyWatchRange and ErrCompacted (a negative
// start) the stream answers created and canceled, with the reason, as etcd does.
// Create and Cancel block while very many answers wait for Next.
func (st *WatchStream) Create(req WatchRequest) (int64, error) {
	w := &watcher{stream: st, req: req, next: req.StartRevision}
	err := w.setSpan(req)
	if !st.reserve() {
		return NoWatch, ErrClosed
	}
	h := st.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dispatchLocked() // so that "from now on" begins after what is committed
	st.mu.Lock()
	defer st.mu.Unlock()
	defer st.wakeUp()
	current := h.dispatched.Load()
	if st.done {
		return NoWatch, ErrClosed
	}
	if err == nil {
		err = st.addLocked(w, req.ID)
	}
	if err != nil {
		st.control = append(st.control, WatchResponse{
			WatchID: NoWatch, Revision: current, Created: true, Canceled: true, CancelReason: cancelReason(err),
		})
		return NoWatch, err
	}
	h.index.add(w)
	st.control = append(st.control, WatchResponse{WatchID: w.id, Revision: current, Created: true})
	switch {
	case w.next == 0:
		w.next = current + 1
	case w.next <= current:
		w.state = behind
		h.behind.Add(1)
		st.behind = append(st.behind, w)
	}
	return w.id, nil
}

// reserve takes room for one answer. It reports false if the stream is closed.
func (st *WatchStream) reserve() bool {
	select {
	case st.room <- struct{}{}:
		return true
	case <-st.closed:
		return false
	}
}

func cancelReason(err error) string {
	if errors.Is(err, ErrCompacted) {
		return rpctypes.ErrCompacted.Error()
	}
	return err.Error()
}

func (w *watcher) setSpan(req WatchRequest) error {
	key := req.Key
	if len(key) == 0 {
		key = []byte{0}
	}
	w.span = span{key: bytes.Clone(key), end: bytes.Clone(req.End), single: len(req.End) == 0 && !req.FromKey, toLast: req.FromKey}
	switch {
	case req.StartRevision < 0:
		return ErrCompacted
	case !w.span.single && !w.span.toLast && bytes.Compare(w.span.key, w.span.end) >= 0:
		return ErrEmptyWatchRange
	}
	return nil
}

func (st *WatchStream) addLocked(w *watcher, id int64) error {
	if id == 0 {
		for st.watchers[st.nextID] != nil {
			st.nextID++
		}
		id = st.nextID
		st.nextID++
	} else if st.watchers[id] != nil {
		return ErrWatchIDInUse
	}
	w.id = id
	st.watchers[id] = w
	return nil
}

// Cancel ends a watch. Its `canceled` response comes out of Next after what was
// handed out before; nothing of the watch follows it.
func (st *WatchStream) Cancel(id int64) error {
	h := st.hub
	if !st.reserve() {
		return ErrClosed
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dispatchLocked() // so that the answer's revision is the committed one
	st.mu.Lock()
	defer st.mu.Unlock()
	w := st.watchers[id]
	if w == nil || st.done {
		<-st.room
		return fmt.Errorf("%w: %d", ErrWatchNotFound, id)
	}
	h.cancelLocked(w)
	delete(st.watchers, id)
	w.queue = nil
	st.control = append(st.control, WatchResponse{WatchID: id, Revision: h.dispatched.Load(), Canceled: true})
	st.wakeUp()
	return nil
}

// Progress asks for a progress response for all watches of the stream. It comes
// when none of them is behind, and its revision is at least the committed one of
// now.
func (st *WatchStream) Progress() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.progress) < maxProgressRequests {
		st.progress = append(st.progress, st.hub.s.committed.Load())
	}
	st.wakeUp()
}

// maxProgressRequests bounds the requests that wait; more are answered by the
// same responses.
const maxProgressRequests = 1024

func (st *WatchStream) progressTick() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.tick = true
	st.wakeUp()
}

// Close ends the stream and its watches. Next returns ErrClosed.
func (st *WatchStream) Close() {
	h := st.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	st.mu.Lock()
	defer st.mu.Unlock()
	delete(h.streams, st)
	for _, w := range st.watchers {
		h.cancelLocked(w)
	}
	if !st.done {
		st.done = true
		close(st.closed)
	}
}
