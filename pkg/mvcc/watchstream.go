package mvcc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/kinsy/kinsy/pkg/sqllog"
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
}

// NewWatchStream opens a stream. It must be closed.
func (s *Store) NewWatchStream() *WatchStream {
	st := &WatchStream{
		hub: s.hub, signal: make(chan struct{}, 1), closed: make(chan struct{}),
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
	if len(w.queue) < queueRecords {
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
func (st *WatchStream) Create(req WatchRequest) (int64, error) {
	w := &watcher{stream: st, req: req, next: req.StartRevision}
	err := w.setSpan(req)
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
	h.mu.Lock()
	defer h.mu.Unlock()
	st.mu.Lock()
	defer st.mu.Unlock()
	w := st.watchers[id]
	if w == nil || st.done {
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

// Next gives the next response. It blocks until there is one, ctx ends, or the
// stream is closed (ErrClosed).
func (st *WatchStream) Next(ctx context.Context) (WatchResponse, error) {
	for {
		resp, ok, err := st.poll(ctx)
		if ok || err != nil {
			return resp, err
		}
		select {
		case <-st.signal:
		case <-ctx.Done():
			return WatchResponse{}, ctx.Err()
		case <-st.closed:
			return WatchResponse{}, ErrClosed
		}
	}
}

// poll gives the next response if there is one now: first what the control
// queue holds, then answers to progress requests, events that were dispatched,
// history for watches that are behind, and periodic progress.
func (st *WatchStream) poll(ctx context.Context) (WatchResponse, bool, error) {
	for _, source := range []func(context.Context) (WatchResponse, bool, error){
		st.nextControl, st.nextProgress, st.nextDispatched, st.nextHistory, st.nextTick,
	} {
		if resp, ok, err := source(ctx); ok || err != nil {
			return resp, ok, err
		}
	}
	return WatchResponse{}, false, nil
}

func (st *WatchStream) nextControl(context.Context) (WatchResponse, bool, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.control) == 0 {
		return WatchResponse{}, false, nil
	}
	resp := st.control[0]
	st.control = st.control[1:]
	return resp, true, nil
}

// nextProgress answers a request once no watch is behind and everything up to
// the revision of the request was handed out.
func (st *WatchStream) nextProgress(context.Context) (WatchResponse, bool, error) {
	st.mu.Lock()
	waiting := len(st.progress) > 0
	st.mu.Unlock()
	if !waiting {
		return WatchResponse{}, false, nil
	}
	h := st.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dispatchLocked()
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.behind) > 0 {
		return WatchResponse{}, false, nil
	}
	reached := h.dispatched.Load()
	for _, w := range st.dirty {
		if len(w.queue) > 0 {
			reached = min(reached, w.queue[0].mod-1)
		}
	}
	if reached < st.progress[0] {
		return WatchResponse{}, false, nil
	}
	st.progress = st.progress[1:]
	return WatchResponse{WatchID: NoWatch, Revision: reached}, true, nil
}

// nextDispatched hands out events of one watcher that has some queued.
func (st *WatchStream) nextDispatched(ctx context.Context) (WatchResponse, bool, error) {
	for {
		w, records := st.takeDispatched()
		if w == nil {
			return WatchResponse{}, false, nil
		}
		if resp, ok, err := st.respond(ctx, w, records); ok || err != nil {
			return resp, ok, err
		}
	}
}

// takeDispatched finds a watcher with records that may be handed out. Watchers
// take turns.
func (st *WatchStream) takeDispatched() (*watcher, []*record) {
	st.mu.Lock()
	defer st.mu.Unlock()
	dispatched := st.hub.dispatched.Load()
	for range len(st.dirty) {
		w := st.dirty[0]
		st.dirty = st.dirty[1:]
		taken := w.takeLocked(dispatched)
		if len(w.queue) > 0 {
			st.dirty = append(st.dirty, w)
		} else {
			w.dirty = false
		}
		if len(taken) > 0 {
			return w, taken
		}
	}
	return nil, nil
}

// nextHistory reads a step of history for watchers that are behind, in turn,
// until one of them has something to hand out.
func (st *WatchStream) nextHistory(ctx context.Context) (WatchResponse, bool, error) {
	for {
		if err := ctx.Err(); err != nil {
			return WatchResponse{}, false, err
		}
		w := st.takeBehind()
		if w == nil {
			return WatchResponse{}, false, nil
		}
		records, caughtUp, compacted := st.hub.catchUp(w)
		if compacted {
			return st.compacted(w), true, nil
		}
		if !caughtUp {
			st.mu.Lock()
			st.behind = append(st.behind, w)
			st.mu.Unlock()
		}
		if resp, ok, err := st.respond(ctx, w, records); ok || err != nil {
			return resp, ok, err
		}
	}
}

// takeBehind takes the next watcher that is behind, passing over those with a
// queue: what they have queued comes before their history.
func (st *WatchStream) takeBehind() *watcher {
	st.mu.Lock()
	defer st.mu.Unlock()
	for range len(st.behind) {
		w := st.behind[0]
		st.behind = st.behind[1:]
		if len(w.queue) == 0 {
			return w
		}
		st.behind = append(st.behind, w)
	}
	return nil
}

func (st *WatchStream) compacted(w *watcher) WatchResponse {
	compacted := st.hub.s.compacted.Load()
	return WatchResponse{
		WatchID: w.id, Revision: st.hub.dispatched.Load(), Canceled: true, CompactRevision: compacted,
	}
}

// respond builds the response for records. There is none if they are empty, or
// if the watch was canceled meanwhile.
func (st *WatchStream) respond(ctx context.Context, w *watcher, records []*record) (WatchResponse, bool, error) {
	if len(records) == 0 {
		return WatchResponse{}, false, nil
	}
	events, err := st.hub.s.events(ctx, w, records)
	if errors.Is(err, sqllog.ErrMissing) {
		st.hub.mu.Lock()
		live := w.state != canceled
		st.hub.cancelLocked(w)
		st.hub.mu.Unlock()
		return st.compacted(w), live, nil
	}
	if err != nil {
		return WatchResponse{}, false, err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.watchers[w.id] != w {
		return WatchResponse{}, false, nil
	}
	w.active = true
	return WatchResponse{WatchID: w.id, Revision: records[len(records)-1].mod, Events: events}, true, nil
}

// nextTick hands out periodic progress: to each watch that asked for it, is in
// step, has nothing queued, and had no event since the last tick.
func (st *WatchStream) nextTick(context.Context) (WatchResponse, bool, error) {
	st.mu.Lock()
	due := st.tick || len(st.ticking) > 0
	st.mu.Unlock()
	if !due {
		return WatchResponse{}, false, nil
	}
	h := st.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dispatchLocked()
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.tick {
		st.startTickLocked()
	}
	for len(st.ticking) > 0 {
		w := st.ticking[0]
		st.ticking = st.ticking[1:]
		if w.state == inStep && len(w.queue) == 0 && st.watchers[w.id] == w {
			return WatchResponse{WatchID: w.id, Revision: h.dispatched.Load()}, true, nil
		}
	}
	return WatchResponse{}, false, nil
}

func (st *WatchStream) startTickLocked() {
	st.tick = false
	st.ticking = st.ticking[:0]
	for _, w := range st.watchers {
		if w.req.ProgressNotify && !w.active {
			st.ticking = append(st.ticking, w)
		}
		w.active = false
	}
}
