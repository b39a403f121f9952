package gateway

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/server"
)

// script is an engine whose stream gives what the test says.
type script struct {
	responses chan server.WatchResponse
	created   chan server.WatchRequest
	progress  chan struct{}
	closed    chan struct{}
}

var (
	_ server.Watcher     = (*script)(nil)
	_ server.WatchStream = (*script)(nil)
)

func newScript() *script {
	return &script{
		responses: make(chan server.WatchResponse, 16), created: make(chan server.WatchRequest, 16),
		progress: make(chan struct{}, 16), closed: make(chan struct{}),
	}
}

func (s *script) NewWatchStream() server.WatchStream { return s }

func (s *script) Revision() int64 { return 10 }

func (s *script) Create(r server.WatchRequest) (int64, error) {
	s.created <- r
	return 0, nil
}

func (s *script) Cancel(int64) error { return nil }

func (s *script) Progress() { s.progress <- struct{}{} }

func (s *script) Next(ctx context.Context) (server.WatchResponse, error) {
	select {
	case r := <-s.responses:
		return r, nil
	case <-ctx.Done():
		return server.WatchResponse{}, ctx.Err()
	case <-s.closed:
		return server.WatchResponse{}, mvcc.ErrClosed
	}
}

func (s *script) Close() { close(s.closed) }

// put is a response of one event.
func put(watch, revision int64, value string) server.WatchResponse {
	kv := &mvccpb.KeyValue{Key: []byte("k"), Value: []byte(value), ModRevision: revision}
	return server.WatchResponse{WatchID: watch, Revision: revision, Events: []*mvccpb.Event{{Kv: kv}}}
}

// TestOverflowSaysWhatIsSafe: frames that go out before another watch has caught up say where that one stands.
func TestOverflowSaysWhatIsSafe(t *testing.T) {
	s := newScript()
	h := start(t, func(c *Config) { c.Watcher, c.mergeBytes = s, 5000 })
	ws := h.dial("/watch")
	want := func(header, revision int64) {
		t.Helper()
		if frame := ws.text(); !strings.HasPrefix(frame, fmt.Sprintf(`{"result":{"header":{"revision":%d}`, header)) ||
			revision != 0 && !strings.Contains(frame, fmt.Sprintf(`"mod_revision":%d}`, revision)) {
			t.Fatalf("%.200s, want header %d, event %d", frame, header, revision)
		}
	}
	for id, from := range []int64{0, 3} {
		ws.send(fmt.Sprintf(`{"create_request":{"key":"‹k›","start_revision":%d}}`, from))
		if r := <-s.created; r.StartRevision != from {
			t.Fatalf("starts at %d", r.StartRevision)
		}
		s.responses <- server.WatchResponse{WatchID: int64(id), Revision: 10, Created: true}
		want(10, 0)
	}
	s.responses <- put(0, 11, "live")
	<-s.progress // what is below the limit waits for the other watch
	s.responses <- put(0, 12, strings.Repeat("v", 5000))
	want(2, 11)
	want(2, 12)
	s.responses <- put(1, 3, "history")
	s.responses <- server.WatchResponse{WatchID: mvcc.NoWatch, Revision: 12}
	want(3, 3)
	s.responses <- put(0, 14, "early")
	<-s.progress
	s.responses <- server.WatchResponse{WatchID: mvcc.NoWatch, Revision: 13}
	<-s.progress // 14 is still to be confirmed
	s.responses <- put(1, 14, "early")
	s.responses <- server.WatchResponse{WatchID: mvcc.NoWatch, Revision: 14}
	want(14, 14)
	s.responses <- server.WatchResponse{WatchID: 0, Revision: 15, Canceled: true, CompactRevision: 15}
	want(15, 0)
	s.responses <- put(1, 16, "alone")
	want(16, 16)
}
