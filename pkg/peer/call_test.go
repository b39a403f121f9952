package peer

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/kinsy/kinsy/pkg/peer/peerpb"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// TestForward: many calls at once, each with its own answer, a lot in one message.
func TestForward(t *testing.T) {
	a, b := pair(t)
	ctx := within(t)
	if _, err := a.Forward(ctx, 2, grant(1)); err != nil { // opens the stream
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() {
			for j := range 10 {
				id := int64(i*10 + j + 1)
				r, err := a.Forward(ctx, b.cfg.Self, grant(id))
				if err != nil || r.GetLeaseGrant().GetID() != id || r.GetApplied() != 7 {
					t.Errorf("call %d: %v, %v", id, r, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestForwardBatches: what waits while the stream is busy goes into one message.
func TestForwardBatches(t *testing.T) {
	s := &callStream{wake: make(chan struct{}, 1), waiting: map[uint64]*call{}}
	queue := func(n int, body []byte) {
		for range n {
			if err := s.enqueue(&call{member: member{body: body}, done: make(chan struct{})}); err != nil {
				t.Fatal(err)
			}
		}
	}
	first := uint64(1)
	take := func(what string, want int) {
		t.Helper()
		b := &peerpb.CallBatch{}
		if err := proto.Unmarshal(*s.take(), b); err != nil {
			t.Fatal(err)
		}
		if len(b.Calls) != want {
			t.Fatalf("%s: %d calls", what, len(b.Calls))
		}
		for _, c := range b.Calls {
			if c.GetId() != first || c.GetForward().GetEpoch() != 9 {
				t.Fatalf("%s: %v", what, c)
			}
			first++
		}
	}
	body := mustEncode(&peerpb.Call{Call: &peerpb.Call_Forward{Forward: &peerpb.ForwardRequest{Epoch: 9}}})
	queue(batchCalls+10, body)
	take("the first batch", batchCalls)
	take("the second batch", 10)
	queue(3, append(body, mustEncode(&peerpb.Call{Call: &peerpb.Call_Forward{Forward: large(batchBytes)}})...))
	for range 3 {
		take("a large call", 1)
	}
	if s.take() != nil {
		t.Error("a batch of nothing")
	}
	queue(2, body)
	given, kept := s.queue[0], s.queue[1]
	s.giveUp(given, context.Canceled)
	wantErrors(t, "a call given up", given.err, ErrNotSent, context.Canceled)
	first++
	take("the other one", 1)
	s.giveUp(kept, context.Canceled)
	wantErrors(t, "a call given up after it was sent", kept.err, ErrUnknownOutcome)
	if s.take() == nil {
		t.Error("nobody is told")
	}
	queue(1, body)
	s.endAll(ErrClosed)
	if err := s.enqueue(&call{done: make(chan struct{})}); !errors.Is(err, ErrNotSent) {
		t.Errorf("a call after the end: %v", err)
	}
}

// large is a request of a size.
func large(size int) *peerpb.ForwardRequest {
	return &peerpb.ForwardRequest{Request: &peerpb.ForwardRequest_Txn{Txn: &pb.TxnRequest{Success: []*pb.RequestOp{{
		Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Value: make([]byte, size)}}}}}}}
}

func told(err error) *peerpb.ForwardResponse_Error {
	return &peerpb.ForwardResponse_Error{Error: encodeStatus(err)}
}

// TestForwardErrors: an error of the request is in the response, as it was told.
func TestForwardErrors(t *testing.T) {
	a, b := pair(t)
	b.h.forward = func(context.Context, *peerpb.ForwardRequest) *peerpb.ForwardResponse {
		return &peerpb.ForwardResponse{Response: told(rpctypes.ErrGRPCCompacted)}
	}
	r, err := a.Forward(within(t), 2, grant(1))
	if err != nil || decodeStatus(r.GetError()).Error() != rpctypes.ErrGRPCCompacted.Error() {
		t.Fatalf("%v, %v", r, err)
	}
	b.h.forward = func(context.Context, *peerpb.ForwardRequest) *peerpb.ForwardResponse { return nil }
	if r, err := a.Forward(within(t), 2, grant(1)); err != nil || r.GetError().GetCode() != uint32(codes.Unavailable) {
		t.Fatalf("no answer: %v, %v", r, err)
	}
	b.h.forward = func(context.Context, *peerpb.ForwardRequest) *peerpb.ForwardResponse { panic("test") }
	if r, err := a.Forward(within(t), 2, grant(1)); err != nil || r.GetError().GetCode() != uint32(codes.Internal) {
		t.Fatalf("a panic: %v, %v", r, err)
	}
	b.waitLog(t, "panic in a peer's request")
}

func TestForwardNotSent(t *testing.T) {
	a, b := pair(t)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := a.Forward(ended, 2, grant(1))
	wantErrors(t, "an ended context", err, ErrNotSent, context.Canceled)
	_, err = a.Forward(within(t), 3, grant(1))
	wantErrors(t, "an unknown peer", err, ErrNotSent, ErrUnknownPeer)
	_, err = a.Forward(within(t), 2, large(DefaultMaxFrameBytes))
	wantErrors(t, "a large request", err, ErrNotSent, ErrTooLarge)
	b.stop()
	_, err = a.Forward(within(t), 2, grant(1))
	wantErrors(t, "a peer that is gone", err, ErrNotSent)
	a.stop()
	_, err = a.Forward(within(t), 2, grant(1))
	wantErrors(t, "a closed transport", err, ErrNotSent)
}

func wantErrors(t *testing.T, what string, err error, want ...error) {
	t.Helper()
	for _, w := range want {
		if !errors.Is(err, w) {
			t.Errorf("%s: %v, want %v", what, err, w)
		}
	}
}

// TestForwardUnknownOutcome: a call that was sent and not answered may have had its
// effect, whatever ends it.
func TestForwardUnknownOutcome(t *testing.T) {
	a, b := pair(t)
	begun, abandoned := make(chan struct{}), make(chan struct{}, 2)
	b.h.forward = func(ctx context.Context, _ *peerpb.ForwardRequest) *peerpb.ForwardResponse {
		begun <- struct{}{}
		<-ctx.Done()
		abandoned <- struct{}{}
		return nil
	}
	ctx, cancel := context.WithCancel(within(t))
	done := make(chan error, 1)
	go func() { _, err := a.Forward(ctx, 2, grant(1)); done <- err }()
	next(t, "the call", begun)
	cancel()
	wantErrors(t, "a canceled call", next(t, "its end", done), ErrUnknownOutcome, context.Canceled)
	next(t, "the other side to hear of it", abandoned)

	go func() { _, err := a.Forward(within(t), 2, grant(2)); done <- err }()
	next(t, "the call", begun)
	a.SetPeers(nil)
	wantErrors(t, "a call to a peer that was removed", next(t, "its end", done), ErrUnknownOutcome, ErrUnknownPeer)
	next(t, "the other side to hear of it", abandoned)
}

// TestForwardWhileStopping: who stops answers what it has, and says why it takes no
// more.
func TestForwardWhileStopping(t *testing.T) {
	a, b := pair(t)
	begun := make(chan struct{})
	b.h.forward = func(ctx context.Context, _ *peerpb.ForwardRequest) *peerpb.ForwardResponse {
		close(begun)
		<-ctx.Done()
		return &peerpb.ForwardResponse{Response: told(rpctypes.ErrGRPCStopped)}
	}
	done := make(chan error, 1)
	go func() {
		r, err := a.Forward(within(t), 2, grant(1))
		if err == nil {
			err = decodeStatus(r.GetError())
		}
		done <- err
	}()
	next(t, "the call", begun)
	b.stop()
	if err := next(t, "the answer", done); status.Convert(err).Message() != status.Convert(rpctypes.ErrGRPCStopped).Message() {
		t.Fatal(err)
	}
}

// TestDeadline: the other side knows it.
func TestDeadline(t *testing.T) {
	a, b := pair(t)
	b.h.forward = func(ctx context.Context, _ *peerpb.ForwardRequest) *peerpb.ForwardResponse {
		deadline, ok := ctx.Deadline()
		if !ok || deadline.IsZero() {
			return nil
		}
		return &peerpb.ForwardResponse{Applied: 1}
	}
	if r, err := a.Forward(within(t), 2, grant(1)); err != nil || r.GetApplied() != 1 {
		t.Fatalf("%v, %v", r, err)
	}
}

func TestCommitted(t *testing.T) {
	a, b := pair(t)
	if id, err := a.Committed(within(t), 2, 5); err != nil || id != 50 {
		t.Fatalf("%d, %v", id, err)
	}
	b.h.committed = func(context.Context, sqllog.Epoch) (sqllog.ID, error) {
		return 0, status.Error(codes.FailedPrecondition, "not the primary")
	}
	if _, err := a.Committed(within(t), 2, 5); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "not the primary") {
		t.Fatal(err)
	}
	b.h.committed = func(context.Context, sqllog.Epoch) (sqllog.ID, error) { return 0, errors.New("plain") }
	if _, err := a.Committed(within(t), 2, 5); status.Code(err) != codes.Aborted {
		t.Fatal(err)
	}
}

// TestManyBlockedCalls: calls that wait do not keep others from being worked on, up to
// the bound; then others wait, and are worked on afterwards.
func TestManyBlockedCalls(t *testing.T) {
	a, b := pair(t)
	ctx := within(t)
	if _, err := a.Forward(ctx, 2, grant(1)); err != nil { // opens the stream
		t.Fatal(err)
	}
	var working atomic.Int32
	full, released := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(released) })
	t.Cleanup(release)
	b.h.forward = func(context.Context, *peerpb.ForwardRequest) *peerpb.ForwardResponse {
		if working.Add(1) == maxCalls {
			close(full)
		}
		<-released
		return &peerpb.ForwardResponse{}
	}
	var wg sync.WaitGroup
	for range maxCalls + 500 {
		wg.Go(func() {
			if _, err := a.Forward(ctx, 2, grant(1)); err != nil {
				t.Error(err)
			}
		})
	}
	next(t, "all workers", full)
	release()
	wg.Wait()
}

func BenchmarkForward(b *testing.B) {
	for _, clients := range []int{1, 100, 1000} {
		b.Run(map[int]string{1: "1-client", 100: "100-clients", 1000: "1000-clients"}[clients], func(b *testing.B) {
			x, y := pair(b)
			y.h.forward = func(context.Context, *peerpb.ForwardRequest) *peerpb.ForwardResponse {
				return &peerpb.ForwardResponse{Response: &peerpb.ForwardResponse_Txn{Txn: &pb.TxnResponse{
					Header: &pb.ResponseHeader{Revision: 5}, Succeeded: true,
					Responses: []*pb.ResponseOp{{Response: &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{}}}},
				}}, Applied: 1}
			}
			value := make([]byte, 256)
			ctx := context.Background()
			b.ReportAllocs()
			b.ResetTimer()
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						r := &peerpb.ForwardRequest{Request: &peerpb.ForwardRequest_Txn{Txn: &pb.TxnRequest{Success: []*pb.RequestOp{{
							Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("/registry/some/key"), Value: value}}}}}}}
						if _, err := x.Forward(ctx, 2, r); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "forwards/s")
		})
	}
}
