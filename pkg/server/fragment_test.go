package server

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/kinsy/kinsy/pkg/mvcc"
)

func eventsOf(sizes ...int) (events []*mvccpb.Event) {
	for i, n := range sizes {
		events = append(events, &mvccpb.Event{Kv: &mvccpb.KeyValue{
			Key: fmt.Appendf(nil, "k%04d", i), Value: bytes.Repeat([]byte{'v'}, n), ModRevision: int64(i + 2),
		}})
	}
	return events
}

func fragments(t *testing.T, r *pb.WatchResponse, limit int) (parts []*pb.WatchResponse) {
	t.Helper()
	if err := sendFragments(r, limit, func(p *pb.WatchResponse) error {
		parts = append(parts, p)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return parts
}

func TestFragments(t *testing.T) {
	for name, c := range map[string]struct {
		sizes []int
		limit int
		want  []int // events in each part
	}{
		"small":        {[]int{10, 10}, 1000, []int{2}},
		"no events":    {nil, 1, []int{0}},
		"one large":    {[]int{5000}, 100, []int{1}},
		"each large":   {[]int{5000, 5000, 5000}, 100, []int{1, 1, 1}},
		"two by two":   {[]int{400, 400, 400, 400}, 1000, []int{2, 2}},
		"large first":  {[]int{5000, 10, 10}, 1000, []int{1, 2}},
		"large middle": {[]int{10, 5000, 10}, 1000, []int{1, 1, 1}},
		"large last":   {[]int{10, 10, 5000}, 1000, []int{2, 1}},
	} {
		r := &pb.WatchResponse{Header: &pb.ResponseHeader{Revision: 9}, WatchId: 4, Events: eventsOf(c.sizes...)}
		parts := fragments(t, r, c.limit)
		var counts []int
		var all []*mvccpb.Event
		for i, p := range parts {
			counts = append(counts, len(p.Events))
			all = append(all, p.Events...)
			if p.Fragment != (i < len(parts)-1) || p.WatchId != 4 || p.Header.Revision != 9 {
				t.Errorf("%s: part %d is %v", name, i, p)
			}
			if len(p.Events) > 1 && proto.Size(p) >= c.limit {
				t.Errorf("%s: part %d has %d bytes", name, i, proto.Size(p))
			}
		}
		if !slices.Equal(counts, c.want) {
			t.Errorf("%s: got %v, want %v", name, counts, c.want)
		}
		if !slices.Equal(all, r.Events) {
			t.Errorf("%s: events lost or out of order", name)
		}
	}
}

// The computed size of a part is the true one: a part is cut exactly where one
// more event would reach the limit.
func TestFragmentSizes(t *testing.T) {
	r := &pb.WatchResponse{
		Header:  &pb.ResponseHeader{Revision: 1 << 40, ClusterId: 1 << 60},
		WatchId: 300,
		Events:  eventsOf(make([]int, 500)...),
	}
	for limit := 60; limit < 3000; limit += 97 {
		parts := fragments(t, r, limit)
		next := 0
		for _, p := range parts[:len(parts)-1] {
			next += len(p.Events)
			larger := fragmentOf(r, r.Events[next-len(p.Events):next+1], true)
			if proto.Size(larger) < limit {
				t.Fatalf("limit %d: a part of %d bytes could have one event more", limit, proto.Size(p))
			}
		}
	}
}

func TestFragmentsStopOnError(t *testing.T) {
	r := &pb.WatchResponse{Events: eventsOf(500, 500, 500)}
	sent := 0
	err := sendFragments(r, 600, func(*pb.WatchResponse) error {
		sent++
		return mvcc.ErrClosed
	})
	if err != mvcc.ErrClosed || sent != 1 {
		t.Fatalf("%d sent, error %v", sent, err)
	}
}
