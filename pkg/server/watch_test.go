package server

import (
	"context"
	"errors"
	"reflect"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/pkg/mvcc"
)

func createRequest(r *pb.WatchCreateRequest) *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}}
}

func cancelRequest(id int64) *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{
		CancelRequest: &pb.WatchCancelRequest{WatchId: id},
	}}
}

func progressRequest() *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{
		ProgressRequest: &pb.WatchProgressRequest{},
	}}
}

// openWatch opens a watch stream and returns the engine's side of it too.
func openWatch(t *testing.T, h *harness, ctx context.Context) (pb.Watch_WatchClient, *fakeStream) {
	t.Helper()
	stream, err := h.watch.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case engine := <-h.engine.streams:
		return stream, engine
	case <-ctx.Done():
		t.Fatal("the engine was not asked for a watch stream")
		return nil, nil
	}
}

func sendAll(t *testing.T, stream pb.Watch_WatchClient, requests ...*pb.WatchRequest) {
	t.Helper()
	for _, r := range requests {
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
	}
}

func next(t *testing.T, stream pb.Watch_WatchClient) *pb.WatchResponse {
	t.Helper()
	r, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	wantHeader(t, r.Header, r.Header.Revision)
	return r
}

func TestWatchCreateEventsCancel(t *testing.T) {
	h := start(t, ProfileNetsy)
	stream, engine := openWatch(t, h, testContext(t))
	sendAll(t, stream, createRequest(&pb.WatchCreateRequest{Key: []byte("a"), WatchId: 3}))
	if r := next(t, stream); !r.Created || r.Canceled || r.WatchId != 3 || r.Header.Revision != fakeRevision {
		t.Fatalf("created: %v", r)
	}
	engine.push(WatchResponse{WatchID: 3, Revision: 9, Events: eventsOf(1, 2)})
	if r := next(t, stream); len(r.Events) != 2 || r.WatchId != 3 || r.Header.Revision != 9 || r.Fragment {
		t.Fatalf("events: %v", r)
	}
	sendAll(t, stream, cancelRequest(77), cancelRequest(3), progressRequest())
	if r := next(t, stream); !r.Canceled || r.Created || r.WatchId != 3 || r.CancelReason != "" {
		t.Fatalf("an unknown id must be passed over, then canceled: %v", r)
	}
	if r := next(t, stream); r.WatchId != mvcc.NoWatch || r.Created || r.Canceled || len(r.Events) != 0 {
		t.Fatalf("progress: %v", r)
	}
	if n := h.metrics.watchEvents.Load(); n != 2 {
		t.Errorf("%d events counted", n)
	}
}

