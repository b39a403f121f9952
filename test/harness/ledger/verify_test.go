package ledger

import (
	"context"
	"net"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/kinsy/kinsy/test/harness/client"
	"github.com/kinsy/kinsy/test/harness/history"
)

// store is a server that tells a history, each event of which is a key's first put.
type store struct {
	pb.UnimplementedKVServer
	pb.UnimplementedWatchServer
	events []history.Event
}

// serve starts the store and returns its endpoint.
func (s *store) serve(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterKVServer(server, s)
	pb.RegisterWatchServer(server, s)
	ended := make(chan struct{})
	go func() {
		_ = server.Serve(l) // ends at Stop
		close(ended)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-ended
	})
	return l.Addr().String()
}

func (s *store) header() *pb.ResponseHeader {
	return &pb.ResponseHeader{Revision: s.events[len(s.events)-1].Revision}
}

// Range tells the revision only.
func (s *store) Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
	return &pb.RangeResponse{Header: s.header()}, nil
}

// Watch tells the history in one response, and then progress when it is asked.
func (s *store) Watch(stream pb.Watch_WatchServer) error {
	for {
		req, err := stream.Recv()
		if err != nil {
			return nil
		}
		resp := &pb.WatchResponse{Header: s.header()}
		if create := req.GetCreateRequest(); create != nil {
			if err := stream.Send(&pb.WatchResponse{Header: s.header(), Created: true}); err != nil {
				return err
			}
			for _, e := range history.Above(s.events, create.StartRevision-1) {
				kv := &mvccpb.KeyValue{Key: []byte(e.Key), Value: []byte(e.Value), ModRevision: e.Revision, CreateRevision: e.Create, Version: e.Version}
				resp.Events = append(resp.Events, &mvccpb.Event{Kv: kv})
			}
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
}

// TestVerifyComparesNodes checks a ledger against nodes that tell the same, and against such that do not.
func TestVerifyComparesNodes(t *testing.T) {
	common := []history.Event{done(2, "a", "1"), done(3, "b", "2")}
	for name, test := range map[string]struct {
		others [][]history.Event
		want   string // empty: nothing is wrong
	}{
		"one node":              {},
		"three that agree":      {others: [][]history.Event{common, common}},
		"one that is ahead":     {others: [][]history.Event{append(common[:2:2], done(4, "c", "3"))}},
		"one with another past": {others: [][]history.Event{common, {done(2, "a", "1"), done(3, "b", "other")}}, want: "history by node 2"},
	} {
		first := client.Dial(t, (&store{events: common}).serve(t))
		l := &Ledger{Base: 1, Writes: []*Write{asked(2, common[0].Change), asked(3, common[1].Change)}, Newest: 3}
		var others []*clientv3.Client
		for _, events := range test.others {
			others = append(others, client.Dial(t, (&store{events: events}).serve(t)))
		}
		for range 2 { // it may be asked again
			v, told, err := l.Verify(t.Context(), first, others...)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%s: %v, want %q", name, err, test.want)
			}
			if len(told) != 2 || v.Acknowledged != 2 {
				t.Errorf("%s: %v, %d events", name, v, len(told))
			}
		}
	}
}
