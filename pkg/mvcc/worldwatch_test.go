package mvcc

import (
	"context"
	"errors"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// worldStream is a watch stream, with what each of its watches must get.
type worldStream struct {
	*WatchStream
	watches map[int64]*worldWatch
	refused []error        // of Create; the answers are still to come
	gone    []int64        // canceled by the client; the answers are still to come
	over    map[int64]bool // ended by compaction; the id stays taken
	asked   []int64        // committed revisions when progress was asked for
	dropped bool           // a request may have had no answer since
}

type worldWatch struct {
	req     WatchRequest
	created bool
	pos     int64 // every event up to this revision was handed out
	ticked  bool  // periodic progress may come
}

func (w *world) stream() *worldStream {
	if n := len(w.streams); n > 0 && (n == 3 || w.chance(80)) {
		return w.streams[w.IntN(n)]
	}
	s := &worldStream{WatchStream: w.store.NewWatchStream(), watches: map[int64]*worldWatch{}, over: map[int64]bool{}}
	w.streams = append(w.streams, s)
	return s
}

func (w *world) stepWatch() {
	s := w.stream()
	req := WatchRequest{PrevKV: w.chance(50), NoPut: w.chance(10), NoDelete: w.chance(10), ProgressNotify: w.chance(50)}
	req.Key, req.End = w.span()
	if req.FromKey = len(req.End) == 1 && req.End[0] == 0; req.FromKey {
		req.End = nil
	}
	switch w.IntN(4) {
	case 0:
		req.StartRevision = max(1, w.com.rev()-w.Int64N(40))
	case 1:
		req.StartRevision = max(1, w.com.compacted+w.Int64N(3)-1)
	case 2:
		req.StartRevision = w.com.rev() + w.Int64N(5)
	}
	if w.chance(20) {
		req.ID = 1 + w.Int64N(5)
	}
	if w.chance(5) {
		req.StartRevision = -1
	}
	id, err := s.Create(req)
	if err != nil {
		if !errors.Is(err, ErrWatchIDInUse) && req.StartRevision >= 0 {
			w.Fatal(err)
		}
		if s.watches[req.ID] == nil && !s.over[req.ID] && req.StartRevision >= 0 {
			w.Fatalf("id %d is not in use", req.ID)
		}
		s.refused = append(s.refused, err)
		return
	}
	if s.watches[id] != nil || (req.ID != 0 && req.ID != id) {
		w.Fatalf("watch got id %d", id)
	}
	pos := req.StartRevision - 1
	if req.StartRevision == 0 {
		pos = w.com.rev()
	}
	s.watches[id] = &worldWatch{req: req, pos: pos, ticked: s.tick}
}

func (w *world) stepCancel() {
	s := w.stream()
	for _, id := range sortedIDs(s.watches) {
		if w.chance(20) {
			w.must(s.Cancel(id))
			delete(s.watches, id)
			s.gone = append(s.gone, id)
			return
		}
	}
	if err := s.Cancel(77); !errors.Is(err, ErrWatchNotFound) {
		w.Fatal(err)
	}
}

func sortedIDs(m map[int64]*worldWatch) []int64 {
	var ids []int64
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (w *world) stepCloseStream() {
	if len(w.streams) == 0 || w.chance(70) {
		return
	}
	i := w.IntN(len(w.streams))
	s := w.streams[i]
	w.streams = slices.Delete(w.streams, i, i+1)
	s.Close()
	if _, err := s.Next(context.Background()); !errors.Is(err, ErrClosed) {
		w.Fatal(err)
	}
}

func (w *world) stepDispatch() {
	w.store.hub.mu.Lock()
	defer w.store.hub.mu.Unlock()
	w.store.hub.dispatchSomeLocked()
}

func (w *world) stepProgress() {
	s := w.stream()
	s.Progress()
	s.asked = append(s.asked, w.com.rev())
	s.dropped = s.dropped || w.unstarted(s)
}

// unstarted tells whether the stream answers no progress request now.
func (w *world) unstarted(s *worldStream) bool {
	for _, x := range s.watches {
		if x.req.StartRevision > w.com.rev() {
			return true
		}
	}
	return len(s.watches) == 0
}

func (w *world) stepTick() {
	for _, s := range w.streams {
		s.progressTick()
		for _, x := range s.watches {
			x.ticked = true
		}
	}
}

// stepNext takes one response; sometimes the first attempt fails.
func (w *world) stepNext() { w.next(w.stream()) }

func (w *world) next(s *worldStream) bool {
	s.dropped = s.dropped || (len(s.asked) > 0 && w.unstarted(s))
	if w.chance(10) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if resp, ok, _ := s.poll(ctx); ok {
			w.response(s, resp)
			return true
		}
	}
	resp, ok, err := s.poll(context.Background())
	w.must(err)
	if ok {
		w.response(s, resp)
	}
	return ok
}

func (w *world) response(s *worldStream, r WatchResponse) {
	w.Helper()
	x := s.watches[r.WatchID]
	switch {
	case r.WatchID == NoWatch && r.Created:
		if !r.Canceled || len(s.refused) == 0 || r.CancelReason != cancelReason(s.refused[0]) {
			w.Fatalf("unexpected refusal %+v", r)
		}
		s.refused = s.refused[1:]
	case r.WatchID == NoWatch:
		w.progressed(s, r)
	case r.Canceled && r.CompactRevision == 0:
		if i := slices.Index(s.gone, r.WatchID); i == 0 {
			s.gone = s.gone[1:]
			return
		}
		w.Fatalf("unexpected cancel %+v, %v are to come", r, s.gone)
	case slices.Contains(s.gone, r.WatchID) && r.Created:
		// canceled before this was read
	case x == nil:
		w.Fatalf("response for no watch: %+v", r)
	case r.Created != !x.created && !x.created:
		w.Fatalf("before created: %+v", r)
	case r.Created:
		x.created = true
	case r.Canceled:
		if r.CompactRevision != w.com.compacted || x.pos+1 >= w.com.compacted {
			w.Fatalf("watch at %d canceled: %+v", x.pos, r)
		}
		delete(s.watches, r.WatchID)
		s.over[r.WatchID] = true
	case len(r.Events) > 0:
		w.delivered(x, r)
	default:
		if !x.ticked || !x.req.ProgressNotify {
			w.Fatalf("progress without a tick: %+v", r)
		}
		x.ticked = false
		w.promised(x, r.Revision)
	}
}

func (w *world) progressed(s *worldStream, r WatchResponse) {
	if len(s.asked) == 0 || r.Revision < s.asked[0] || r.Revision > w.com.rev() {
		w.Fatalf("progress %+v, asked at %v", r, s.asked)
	}
	s.asked = s.asked[1:]
	for _, x := range s.watches {
		w.promised(x, r.Revision)
	}
}

// promised checks that nothing is missing up to a revision.
func (w *world) promised(x *worldWatch, rev int64) {
	w.Helper()
	if rev <= x.pos {
		return
	}
	missing := slices.DeleteFunc(w.expected(x, rev), func(e expectation) bool { return e.optional })
	if len(missing) > 0 {
		w.Fatalf("progress to %d, but %+v lacks %v at %d", rev, x.req, missing[0].event.Kv, missing[0].event.Kv.ModRevision)
	}
	x.pos = rev
}

// expectation is an event that a watch must get, or may get if optional is set.
type expectation struct {
	event    *mvccpb.Event
	optional bool
}

// expected lists what a watch must get next, up to a revision.
func (w *world) expected(x *worldWatch, upTo int64) []expectation {
	var list []expectation
	for rev := max(x.pos+1, 1); rev <= min(upTo, w.com.rev()); rev++ {
		for _, e := range w.com.revs[rev-1].events {
			if (e.deleted && x.req.NoDelete) || (!e.deleted && x.req.NoPut) || !x.matches(string(e.kv.Key)) {
				continue
			}
			ev := &mvccpb.Event{Kv: e.kv}
			if e.deleted {
				ev.Type = mvccpb.Event_DELETE
			}
			if x.req.PrevKV && e.kv.CreateRevision != rev && rev-1 >= w.com.compacted && rev > 1 {
				ev.PrevKv = w.com.state(rev - 1)[string(e.kv.Key)]
			}
			list = append(list, expectation{event: ev, optional: e.replaced && !e.deleted && rev <= w.com.compacted})
		}
	}
	return list
}

func (x *worldWatch) matches(key string) bool {
	if x.req.FromKey {
		return key >= string(x.req.Key)
	}
	return inSpan(key, string(x.req.Key), string(x.req.End))
}

// delivered compares events with the next that the watch must get. Those of the
// last revision must all be there.
func (w *world) delivered(x *worldWatch, r WatchResponse) {
	last := r.Events[len(r.Events)-1].Kv.ModRevision
	want := w.expected(x, last)
	for _, ev := range r.Events {
		for len(want) > 0 && want[0].optional && !proto.Equal(want[0].event, ev) {
			want = want[1:]
		}
		if len(want) == 0 || !proto.Equal(want[0].event, ev) {
			w.Fatalf("watch %+v at %d got %v, want %+v", x.req, x.pos, ev, want)
		}
		want = want[1:]
	}
	if len(slices.DeleteFunc(want, func(e expectation) bool { return e.optional })) > 0 || r.Revision != last {
		w.Fatalf("watch %+v: %+v lacks %v", x.req, r, want)
	}
	x.pos = last
}

// drain reads every stream to its end: each watch then has everything.
func (w *world) drain() {
	w.store.hub.dispatch()
	for _, s := range w.streams {
		for w.next(s) {
		}
		if s.dropped {
			s.asked = nil
		}
		s.dropped = false
		if len(s.asked)+len(s.refused)+len(s.gone) > 0 {
			w.Fatalf("unanswered: progress %v, refused %v, canceled %v", s.asked, s.refused, s.gone)
		}
		for _, id := range sortedIDs(s.watches) {
			w.promised(s.watches[id], w.com.rev())
		}
	}
	if n := w.store.hub.behind.Load(); n != 0 {
		w.Fatalf("%d watches are counted as behind", n)
	}
}
