package mvcc

import (
	"sync"
	"sync/atomic"
	"time"
)

// hub matches committed records with the watchers that are in step. Every
// watcher is in the index until it is canceled; its state decides whether a
// match is offered to it.
type hub struct {
	s *Store

	// mu guards the index, the streams, and the state and next of every watcher.
	mu      sync.Mutex
	index   *watchIndex
	streams map[*WatchStream]struct{}
	buf     []*record
	touched []*WatchStream // given something since the last signal
	closed  bool

	// dispatched is the revision up to which all records were matched. Streams
	// hand out queued records up to it only, so that no revision is split. It is
	// changed under mu.
	dispatched atomic.Int64

	behind atomic.Int64 // watchers behind
	wake   chan struct{}
	stop   chan struct{}
	done   sync.WaitGroup
}

func newHub(s *Store) *hub {
	h := &hub{
		s: s, index: newWatchIndex(), streams: map[*WatchStream]struct{}{},
		wake: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	h.dispatched.Store(s.committed.Load())
	return h
}

func (h *hub) start() {
	h.done.Go(h.run)
	if h.s.cfg.ProgressInterval > 0 {
		h.done.Go(h.tick)
	}
}

// notify tells that the committed revision has moved.
func (h *hub) notify() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *hub) run() {
	for {
		select {
		case <-h.stop:
			return
		case <-h.wake:
		}
		for more := true; more; {
			h.mu.Lock()
			more = h.dispatchSomeLocked()
			h.mu.Unlock()
		}
	}
}

// tick tells the streams when periodic progress is due.
func (h *hub) tick() {
	ticker := time.NewTicker(h.s.cfg.ProgressInterval)
	defer ticker.Stop()
	for {
		select {
		case <-h.stop:
			return
		case <-ticker.C:
		}
		h.mu.Lock()
		for st := range h.streams {
			st.progressTick()
		}
		h.mu.Unlock()
	}
}

func (h *hub) dispatch() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dispatchLocked()
}

// dispatchLocked matches everything that is committed.
func (h *hub) dispatchLocked() {
	for h.dispatchSomeLocked() {
	}
}

// dispatchSomeLocked matches some records and reports whether there may be more.
func (h *hub) dispatchSomeLocked() bool {
	committed, from := h.s.committed.Load(), h.dispatched.Load()
	if from >= committed {
		return false
	}
	if h.index.n > 0 {
		h.buf = h.s.history.from(h.buf[:0], from+1, committed, h.s.cfg.limits.dispatchRecords)
	}
	for _, r := range h.buf {
		h.index.match(r.entry.key, func(w *watcher) { h.offerLocked(w, r) })
	}
	reached := committed
	if len(h.buf) > 0 {
		reached = h.buf[len(h.buf)-1].mod
	}
	clear(h.buf)
	h.buf = h.buf[:0]
	h.dispatched.Store(reached)
	for _, st := range h.touched {
		st.touched = false
		st.wakeUp()
	}
	clear(h.touched)
	h.touched = h.touched[:0]
	return reached < committed
}

// offerLocked queues a record for a watcher in step, or, where its queue is
// full, leaves the watcher behind.
func (h *hub) offerLocked(w *watcher, r *record) {
	if w.state != inStep || r.mod < w.next || !w.wants(r) {
		return
	}
	if !w.stream.offer(w, r) {
		w.state, w.next = behind, r.mod
		h.behind.Add(1)
	}
	if !w.stream.touched {
		w.stream.touched = true
		h.touched = append(h.touched, w.stream)
	}
}

func (h *hub) close() {
	h.mu.Lock()
	already := h.closed
	h.closed = true
	streams := make([]*WatchStream, 0, len(h.streams))
	for st := range h.streams {
		streams = append(streams, st)
	}
	h.mu.Unlock()
	if already {
		return
	}
	close(h.stop)
	h.done.Wait()
	for _, st := range streams {
		st.Close()
	}
}