func TestWatchRequestTranslation(t *testing.T) {
	key, end, zero := []byte("k"), []byte("l"), []byte{0}
	for name, c := range map[string]struct {
		in   *pb.WatchCreateRequest
		want WatchRequest
	}{
		"key":     {&pb.WatchCreateRequest{Key: key}, WatchRequest{Key: key}},
		"range":   {&pb.WatchCreateRequest{Key: key, RangeEnd: end}, WatchRequest{Key: key, End: end}},
		"no key":  {&pb.WatchCreateRequest{}, WatchRequest{Key: zero}},
		"all":     {&pb.WatchCreateRequest{RangeEnd: zero}, WatchRequest{Key: zero, FromKey: true}},
		"fromKey": {&pb.WatchCreateRequest{Key: key, RangeEnd: zero}, WatchRequest{Key: key, FromKey: true}},
		"rest": {&pb.WatchCreateRequest{
			Key: []byte("k"), WatchId: 8, StartRevision: 5, PrevKv: true, ProgressNotify: true,
			Filters: []pb.WatchCreateRequest_FilterType{
				pb.WatchCreateRequest_NOPUT, pb.WatchCreateRequest_NODELETE, 99,
			},
		}, WatchRequest{
			ID: 8, Key: []byte("k"), StartRevision: 5, PrevKV: true, ProgressNotify: true, NoPut: true, NoDelete: true,
		}},
		"no put": {&pb.WatchCreateRequest{
			Key: []byte("k"), Filters: []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT},
		}, WatchRequest{Key: []byte("k"), NoPut: true}},
	} {
		if got := watchRequest(c.in); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

func TestWatchDuplicateID(t *testing.T) {
	h := start(t, ProfileEtcd)
	stream, _ := openWatch(t, h, testContext(t))
	create := createRequest(&pb.WatchCreateRequest{Key: []byte("a"), WatchId: 4})
	sendAll(t, stream, create, create)
	next(t, stream)
	r := next(t, stream)
	if !r.Created || !r.Canceled || r.WatchId != mvcc.NoWatch ||
		r.CancelReason != "mvcc: duplicate watch ID provided on the WatchStream" {
		t.Fatalf("got %v", r)
	}
}

func TestWatchCompacted(t *testing.T) {
	h := start(t, ProfileEtcd)
	stream, engine := openWatch(t, h, testContext(t))
	sendAll(t, stream, createRequest(&pb.WatchCreateRequest{Key: []byte("a"), WatchId: 4, StartRevision: 2}))
	next(t, stream)
	engine.push(WatchResponse{WatchID: 4, Revision: 9, Canceled: true, CompactRevision: 6, CancelReason: "why"})
	if r := next(t, stream); !r.Canceled || r.CompactRevision != 6 || r.WatchId != 4 || r.CancelReason != "why" {
		t.Fatalf("got %v", r)
	}
}

// Fragments are for the watches that asked for them, whatever ids are reused.
func TestWatchFragments(t *testing.T) {
	h := start(t, ProfileEtcd, func(c *Config) { c.MaxRequestBytes = 1000 })
	large := eventsOf(300_000, 300_000, 300_000)
	stream, engine := openWatch(t, h, testContext(t))
	deliver := func(id int64) (parts []*pb.WatchResponse) {
		engine.push(WatchResponse{WatchID: id, Revision: 9, Events: large})
		for {
			r := next(t, stream)
			parts = append(parts, r)
			if !r.Fragment {
				return parts
			}
		}
	}
	for _, id := range []int64{1, 2, 3} {
		sendAll(t, stream, createRequest(&pb.WatchCreateRequest{Key: []byte("a"), WatchId: id, Fragment: id == 2}))
		next(t, stream)
	}
	for id, want := range map[int64]int{1: 1, 2: 3, 3: 1} {
		parts := deliver(id)
		if len(parts) != want {
			t.Errorf("watch %d: %d parts, want %d", id, len(parts), want)
		}
		for i, p := range parts {
			if want > 1 && string(p.Events[0].Kv.Key) != string(large[i].Kv.Key) {
				t.Errorf("watch %d: part %d starts with %q", id, i, p.Events[0].Kv.Key)
			}
		}
	}
	// The id is free again after a cancel; the new watch has a flag of its own.
	sendAll(t, stream, cancelRequest(2), createRequest(&pb.WatchCreateRequest{Key: []byte("a"), WatchId: 2}))
	next(t, stream)
	next(t, stream)
	if parts := deliver(2); len(parts) != 1 {
		t.Errorf("reused id: %d parts", len(parts))
	}
	// A refused watch takes its flag with it.
	sendAll(t, stream,
		createRequest(&pb.WatchCreateRequest{Key: []byte("a"), WatchId: 2, Fragment: true}),
		createRequest(&pb.WatchCreateRequest{Key: []byte("a"), WatchId: 5}))
	next(t, stream)
	next(t, stream)
	if parts := append(deliver(2), deliver(5)...); len(parts) != 2 {
		t.Errorf("after a refusal: %d parts", len(parts))
	}
}

// A client that closes its sending side goes on receiving, as on etcd.
func TestWatchHalfClosed(t *testing.T) {
	h := start(t, ProfileEtcd)
	stream, engine := openWatch(t, h, testContext(t))
	sendAll(t, stream, createRequest(&pb.WatchCreateRequest{Key: []byte("a"), WatchId: 1}))
	next(t, stream)
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	engine.push(WatchResponse{WatchID: 1, Revision: 9, Events: eventsOf(1)})
	if r := next(t, stream); len(r.Events) != 1 {
		t.Fatalf("got %v", r)
	}
}

// An empty request, or one of a kind of a later etcd, does nothing.
func TestWatchUnknownRequest(t *testing.T) {
	h := start(t, ProfileEtcd)
	stream, _ := openWatch(t, h, testContext(t))
	sendAll(t, stream, &pb.WatchRequest{}, progressRequest())
	if r := next(t, stream); r.WatchId != mvcc.NoWatch {
		t.Fatalf("got %v", r)
	}
}

func TestWatchEnds(t *testing.T) {
	h := start(t, ProfileEtcd)
	ctx, cancel := context.WithCancel(testContext(t))
	stream, engine := openWatch(t, h, ctx)
	cancel()
	if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
		t.Fatalf("the client left: %v", err)
	}
	select {
	case <-engine.closed:
	case <-testContext(t).Done():
		t.Fatal("the engine's stream was not closed")
	}
}

