package mvcc

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// watchState is where a watcher stands (see doc.go).
type watchState int8

const (
	inStep watchState = iota
	behind
	canceled
)

// watcher is one watch of a stream.
type watcher struct {
	stream *WatchStream
	id     int64
	span   span
	req    WatchRequest

	// Under hub.mu. next is the first revision that was not handed to the stream,
	// for a watcher in step the first it wants.
	state watchState
	next  int64

	// Under WatchStream.mu.
	queue  []*record // in order; matched and not yet handed out
	dirty  bool      // in the stream's list of watchers with a queue
	active bool      // had an event since the last progress tick
}

// wants applies the filters; the index has matched the key.
func (w *watcher) wants(r *record) bool {
	if r.tombstone {
		return !w.req.NoDelete
	}
	return !w.req.NoPut
}

// takeLocked takes records off the queue, whole revisions, up to the dispatched
// one, until they fill a response.
func (w *watcher) takeLocked(dispatched int64) []*record {
	full := w.stream.hub.s.cfg.limits.responseBytes
	n, size := 0, 0
	for n < len(w.queue) && w.queue[n].mod <= dispatched {
		if size >= full && w.queue[n].mod != w.queue[n-1].mod {
			break
		}
		size += len(w.queue[n].entry.key) + int(w.queue[n].size)
		n++
	}
	taken := w.queue[:n:n]
	w.queue = w.queue[n:]
	if len(w.queue) == 0 {
		w.queue = nil
	}
	return taken
}

// catchUp reads one step of history for a watcher that is behind. It returns the
// records to hand out, of whole revisions; caughtUp says that the watcher is in
// step again, and compacted that it cannot go on.
func (h *hub) catchUp(w *watcher) (records []*record, caughtUp, compacted bool) {
	limits := &h.s.cfg.limits
	h.mu.Lock()
	defer h.mu.Unlock()
	if w.state != behind {
		return nil, true, false
	}
	if w.next < h.s.compacted.Load() {
		h.cancelLocked(w)
		return nil, false, true
	}
	dispatched := h.dispatched.Load()
	all := h.s.history.from(nil, w.next, dispatched, limits.catchUpRecords)
	size := 0
	for i, r := range all {
		if size >= limits.responseBytes && r.mod != all[i-1].mod {
			all = all[:i]
			break
		}
		if w.span.contains(r.entry.key) && w.wants(r) {
			records = append(records, r)
			size += len(r.entry.key) + int(r.size)
		}
	}
	w.next = dispatched + 1
	if len(all) > 0 {
		w.next = all[len(all)-1].mod + 1
	}
	if w.next > dispatched {
		w.state = inStep
		h.behind.Add(-1)
		return records, true, false
	}
	return records, false, false
}

func (h *hub) cancel(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cancelLocked(w)
}

// cancelLocked ends a watcher; hub.mu is held.
func (h *hub) cancelLocked(w *watcher) {
	if w.state == canceled {
		return
	}
	if w.state == behind {
		h.behind.Add(-1)
	}
	w.state = canceled
	h.index.remove(w)
}

// events builds the messages for records. errCompactedAway means that compaction
// has taken a value that was still to be handed out.
func (s *Store) events(ctx context.Context, w *watcher, records []*record) ([]*mvccpb.Event, error) {
	pin := s.pins.enter()
	defer s.pins.leave(pin)
	var prevs []*record // by event, nil for none
	if w.req.PrevKV {
		prevs = make([]*record, len(records))
		for i, r := range records {
			prevs[i] = s.previous(r)
		}
	}
	kvs, err := s.keyValues(ctx, records, false)
	if err != nil {
		return nil, err
	}
	messages := make([]mvccpb.Event, len(records))
	out := make([]*mvccpb.Event, len(records))
	for i, r := range records {
		ev := &messages[i]
		out[i] = ev
		ev.Kv = kvs[i]
		if r.tombstone {
			ev.Type = mvccpb.Event_DELETE
		}
		if prevs != nil && prevs[i] != nil {
			switch ev.PrevKv, err = s.keyValue(ctx, prevs[i]); {
			case errors.Is(err, sqllog.ErrMissing): // compacted: as if it had never been
			case err != nil:
				return nil, err
			}
		}
	}
	return out, nil
}

// withoutReplaced leaves out the puts that the compacted revision itself has
// replaced: they are not part of what compaction keeps of it.
func (s *Store) withoutReplaced(records []*record) []*record {
	s.mu.Lock()
	defer s.mu.Unlock()
	compacted := s.compacted.Load()
	kept := make([]*record, 0, len(records))
	for _, r := range records {
		if r.mod != compacted || !r.dropped || r.tombstone {
			kept = append(kept, r)
		}
	}
	return kept
}

// previous gives the value that a change has replaced, nil if it created the key
// or the revision before it is compacted.
func (s *Store) previous(r *record) *record {
	if r.create == r.mod || r.mod-1 < s.compacted.Load() {
		return nil
	}
	p := r.prev.Load()
	for p != nil && p.mod == r.mod {
		p = p.prev.Load()
	}
	if p == nil || p.tombstone {
		return nil
	}
	return p
}
