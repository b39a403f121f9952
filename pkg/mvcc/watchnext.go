package mvcc

import (
	"context"
	"errors"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Next gives the next response. It blocks until there is one, ctx ends, or the
// stream is closed (ErrClosed).
func (st *WatchStream) Next(ctx context.Context) (WatchResponse, error) {
	for {
		select {
		case <-st.closed:
			return WatchResponse{}, ErrClosed
		default:
		}
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
// queue holds, then what an earlier call has failed to hand out, answers to
// progress requests, events that were dispatched, history for watches that are
// behind, progress again, since that may have come without an event, and
// periodic progress.
func (st *WatchStream) poll(ctx context.Context) (WatchResponse, bool, error) {
	for _, source := range []func(context.Context) (WatchResponse, bool, error){
		st.nextControl, st.nextUnsent, st.nextProgress, st.nextDispatched, st.nextHistory, st.nextProgress, st.nextTick,
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
	<-st.room
	return resp, true, nil
}

func (st *WatchStream) nextUnsent(ctx context.Context) (WatchResponse, bool, error) {
	left := st.unsent
	if left.w == nil {
		return WatchResponse{}, false, nil
	}
	st.unsent = unsent{}
	return st.respond(ctx, left.w, left.records)
}

// nextProgress answers a request once everything up to its revision was handed
// out. As in etcd there is no answer for a stream without watches, nor while one
// of them is to start at a later revision: a client that resumed from the answer
// would start too early.
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
	reached := h.dispatched.Load()
	if !st.startedLocked(reached) {
		st.progress = nil
		return WatchResponse{}, false, nil
	}
	for _, w := range st.dirty {
		if len(w.queue) > 0 {
			reached = min(reached, w.queue[0].mod-1)
		}
	}
	for _, w := range st.behind {
		if w.state == behind {
			reached = min(reached, w.next-1)
		}
	}
	if reached < st.progress[0] {
		return WatchResponse{}, false, nil
	}
	st.progress = st.progress[1:]
	return WatchResponse{WatchID: NoWatch, Revision: reached}, true, nil
}

// startedLocked tells whether the stream has watches and all have begun at rev.
func (st *WatchStream) startedLocked(rev int64) bool {
	for _, w := range st.watchers {
		if w.req.StartRevision > rev {
			return false
		}
	}
	return len(st.watchers) > 0
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
// take turns. There is none while an answer to Create waits, which must come
// before the events of its watch.
func (st *WatchStream) takeDispatched() (*watcher, []*record) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.control) > 0 {
		return nil, nil
	}
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
			if resp, ok := st.compacted(w); ok {
				return resp, true, nil
			}
			continue
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
// queue: what they have queued comes before their history. As takeDispatched it
// lets answers to Create go first.
func (st *WatchStream) takeBehind() *watcher {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.control) > 0 {
		return nil
	}
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

// compacted ends a watch that compaction has overtaken. There is no response if
// the client has canceled the watch meanwhile. As in etcd its id stays taken
// until the client cancels it.
func (st *WatchStream) compacted(w *watcher) (WatchResponse, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.watchers[w.id] != w {
		return WatchResponse{}, false
	}
	w.queue = nil
	return WatchResponse{
		WatchID: w.id, Revision: st.hub.dispatched.Load(), Canceled: true, CompactRevision: st.hub.s.compacted.Load(),
	}, true
}

// respond builds the response for records. There is none if they are empty, or
// if the watch was canceled meanwhile. After an error the next call begins with
// the same records.
func (st *WatchStream) respond(ctx context.Context, w *watcher, records []*record) (WatchResponse, bool, error) {
	if len(records) == 0 {
		return WatchResponse{}, false, nil
	}
	events, err := st.hub.s.events(ctx, w, records)
	if errors.Is(err, sqllog.ErrMissing) {
		if kept := st.hub.s.withoutReplaced(records); len(kept) < len(records) {
			return st.respond(ctx, w, kept)
		}
		st.hub.cancel(w)
		resp, ok := st.compacted(w)
		return resp, ok, nil
	}
	if err != nil {
		st.unsent = unsent{w: w, records: records}
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
	if len(st.control) > 0 {
		return WatchResponse{}, false, nil
	}
	if st.tick {
		st.startTickLocked()
	}
	for len(st.ticking) > 0 {
		w := st.ticking[0]
		st.ticking = st.ticking[1:]
		reached := h.dispatched.Load()
		if w.state == inStep && len(w.queue) == 0 && st.watchers[w.id] == w && w.req.StartRevision <= reached {
			return WatchResponse{WatchID: w.id, Revision: reached}, true, nil
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
