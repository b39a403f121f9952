package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/kinsy/kinsy/pkg/mvcc"
)

// watchReal opens a watch stream and sends the requests.
func watchReal(t *testing.T, h *harness, requests ...*pb.WatchRequest) pb.Watch_WatchClient {
	t.Helper()
	stream, err := h.watch.Watch(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	sendAll(t, stream, requests...)
	return stream
}

func TestRealWatchPrevKV(t *testing.T) {
	h := startReal(t, ProfileNetsy)
	stream := watchReal(t, h, createRequest(&pb.WatchCreateRequest{Key: []byte("k"), PrevKv: true}))
	if r := next(t, stream); !r.Created || r.Header.Revision != 1 {
		t.Fatalf("created: %v", r)
	}
	h.put(t, "k", "one")
	h.put(t, "other", "x")
	h.put(t, "k", "two")
	h.delete(t, "k")
	var events []*mvccpb.Event
	for len(events) < 3 {
		events = append(events, next(t, stream).Events...)
	}
	for i, want := range []struct {
		kind  mvccpb.Event_EventType
		rev   int64
		value string
		prev  string
	}{{mvccpb.Event_PUT, 2, "one", ""}, {mvccpb.Event_PUT, 4, "two", "one"}, {mvccpb.Event_DELETE, 5, "", "two"}} {
		e := events[i]
		if e.Type != want.kind || e.Kv.ModRevision != want.rev || string(e.Kv.Value) != want.value ||
			string(e.PrevKv.GetValue()) != want.prev || (e.PrevKv == nil) != (want.prev == "") {
			t.Errorf("event %d: %v", i, e)
		}
	}
}

func TestRealWatchRefusals(t *testing.T) {
	h := startReal(t, ProfileEtcd)
	h.put(t, "k", "v")
	for name, c := range map[string]struct {
		r      *pb.WatchCreateRequest
		reason string
	}{
		"negative start": {&pb.WatchCreateRequest{Key: []byte("k"), StartRevision: -1, WatchId: 3},
			"etcdserver: mvcc: required revision has been compacted"},
		"inverted range": {&pb.WatchCreateRequest{Key: []byte("k"), RangeEnd: []byte("a")},
			"mvcc: watcher range is empty"},
		"id in use": {&pb.WatchCreateRequest{Key: []byte("k"), WatchId: 7},
			"mvcc: duplicate watch ID provided on the WatchStream"},
	} {
		stream := watchReal(t, h,
			createRequest(&pb.WatchCreateRequest{Key: []byte("k"), WatchId: 7}), createRequest(c.r), progressRequest())
		next(t, stream)
		r := next(t, stream)
		if !r.Created || !r.Canceled || r.WatchId != mvcc.NoWatch || r.CancelReason != c.reason || r.Header.Revision != 2 {
			t.Errorf("%s: %v", name, r)
		}
		if r := next(t, stream); r.WatchId != mvcc.NoWatch || r.Created || r.Canceled || r.Header.Revision != 2 {
			t.Errorf("%s: the stream should live on: %v", name, r)
		}
	}
}

func TestRealWatchCompactedStart(t *testing.T) {
	h := startReal(t, ProfileEtcd)
	for range 5 {
		h.put(t, "k", "v")
	}
	if _, err := h.kv.Compact(testContext(t), &pb.CompactionRequest{Revision: 4}); err != nil {
		t.Fatal(err)
	}
	stream := watchReal(t, h, createRequest(&pb.WatchCreateRequest{Key: []byte("k"), StartRevision: 2, WatchId: 3}))
	if r := next(t, stream); !r.Created || r.Canceled || r.WatchId != 3 {
		t.Fatalf("created: %v", r)
	}
	if r := next(t, stream); !r.Canceled || r.CompactRevision != 4 || r.WatchId != 3 || r.Created {
		t.Fatalf("canceled: %v", r)
	}
}

// One Txn of large values comes in fragments of one revision, in order.
func TestRealWatchFragments(t *testing.T) {
	h := startReal(t, ProfileEtcd)
	stream := watchReal(t, h, createRequest(&pb.WatchCreateRequest{
		Key: []byte("/"), RangeEnd: []byte("0"), Fragment: true, PrevKv: true,
	}))
	next(t, stream)
	large := &pb.TxnRequest{}
	for i := range 12 {
		op := putOp(fmt.Sprintf("/%02d", i))
		op.GetRequestPut().Value = bytes.Repeat([]byte{'v'}, 120_000)
		large.Success = append(large.Success, op)
	}
	h.mustTxn(t, large) // 1.4 MiB
	h.mustTxn(t, large) // twice that, with the previous values
	var keys []string
	parts := map[int64]int{}
	for len(keys) < 24 {
		r := next(t, stream)
		parts[r.Header.Revision]++
		for _, e := range r.Events {
			if e.Kv.ModRevision != r.Header.Revision {
				t.Errorf("event of revision %d in a response of %d", e.Kv.ModRevision, r.Header.Revision)
			}
			keys = append(keys, string(e.Kv.Key))
		}
		if last := len(keys)%12 == 0; r.Fragment == last {
			t.Errorf("fragment is %v after %d events", r.Fragment, len(keys))
		}
	}
	for i, k := range keys {
		if k != fmt.Sprintf("/%02d", i%12) {
			t.Fatalf("event %d is of %s", i, k)
		}
	}
	if parts[2] != 1 || parts[3] < 2 {
		t.Errorf("parts by revision: %v", parts)
	}
}

// Many watches of one stream, from different revisions, each get every event
// from theirs on, in order, once; a progress response comes after what it covers.
func TestRealManyWatches(t *testing.T) {
	const writes, watches = 300, 40
	h := startReal(t, ProfileNetsy)
	for range writes / 3 {
		h.put(t, "k", "v")
	}
	stream := watchReal(t, h)
	for i := range int64(watches) {
		sendAll(t, stream, createRequest(&pb.WatchCreateRequest{
			Key: []byte("k"), WatchId: i + 1, StartRevision: 2 + 7*i,
		}))
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for range writes - writes/3 {
			h.put(t, "k", "v")
		}
	})
	defer wg.Wait()
	seen := make(map[int64]int64) // watch -> last revision
	for done := 0; done < watches; {
		r := next(t, stream)
		for _, e := range r.Events {
			want := seen[r.WatchId] + 1
			if want == 1 {
				want = 2 + 7*(r.WatchId-1)
			}
			if e.Kv.ModRevision != want {
				t.Fatalf("watch %d: revision %d, want %d", r.WatchId, e.Kv.ModRevision, want)
			}
			seen[r.WatchId] = want
			if want == writes+1 {
				done++
			}
		}
	}
	sendAll(t, stream, progressRequest())
	if r := next(t, stream); r.WatchId != mvcc.NoWatch || r.Header.Revision != writes+1 {
		t.Fatalf("progress: %v", r)
	}
}

