package differential

import (
	"context"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// TestProgressOnRequest compares when a progress request is answered: never for a stream whose watch starts in the
// future or that has no watch, at once for a stream whose watches are synced.
func TestProgressOnRequest(t *testing.T) {
	r := newPair(t)
	r.must(t, put("p", "1"), put("q", "1"))
	start := r.head + 3
	ok(t, r.watch(0, &pb.WatchCreateRequest{Key: []byte("p"), StartRevision: start}))
	ok(t, r.watch(2, &pb.WatchCreateRequest{Key: []byte("p")}))
	ask := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
	for range 5 {
		ok(t, r.each(func(_ int, p *peer) error {
			for stream := range 3 {
				if err := p.streams[stream].send(ask); err != nil {
					return err
				}
			}
			return nil
		}))
		r.must(t, put("q", "2"))
	}
	ok(t, r.settle())
	// What was asked before the start was reached has been answered by now, if it is answered at all.
	ok(t, r.each(func(_ int, p *peer) error {
		if first := p.streams[0].firstProgress; first < start {
			t.Errorf("%s promised progress to %d on a stream with a watch from %d", p.name, first, start)
		}
		if first := p.streams[1].firstProgress; first != 0 {
			t.Errorf("%s promised progress to %d on a stream without watches", p.name, first)
		}
		if first := p.streams[2].firstProgress; first == 0 || first > start {
			t.Errorf("%s promised progress first to %d on a synced stream", p.name, first)
		}
		return nil
	}))
}

// TestPeriodicProgress checks that kinsy reports progress by itself to the watches that asked for it, under their own
// id, up to writes outside their range.
func TestPeriodicProgress(t *testing.T) {
	needKinsy(t)
	p := &peer{server: newKinsy(t, "etcd", "--watch-progress-notify-interval", "100ms")}
	ok(t, p.start())
	t.Cleanup(func() { p.disconnect(); p.kill() })
	ok(t, p.connect(0))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	watch, err := p.watch.Watch(ctx)
	ok(t, err)
	for _, notify := range []bool{false, true} {
		create := &pb.WatchCreateRequest{Key: []byte("a"), ProgressNotify: notify}
		ok(t, watch.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}))
		resp, err := watch.Recv()
		ok(t, err)
		if want := map[bool]int64{false: 0, true: 1}[notify]; !resp.Created || resp.WatchId != want {
			t.Fatalf("create answered with {%s}", text(resp))
		}
	}
	ok(t, p.exchange(kindCall, put("b", "elsewhere")).err)
	for {
		resp, err := watch.Recv()
		ok(t, err)
		if resp.WatchId != 1 || len(resp.Events) != 0 || resp.Canceled {
			t.Fatalf("unexpected response {%s}", text(resp))
		}
		if resp.Header.Revision == 2 {
			return
		}
	}
}
