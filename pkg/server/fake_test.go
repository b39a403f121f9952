package server

import (
	"context"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/mvcc"
)

// fakeEngine answers every call at once, at revision 7, and lets a test
// replace single answers. It keeps no keys.
type fakeEngine struct {
	mu     sync.Mutex
	status Status
	lastTx *pb.TxnRequest

	onRange     func(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error)
	onStream    func(context.Context, func(*pb.RangeStreamResponse) error) error
	onTxn       func(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error)
	onKeepAlive func(context.Context, int64) (int64, error)
	fail        error // what every other call returns

	streams chan *fakeStream // every watch stream that was opened
}

const fakeRevision = 7

var (
	_ KV      = (*fakeEngine)(nil)
	_ Lessor  = (*fakeEngine)(nil)
	_ Watcher = (*fakeEngine)(nil)
	_ Admin   = (*fakeEngine)(nil)
)

func newFakeEngine() *fakeEngine {
	return &fakeEngine{
		status:  Status{Healthy: true, Revision: fakeRevision, DBSize: 4096, DBSizeInUse: 1024},
		streams: make(chan *fakeStream, 16),
	}
}

func (f *fakeEngine) header() *pb.ResponseHeader { return &pb.ResponseHeader{Revision: fakeRevision} }

func (f *fakeEngine) setStatus(st Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status = st
}

func (f *fakeEngine) lastTxn() *pb.TxnRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lastTx
}

func (f *fakeEngine) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	if f.onRange != nil {
		return f.onRange(ctx, r)
	}
	return &pb.RangeResponse{Header: f.header()}, f.fail
}

func (f *fakeEngine) RangeStream(
	ctx context.Context, _ *pb.RangeRequest, send func(*pb.RangeStreamResponse) error,
) error {
	if f.onStream != nil {
		return f.onStream(ctx, send)
	}
	if f.fail != nil {
		return f.fail
	}
	return send(&pb.RangeStreamResponse{RangeResponse: &pb.RangeResponse{Header: f.header()}})
}

func (f *fakeEngine) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	f.mu.Lock()
	f.lastTx = r
	f.mu.Unlock()
	if f.onTxn != nil {
		return f.onTxn(ctx, r)
	}
	if f.fail != nil {
		return nil, f.fail
	}
	resp := &pb.TxnResponse{Header: f.header(), Succeeded: true}
	for _, op := range r.Success {
		resp.Responses = append(resp.Responses, fakeAnswer(op))
	}
	return resp, nil
}

func fakeAnswer(op *pb.RequestOp) *pb.ResponseOp {
	switch op.Request.(type) {
	case *pb.RequestOp_RequestPut:
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{}}}
	case *pb.RequestOp_RequestDeleteRange:
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseDeleteRange{
			ResponseDeleteRange: &pb.DeleteRangeResponse{Deleted: 3},
		}}
	}
	return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: &pb.RangeResponse{}}}
}

func (f *fakeEngine) Compact(context.Context, int64, bool) (int64, error) {
	return fakeRevision, f.fail
}

func (f *fakeEngine) HashKV(_ context.Context, rev int64) (*pb.HashKVResponse, error) {
	return &pb.HashKVResponse{Header: f.header(), Hash: 42, HashRevision: rev}, f.fail
}

func (f *fakeEngine) LeaseGrant(_ context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	return &pb.LeaseGrantResponse{Header: f.header(), ID: r.ID, TTL: r.TTL}, f.fail
}

func (f *fakeEngine) LeaseRevoke(context.Context, *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	return &pb.LeaseRevokeResponse{}, f.fail
}

func (f *fakeEngine) LeaseKeepAlive(ctx context.Context, id int64) (int64, error) {
	if f.onKeepAlive != nil {
		return f.onKeepAlive(ctx, id)
	}
	return 10, f.fail
}

func (f *fakeEngine) LeaseTimeToLive(
	_ context.Context, r *pb.LeaseTimeToLiveRequest,
) (*pb.LeaseTimeToLiveResponse, error) {
	return &pb.LeaseTimeToLiveResponse{ID: r.ID, TTL: 5}, f.fail
}

func (f *fakeEngine) LeaseLeases(context.Context) (*pb.LeaseLeasesResponse, error) {
	return &pb.LeaseLeasesResponse{Leases: []*pb.LeaseStatus{{ID: 1}}}, f.fail
}

func (f *fakeEngine) Revision() int64 { return fakeRevision }

func (f *fakeEngine) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

func (f *fakeEngine) Hash(context.Context) (uint32, error) { return 99, f.fail }

func (f *fakeEngine) Defragment(context.Context) error { return f.fail }

func (f *fakeEngine) NewWatchStream() WatchStream {
	s := &fakeStream{changed: make(chan struct{}, 1), used: make(map[int64]WatchRequest), closed: make(chan struct{})}
	f.streams <- s
	return s
}

// fakeStream queues what Create and Cancel must queue, and what a test pushes.
type fakeStream struct {
	mu      sync.Mutex
	queue   []WatchResponse
	used    map[int64]WatchRequest
	changed chan struct{}
	closed  chan struct{}
	refuse  error // what Create returns without queueing anything
	explode bool  // Create panics
}

func (s *fakeStream) push(r ...WatchResponse) {
	s.mu.Lock()
	s.queue = append(s.queue, r...)
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *fakeStream) Create(r WatchRequest) (int64, error) {
	if s.explode {
		panic("create")
	}
	if s.refuse != nil {
		return mvcc.NoWatch, s.refuse
	}
	s.mu.Lock()
	for id := int64(0); r.ID == 0; id++ {
		if _, ok := s.used[id]; !ok {
			r.ID = id
			break
		}
	}
	_, twice := s.used[r.ID]
	if !twice {
		s.used[r.ID] = r
	}
	s.mu.Unlock()
	if twice {
		s.push(WatchResponse{
			WatchID: mvcc.NoWatch, Revision: fakeRevision, Created: true, Canceled: true,
			CancelReason: mvcc.ErrWatchIDInUse.Error(),
		})
		return mvcc.NoWatch, mvcc.ErrWatchIDInUse
	}
	s.push(WatchResponse{WatchID: r.ID, Revision: fakeRevision, Created: true})
	return r.ID, nil
}

func (s *fakeStream) Cancel(id int64) error {
	s.mu.Lock()
	_, ok := s.used[id]
	delete(s.used, id)
	s.mu.Unlock()
	if !ok {
		return context.Canceled
	}
	s.push(WatchResponse{WatchID: id, Revision: fakeRevision, Canceled: true})
	return nil
}

func (s *fakeStream) Progress() {
	s.push(WatchResponse{WatchID: mvcc.NoWatch, Revision: fakeRevision})
}

func (s *fakeStream) Next(ctx context.Context) (WatchResponse, error) {
	for {
		s.mu.Lock()
		if len(s.queue) > 0 {
			r := s.queue[0]
			s.queue = s.queue[1:]
			s.mu.Unlock()
			return r, nil
		}
		s.mu.Unlock()
		select {
		case <-s.changed:
		case <-ctx.Done():
			return WatchResponse{}, ctx.Err()
		}
	}
}

func (s *fakeStream) Close() { close(s.closed) }
