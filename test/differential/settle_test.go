package differential

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// mark moves the head by one, so that progress up to it cannot have been promised before.
func (r *runner) mark() error {
	r.markers++
	value := fmt.Appendf(nil, "%d", r.markers)
	return r.call(kindCall, &pb.PutRequest{Key: []byte(markerKey), Value: value})
}

// progressable says whether etcd would answer a progress request on the stream, once its watches are synced.
func (r *runner) progressable(stream int) bool {
	for _, w := range r.watches[stream] {
		if w.StartRevision > r.head {
			return false
		}
	}
	return true
}

// settle waits until all watches have received everything and compares their events.
func (r *runner) settle() error {
	if err := r.mark(); err != nil {
		return err
	}
	for stream := range r.watches {
		if err := r.settleStream(stream); err != nil {
			return err
		}
	}
	return nil
}

// settleStream compares the events of one stream; the head must have moved since the last progress on it.
func (r *runner) settleStream(stream int) error {
	ready := r.progressable(stream)
	if ready && len(r.watches[stream]) > 0 {
		err := r.each(func(_ int, p *peer) error { return p.streams[stream].sync(r.head) })
		if err != nil {
			return fmt.Errorf("%w%s", err, r.deaths())
		}
	}
	for _, id := range r.watchIDs(stream) {
		if ready || stream == streamNever {
			if err := r.compareWatch(stream, id); err != nil {
				return err
			}
		}
	}
	if ready {
		r.settled[stream] = r.head
	}
	return r.each(func(_ int, p *peer) error { return p.streams[stream].leftovers() })
}

func (r *runner) compareWatch(stream int, id int64) error {
	var lists [2]*pb.WatchResponse
	err := r.each(func(i int, p *peer) error {
		events, faults := p.streams[stream].take(id)
		lists[i] = eventList(id, events)
		errs := make([]error, 0, len(faults))
		for _, f := range faults {
			errs = append(errs, errors.New(f))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return err
	}
	r.tally["events"] += len(lists[0].Events)
	if !proto.Equal(lists[0], lists[1]) {
		return fmt.Errorf("events of watch %d on stream %d differ; the watch is {%s}\n%s",
			id, stream, text(r.watches[stream][id]), describe(lists[0], lists[1]))
	}
	return nil
}

// leftovers reports answers that nobody asked for.
func (w *watchStream) leftovers() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range append(w.created, w.canceled...) {
		return fmt.Errorf("%s: unexpected response {%s}", w.name, text(r))
	}
	return nil
}

// watch creates a watch and compares the answer, and the cancellation if the start is compacted.
func (r *runner) watch(stream int, req *pb.WatchCreateRequest) error {
	resp, err := r.watchAnswers(func(w *watchStream) (*pb.WatchResponse, error) {
		return w.create(proto.Clone(req).(*pb.WatchCreateRequest))
	}, stream)
	if err != nil || resp.Canceled {
		return err
	}
	id := resp.WatchId
	r.watches[stream][id] = req
	if req.StartRevision <= 0 || req.StartRevision >= r.compacted {
		return nil
	}
	if _, err := r.watchAnswers(func(w *watchStream) (*pb.WatchResponse, error) {
		c, err := w.awaitCanceled(id)
		if err == nil {
			c.Header.Revision = 0 // etcd gives none here
		}
		return c, err
	}, stream); err != nil {
		return err
	}
	// etcd keeps the id until the client cancels it, and answers no progress request on the stream till then.
	return r.cancelNow(stream, id)
}

// watchAnswers compares one control response of both servers and returns etcd's.
func (r *runner) watchAnswers(f func(*watchStream) (*pb.WatchResponse, error), stream int) (*pb.WatchResponse, error) {
	var out [2]outcome
	err := r.each(func(i int, p *peer) error {
		resp, err := f(p.streams[stream])
		if err != nil {
			return err
		}
		out[i].resp = resp
		return p.checkHeader(resp.Header, &r.ids[i])
	})
	if err != nil {
		return nil, fmt.Errorf("%w%s", err, r.deaths())
	}
	if diff := compare(out[0], out[1]); diff != "" {
		return nil, fmt.Errorf("watch responses on stream %d differ\n%s", stream, diff)
	}
	resp := out[0].resp.(*pb.WatchResponse)
	r.tally[fmt.Sprintf("watch created=%t canceled=%t compacted=%t", resp.Created, resp.Canceled, resp.CompactRevision > 0)]++
	return resp, nil
}

// cancel cancels a watch whose events have all arrived. A watch id that is not in use must not be answered.
func (r *runner) cancel(stream int, id int64) error {
	if _, known := r.watches[stream][id]; !known {
		return r.each(func(_ int, p *peer) error { return p.streams[stream].cancel(id) })
	}
	if err := r.mark(); err != nil {
		return err
	}
	if !r.progressable(stream) && stream != streamNever {
		return nil
	}
	if err := r.settleStream(stream); err != nil {
		return err
	}
	return r.cancelNow(stream, id)
}

func (r *runner) cancelNow(stream int, id int64) error {
	delete(r.watches[stream], id)
	_, err := r.watchAnswers(func(w *watchStream) (*pb.WatchResponse, error) {
		if err := w.cancel(id); err != nil {
			return nil, err
		}
		return w.awaitCanceled(id)
	}, stream)
	return err
}

// restart ends both servers and starts them again, compares their state, and resumes the watches where they were
// last compared.
func (r *runner) restart(k kind) error {
	err := r.each(func(_ int, p *peer) error {
		if k == kindKill {
			p.kill()
		} else if p.etcd {
			p.disconnect() // etcd waits seconds for open streams; kinsy must not
		}
		err := p.stop()
		p.disconnect()
		if err != nil {
			return err
		}
		if err := p.start(); err != nil {
			return err
		}
		return p.connect(streamCount)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", k, err)
	}
	clear(r.kept)
	if err := r.state(); err != nil {
		return fmt.Errorf("after %s: %w", k, err)
	}
	return r.resumeWatches()
}

func (r *runner) resumeWatches() error {
	old := r.watches
	r.forgetWatches()
	for stream, watches := range old {
		for _, id := range slices.Sorted(maps.Keys(watches)) {
			req := proto.Clone(watches[id]).(*pb.WatchCreateRequest)
			req.WatchId = 0
			req.StartRevision = max(req.StartRevision, r.settled[stream]+1)
			if err := r.watch(stream, req); err != nil {
				return fmt.Errorf("resume a watch: %w", err)
			}
		}
	}
	return nil
}