func TestWatchEngineClosed(t *testing.T) {
	h := start(t, ProfileEtcd)
	stream, engine := openWatch(t, h, testContext(t))
	engine.refuse = mvcc.ErrClosed
	sendAll(t, stream, createRequest(&pb.WatchCreateRequest{Key: []byte("a")}))
	_, err := stream.Recv()
	wantError(t, err, rpctypes.ErrGRPCStopped)
}

func TestWatchPanics(t *testing.T) {
	h := start(t, ProfileEtcd)
	stream, engine := openWatch(t, h, testContext(t))
	engine.explode = true
	sendAll(t, stream, createRequest(&pb.WatchCreateRequest{Key: []byte("a")}))
	_, err := stream.Recv()
	wantError(t, err, errPanic)
}

func leaderContext(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
}

func TestRequireLeader(t *testing.T) {
	h := start(t, ProfileEtcd)
	ctx := leaderContext(testContext(t))
	if _, err := h.kv.Range(ctx, rangeOf("k")); err != nil {
		t.Fatal(err)
	}
	stream, _ := openWatch(t, h, ctx)
	other, _ := openWatch(t, h, testContext(t))

	h.engine.setStatus(Status{})
	h.leader.observe(false)
	_, err := h.kv.Range(ctx, rangeOf("k"))
	wantError(t, err, rpctypes.ErrGRPCNoLeader)
	if _, err := h.kv.Range(testContext(t), rangeOf("k")); err != nil {
		t.Fatalf("without the metadata: %v", err)
	}
	late, err := h.watch.Watch(ctx)
	if err == nil {
		_, err = late.Recv()
	}
	wantError(t, err, rpctypes.ErrGRPCNoLeader)

	// The engine is asked again: a full disk is no loss of the leader.
	h.engine.setStatus(Status{NoSpace: true})
	if _, err := h.kv.Range(ctx, rangeOf("k")); err != nil {
		t.Fatal(err)
	}

	// Open streams that require a leader end when it is gone for long.
	for range maxLeaderless {
		h.leader.observe(false)
	}
	_, err = stream.Recv()
	wantError(t, err, rpctypes.ErrGRPCNoLeader)
	sendAll(t, other, progressRequest())
	next(t, other)

	// And may come back with the leader.
	h.leader.observe(true)
	again, _ := openWatch(t, h, ctx)
	sendAll(t, again, progressRequest())
	next(t, again)
}

func TestLeadershipForgetsShortLosses(t *testing.T) {
	l := newLeadership()
	ctx := l.context()
	for range 10 {
		l.observe(false)
		l.observe(false)
		l.observe(true)
	}
	if ctx.Err() != nil || l.context() != ctx {
		t.Fatal("two looks without a leader ended the streams")
	}
	for range maxLeaderless {
		l.observe(false)
	}
	if !errors.Is(context.Cause(ctx), rpctypes.ErrGRPCNoLeader) {
		t.Fatalf("cause %v", context.Cause(ctx))
	}
}
