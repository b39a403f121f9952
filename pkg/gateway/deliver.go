package gateway

import (
	"math"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/server"
)

// delivery is what the goroutine that sends frames knows.
type delivery struct {
	byID    map[int64]*watch
	pending merger
	// asking: a progress request of this goroutine's is under way, after which
	// pending can go out; notify: its answer goes to the client too.
	asking, notify bool
	// safe is the revision up to which the client has all events of all watches.
	safe int64
}

func newDelivery() delivery { return delivery{byID: make(map[int64]*watch)} }

// deliver sends what the engine has until the session, or the engine, ends.
func (s *session) deliver() error {
	for {
		resp, err := s.engine.Next(s.ctx)
		if err != nil {
			return err
		}
		if err := s.respond(&resp); err != nil {
			return err
		}
	}
}

func (s *session) respond(r *server.WatchResponse) error {
	switch {
	case r.Created:
		return s.created(r)
	case r.Canceled:
		return s.canceled(r)
	case len(r.Events) > 0:
		return s.events(r)
	case r.WatchID == mvcc.NoWatch:
		return s.reached(r.Revision)
	}
	// A progress_notify is due for one watch; the answer is for all.
	s.notify = true
	s.ask()
	return nil
}

// ask has the engine say up to where it has handed out everything.
func (s *session) ask() {
	if !s.asking {
		s.asking = true
		s.engine.Progress()
	}
}

func (s *session) created(r *server.WatchResponse) error {
	s.mu.Lock()
	w := s.asked[0]
	s.asked = s.asked[1:]
	if r.Canceled {
		delete(s.names, w.name)
	} else {
		s.active++
		w.id = r.WatchID
	}
	first, echo := s.active == 1, w.echo
	s.mu.Unlock()
	b := appendHeader([]byte(`{"result":{`), r.Revision)
	b = appendWatchID(b, echo)
	if r.Canceled {
		b = append(b, `,"canceled":true,"cancel_reason":`...)
		return s.write(append(appendText(b, r.CancelReason), "}}"...))
	}
	s.byID[r.WatchID] = w
	begin := r.Revision
	if w.start > 0 {
		begin = min(begin, w.start-1)
	}
	if first {
		s.safe = begin
	}
	s.safe = min(s.safe, begin)
	return s.write(append(b, `,"created":true}}`...))
}

func (s *session) canceled(r *server.WatchResponse) error {
	w := s.byID[r.WatchID]
	if w == nil {
		return nil
	}
	delete(s.byID, r.WatchID)
	overrun := r.CompactRevision != 0
	s.mu.Lock()
	if overrun {
		s.overrun = append(s.overrun, r.WatchID)
		if s.names[w.name] == w {
			delete(s.names, w.name)
		}
	}
	s.active--
	var wants []int64
	if s.active == 0 { // the engine answers no progress any more
		wants, s.wants = s.wants, nil
		s.asking, s.notify = false, false
	}
	echo := w.echo
	s.mu.Unlock()
	if err := s.send(s.pending.take(math.MaxInt64), false); err != nil {
		return err
	}
	for range wants {
		if err := s.write(progressFrame(s.g.cfg.Watcher.Revision())); err != nil {
			return err
		}
	}
	b := appendHeader([]byte(`{"result":{`), r.Revision)
	b = appendWatchID(b, echo)
	b = append(b, `,"canceled":true`...)
	if overrun {
		b = append(b, `,"cancel_reason":`...)
		b = appendText(b, rpctypes.ErrCompacted.Error())
		b = append(b, `,"compact_revision":`...)
		b = appendInt(b, r.CompactRevision)
	}
	return s.write(append(b, "}}"...))
}

// events sends the events of a watch that is alone; with several watches it keeps
// them until those of the others are there.
func (s *session) events(r *server.WatchResponse) error {
	w := s.byID[r.WatchID]
	if w == nil {
		return nil
	}
	events := r.Events
	if w.from > 0 {
		events = slices.DeleteFunc(events, func(e *mvccpb.Event) bool { return e.Kv.ModRevision < w.from })
	}
	if len(events) == 0 {
		return nil
	}
	s.mu.Lock()
	alone := s.active == 1 && len(s.asked) == 0
	s.mu.Unlock()
	if alone && s.pending.empty() {
		s.safe = max(s.safe, events[len(events)-1].Kv.ModRevision)
		return s.send(split(events), true)
	}
	for _, e := range events {
		s.pending.add(e)
	}
	s.ask()
	if s.pending.bytes <= s.g.cfg.mergeBytes {
		return nil
	}
	return s.send(s.pending.take(math.MaxInt64), false)
}

// reached sends what is complete: all events up to a revision have been handed out.
func (s *session) reached(revision int64) error {
	s.asking = false
	s.safe = revision
	if err := s.send(s.pending.take(revision), true); err != nil {
		return err
	}
	s.mu.Lock()
	answers := 0
	for answers < len(s.wants) && s.wants[answers] <= revision {
		answers++
	}
	s.wants = s.wants[answers:]
	s.mu.Unlock()
	if s.notify && answers == 0 {
		answers = 1
	}
	s.notify = false
	if !s.pending.empty() {
		s.ask()
	}
	for range answers {
		if err := s.write(progressFrame(revision)); err != nil {
			return err
		}
	}
	return nil
}

// send writes frames. The header of each says from where the client may resume: its
// own revision if all before it was sent, else the last one of which that is known.
func (s *session) send(frames []*frame, complete bool) error {
	for _, f := range frames {
		header := f.revision
		if !complete {
			header = min(header, s.safe)
		}
		if err := s.write(eventFrame(header, f.events)); err != nil {
			return err
		}
		s.g.metrics.events.Add(float64(len(f.events)))
	}
	return nil
}

func eventFrame(revision int64, events []*mvccpb.Event) []byte {
	b := appendHeader([]byte(`{"result":{`), revision)
	b = append(b, `,"events":[`...)
	for i, e := range events {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendEvent(b, e)
	}
	return append(b, "]}}"...)
}

func progressFrame(revision int64) []byte {
	return append(appendHeader([]byte(`{"result":{`), revision), "}}"...)
}
