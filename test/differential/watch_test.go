package differential

import (
	"context"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"
)

const (
	// watchTimeout bounds the wait for one answer on a watch stream.
	watchTimeout = 10 * time.Second
	// progressRetry is when an unanswered progress request is repeated: etcd drops it while a watch is not synced.
	progressRetry = 150 * time.Millisecond
)

// watchStream collects what a server sends on one watch stream and checks what must hold on every stream.
type watchStream struct {
	name   string
	stream pb.Watch_WatchClient
	closed chan struct{} // closed when the reader has ended

	mu            sync.Mutex
	changed       chan struct{} // closed and replaced whenever something below changes
	created       []*pb.WatchResponse
	canceled      []*pb.WatchResponse
	firstProgress int64                     // revision of the oldest one
	progress      int64                     // revision of the newest progress response for the whole stream
	events        map[int64][]*mvccpb.Event // per watch, in order, since the last take
	live          map[int64]bool            // created and not canceled
	floor         map[int64]int64           // per watch synced once: no event at or below it may come any more
	last          map[int64]int64           // per watch: revision of its last event
	open          map[int64]bool            // per watch: its last response said that a fragment follows
	faults        []string
	fragments     int   // responses that announced another one
	err           error // why the stream ended
}

func openWatch(ctx context.Context, c pb.WatchClient, name string, requireLeader bool) (*watchStream, error) {
	if requireLeader {
		ctx = metadata.AppendToOutgoingContext(ctx, rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
	}
	stream, err := c.Watch(ctx)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	w := &watchStream{
		name: name, stream: stream, closed: make(chan struct{}), changed: make(chan struct{}),
		events: map[int64][]*mvccpb.Event{}, live: map[int64]bool{}, floor: map[int64]int64{},
		last: map[int64]int64{}, open: map[int64]bool{},
	}
	go w.read()
	return w, nil
}

func (w *watchStream) read() {
	defer close(w.closed)
	for {
		resp, err := w.stream.Recv()
		w.mu.Lock()
		if err != nil {
			w.err = err
		} else {
			w.handleLocked(resp)
		}
		close(w.changed)
		w.changed = make(chan struct{})
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (w *watchStream) handleLocked(r *pb.WatchResponse) {
	id := r.WatchId
	if r.Header.GetClusterId() == 0 || r.Header.GetMemberId() == 0 {
		w.faultLocked("watch %d: a response without cluster or member id", id)
	}
	switch {
	case r.Created:
		w.created = append(w.created, r)
		if !r.Canceled {
			w.live[id] = true
			delete(w.floor, id)
			delete(w.last, id)
			delete(w.open, id)
		}
	case r.Canceled:
		w.canceled = append(w.canceled, r)
		delete(w.live, id)
	case len(r.Events) == 0:
		w.progressLocked(r)
		return
	}
	if len(r.Events) > 0 {
		w.eventsLocked(r)
	}
}

func (w *watchStream) progressLocked(r *pb.WatchResponse) {
	if r.Header.Revision < w.progress {
		w.faultLocked("progress went back from %d to %d", w.progress, r.Header.Revision)
	}
	if r.WatchId != -1 {
		return
	}
	w.progress = r.Header.Revision
	if w.firstProgress == 0 {
		w.firstProgress = w.progress
	}
	for id := range w.floor {
		w.floor[id] = max(w.floor[id], w.progress)
	}
}

// eventsLocked checks order and grouping: a revision is in one response, unless fragments were announced.
func (w *watchStream) eventsLocked(r *pb.WatchResponse) {
	id := r.WatchId
	last, known := w.last[id]
	for i, ev := range r.Events {
		rev := ev.Kv.ModRevision
		switch {
		case known && rev < last:
			w.faultLocked("watch %d: event of revision %d after one of %d", id, rev, last)
		case known && rev == last && i == 0 && !w.open[id]:
			w.faultLocked("watch %d: revision %d is split over two responses", id, rev)
		case rev <= w.floor[id]:
			w.faultLocked("watch %d: event of revision %d after progress to %d", id, rev, w.floor[id])
		}
		last, known = rev, true
	}
	if r.Header.Revision < last {
		w.faultLocked("watch %d: header revision %d is below the event's %d", id, r.Header.Revision, last)
	}
	w.last[id], w.open[id] = last, r.Fragment
	if r.Fragment {
		w.fragments++
	}
	w.events[id] = append(w.events[id], r.Events...)
}

func (w *watchStream) faultLocked(format string, args ...any) {
	w.faults = append(w.faults, w.name+": "+fmt.Sprintf(format, args...))
}

// await blocks until cond holds, the stream ends or d has passed; it reports whether cond held.
// cond is called with mu held.
func (w *watchStream) await(d time.Duration, cond func() bool) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		w.mu.Lock()
		ok, ended, changed := cond(), w.err != nil, w.changed
		w.mu.Unlock()
		if ok || ended {
			return ok
		}
		select {
		case <-changed:
		case <-timer.C:
			return false
		}
	}
}

func (w *watchStream) send(r *pb.WatchRequest) error {
	if err := w.stream.Send(r); err != nil {
		return fmt.Errorf("send on %s: %w", w.name, err)
	}
	return nil
}

// create sends a create request and returns the response that answers it.
func (w *watchStream) create(r *pb.WatchCreateRequest) (*pb.WatchResponse, error) {
	if err := w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}}); err != nil {
		return nil, err
	}
	var resp *pb.WatchResponse
	ok := w.await(watchTimeout, func() bool {
		if len(w.created) == 0 {
			return false
		}
		resp, w.created = w.created[0], w.created[1:]
		return true
	})
	if !ok {
		return nil, w.noAnswer("create request")
	}
	return resp, nil
}

