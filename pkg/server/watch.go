package server

import (
	"context"
	"errors"
	"io"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/kinsy/kinsy/pkg/mvcc"
)

// watchServer is etcd's Watch service.
type watchServer struct {
	*Server
	pb.UnsafeWatchServer
}

var _ pb.WatchServer = (*watchServer)(nil)

// Watch runs one watch stream until the client leaves, the server stops or a
// required leader is lost. A client that only closed its sending side goes on
// receiving.
func (s *watchServer) Watch(stream pb.Watch_WatchServer) error {
	ctx, cancel := s.streamContext(stream.Context())
	defer cancel(nil)
	w := &watchSession{
		Server: s.Server, stream: stream, engine: s.cfg.Watcher.NewWatchStream(),
		fragmented: make(map[int64]bool),
	}
	defer w.engine.Close()
	s.metrics.watchStreams.Add(1)
	defer s.metrics.watchStreams.Add(-1)

	s.spawn(func() { w.receive(cancel) })
	return w.endError(ctx, w.deliver(ctx))
}

// watchSession is one Watch RPC. receive and deliver run concurrently.
type watchSession struct {
	*Server
	stream pb.Watch_WatchServer
	engine WatchStream

	// mu guards wantFragments: the Fragment flag of each Create whose
	// `created` response deliver has not seen yet, in order.
	mu            sync.Mutex
	wantFragments []bool

	// fragmented belongs to deliver: the watches with the Fragment flag.
	fragmented map[int64]bool
}

// receive handles client requests until the stream ends. It returns once the
// handler has, at the latest.
func (w *watchSession) receive(cancel context.CancelCauseFunc) {
	defer func() {
		if p := recover(); p != nil {
			cancel(w.recovered("Watch/Watch", p))
		}
	}()
	for {
		req, err := w.stream.Recv()
		if errors.Is(err, io.EOF) {
			return
		}
		if err == nil {
			err = w.handle(req)
		}
		if err != nil {
			cancel(err)
			return
		}
	}
}

// handle does what one request asks for. Requests of an unknown kind are
// passed over, as etcd does; an error ends the stream.
func (w *watchSession) handle(req *pb.WatchRequest) error {
	switch v := req.RequestUnion.(type) {
	case *pb.WatchRequest_CreateRequest:
		if v.CreateRequest != nil {
			return w.create(v.CreateRequest)
		}
	case *pb.WatchRequest_CancelRequest:
		if v.CancelRequest != nil {
			// An unknown id is no error for the client: it gets no answer.
			_ = w.engine.Cancel(v.CancelRequest.WatchId)
		}
	case *pb.WatchRequest_ProgressRequest:
		w.engine.Progress()
	}
	return nil
}

func (w *watchSession) create(r *pb.WatchCreateRequest) error {
	w.mu.Lock()
	w.wantFragments = append(w.wantFragments, r.Fragment)
	w.mu.Unlock()
	// A refused watch has its answer queued; only a closed stream has none.
	if _, err := w.engine.Create(watchRequest(r)); errors.Is(err, mvcc.ErrClosed) {
		return toGRPC(err)
	}
	return nil
}

// watchRequest translates key ranges: no key is the smallest one, no end a
// single key, and the end "\x00" everything from the key on.
func watchRequest(r *pb.WatchCreateRequest) WatchRequest {
	q := WatchRequest{
		ID: r.WatchId, Key: r.Key, StartRevision: r.StartRevision,
		PrevKV: r.PrevKv, ProgressNotify: r.ProgressNotify,
	}
	if len(q.Key) == 0 {
		q.Key = []byte{0}
	}
	switch {
	case len(r.RangeEnd) == 1 && r.RangeEnd[0] == 0:
		q.FromKey = true
	case len(r.RangeEnd) > 0:
		q.End = r.RangeEnd
	}
	for _, f := range r.Filters {
		switch f {
		case pb.WatchCreateRequest_NOPUT:
			q.NoPut = true
		case pb.WatchCreateRequest_NODELETE:
			q.NoDelete = true
		}
	}
	return q
}

// deliver sends what the engine has, in order, until one of the two fails.
func (w *watchSession) deliver(ctx context.Context) error {
	for {
		resp, err := w.engine.Next(ctx)
		if err != nil {
			return err
		}
		if resp.Created {
			w.noteCreated(resp)
		}
		out := w.response(&resp)
		if w.fragmented[resp.WatchID] && len(resp.Events) > 1 {
			err = sendFragments(out, w.cfg.MaxRequestBytes+overheadBytes, w.stream.Send)
		} else {
			err = w.stream.Send(out)
		}
		if err != nil {
			return err
		}
		w.metrics.watchEvents.Add(uint64(len(resp.Events)))
		if resp.Canceled {
			delete(w.fragmented, resp.WatchID)
		}
	}
}

// noteCreated takes the Fragment flag that belongs to a `created` response.
func (w *watchSession) noteCreated(resp WatchResponse) {
	w.mu.Lock()
	fragment := len(w.wantFragments) > 0 && w.wantFragments[0]
	if len(w.wantFragments) > 0 {
		w.wantFragments = w.wantFragments[1:]
	}
	w.mu.Unlock()
	if fragment && !resp.Canceled {
		w.fragmented[resp.WatchID] = true
	}
}

func (w *watchSession) response(r *WatchResponse) *pb.WatchResponse {
	return &pb.WatchResponse{
		Header:          w.headerAt(r.Revision),
		WatchId:         r.WatchID,
		Created:         r.Created,
		Canceled:        r.Canceled,
		CancelReason:    r.CancelReason,
		CompactRevision: r.CompactRevision,
		Events:          r.Events,
	}
}

// endError says how the stream ended: the client left, somebody ended it with a
// reason, or the engine failed.
func (w *watchSession) endError(ctx context.Context, err error) error {
	switch {
	case errors.Is(w.stream.Context().Err(), context.Canceled):
		return rpctypes.ErrGRPCWatchCanceled
	case ctx.Err() != nil:
		return toGRPC(context.Cause(ctx))
	}
	return toGRPC(err)
}