// A stop under load ends in time, answers or ends every request, and loses no
// write that was acknowledged.
func TestRealStopUnderLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	primary, store, closeEngine := openEngine(t, path)
	cfg := testConfig(nil, ProfileNetsy)
	cfg.KV, cfg.Lessor, cfg.Admin, cfg.Watcher = primary, primary, primary, StoreWatcher(store)
	h := serve(t, cfg)
	var acknowledged atomic.Int64
	var wg sync.WaitGroup
	for c := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				op := putOp(fmt.Sprintf("/%d/%d", c, i))
				if _, err := h.kv.Txn(context.Background(), &pb.TxnRequest{Success: ops(op)}); err != nil {
					return
				}
				acknowledged.Add(1)
			}
		})
	}
	for range 4 {
		stream := watchReal(t, h, createRequest(&pb.WatchCreateRequest{Key: []byte("/"), RangeEnd: []byte("0")}))
		next(t, stream)
		wg.Go(func() {
			for {
				if _, err := stream.Recv(); err != nil {
					if !errors.Is(err, rpctypes.ErrGRPCStopped) {
						t.Errorf("watch ended with %v", err)
					}
					return
				}
			}
		})
	}
	for acknowledged.Load() < 50 {
		h.get(t, rangeOf("/0/0"))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := h.GracefulStop(ctx); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	closeEngine()

	primary, _, closeEngine = openEngine(t, path)
	defer closeEngine()
	resp, err := primary.Range(ctx, &pb.RangeRequest{Key: []byte("/"), RangeEnd: []byte("0"), CountOnly: true})
	if err != nil || resp.Count < acknowledged.Load() {
		t.Fatalf("%d keys after the restart, %d acknowledged: %v", resp.GetCount(), acknowledged.Load(), err)
	}
}