// awaitCanceled returns the canceled response of the watch.
func (w *watchStream) awaitCanceled(id int64) (*pb.WatchResponse, error) {
	var resp *pb.WatchResponse
	ok := w.await(watchTimeout, func() bool {
		for i, r := range w.canceled {
			if r.WatchId == id {
				resp = r
				w.canceled = append(w.canceled[:i:i], w.canceled[i+1:]...)
				return true
			}
		}
		return false
	})
	if !ok {
		return nil, w.noAnswer(fmt.Sprintf("cancellation of watch %d", id))
	}
	return resp, nil
}

func (w *watchStream) cancel(id int64) error {
	cancel := &pb.WatchCancelRequest{WatchId: id}
	return w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: cancel}})
}

// sync asks for progress until the stream promises that every event up to rev was delivered.
func (w *watchStream) sync(rev int64) error {
	ask := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
	deadline := time.Now().Add(watchTimeout)
	for time.Now().Before(deadline) {
		if err := w.send(ask); err != nil {
			return err
		}
		if w.await(progressRetry, func() bool { return w.syncedLocked(rev) }) {
			return nil
		}
	}
	return w.noAnswer(fmt.Sprintf("progress request at revision %d", rev))
}

// syncedLocked says whether progress has reached rev, and if so holds every watch of the stream to it.
func (w *watchStream) syncedLocked(rev int64) bool {
	if w.progress < rev {
		return false
	}
	for id := range w.live {
		w.floor[id] = max(w.floor[id], w.progress)
	}
	return true
}

func (w *watchStream) noAnswer(what string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return fmt.Errorf("%s: stream ended: %w", w.name, w.err)
	}
	return fmt.Errorf("%s: no answer to %s within %s", w.name, what, watchTimeout)
}

// take returns and forgets the events of one watch, and the checks that failed on the stream.
func (w *watchStream) take(id int64) ([]*mvccpb.Event, []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	events, faults := w.events[id], w.faults
	delete(w.events, id)
	w.faults = nil
	return events, faults
}
