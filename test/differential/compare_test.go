package differential

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

// ttlSlack is by how many seconds the remaining TTL of a lease may differ.
const ttlSlack = 2

type rangeRequest = *pb.RangeRequest

// outcome is what one server answered.
type outcome struct {
	resp proto.Message
	err  error
}

// identity is what a server calls itself; it must never change.
type identity struct{ cluster, member uint64 }

// checkHeader takes the ids and the raft term out of the header, after checking that they are there and stay.
func (p *peer) checkHeader(h *pb.ResponseHeader, id *identity) error {
	if h == nil {
		return nil
	}
	got := identity{h.ClusterId, h.MemberId}
	if got.cluster == 0 || got.member == 0 {
		return fmt.Errorf("%s: header without cluster or member id: %v", p.name, h)
	}
	if *id == (identity{}) {
		*id = got
	}
	if got != *id {
		return fmt.Errorf("%s: header names %v, earlier ones %v", p.name, got, *id)
	}
	h.ClusterId, h.MemberId, h.RaftTerm = 0, 0, 0
	return nil
}

// compare returns a description of how the answers differ, or "".
func compare(a, b outcome) string {
	if a.err != nil || b.err != nil {
		return compareErrors(a, b)
	}
	alignTTL(a.resp, b.resp)
	for _, m := range []proto.Message{a.resp, b.resp} {
		sortUnordered(m)
	}
	if proto.Equal(a.resp, b.resp) {
		return ""
	}
	return describe(a.resp, b.resp)
}

func compareErrors(a, b outcome) string {
	if a.err != nil && b.err != nil {
		x, y := status.Convert(a.err), status.Convert(b.err)
		if x.Code() == y.Code() && x.Message() == y.Message() && len(x.Details()) == len(y.Details()) {
			return ""
		}
	}
	return fmt.Sprintf("etcd:    %s\nsubject: %s", a, b)
}

func (o outcome) String() string {
	if o.err == nil {
		return text(o.resp)
	}
	s := status.Convert(o.err)
	return fmt.Sprintf("error %s: %s", s.Code(), s.Message())
}

func describe(a, b proto.Message) string {
	diff := squeeze(cmp.Diff(a, b, protocmp.Transform()))
	if len(diff) > 2*maxText {
		diff = diff[:2*maxText] + "..."
	}
	return fmt.Sprintf("etcd:    %s\nsubject: %s\ndiff (-etcd +subject):\n%s", text(a), text(b), diff)
}

// alignTTL makes remaining TTLs equal that are nearly so.
func alignTTL(a, b proto.Message) {
	x, ok := a.(*pb.LeaseTimeToLiveResponse)
	y, ok2 := b.(*pb.LeaseTimeToLiveResponse)
	if ok && ok2 && x.TTL >= 0 && y.TTL >= 0 && max(x.TTL-y.TTL, y.TTL-x.TTL) <= ttlSlack {
		y.TTL = x.TTL
	}
}

// sortUnordered sorts what etcd answers in the order of a Go map: the keys of a lease, and the leases as
// leases with one expiry have no order between them.
func sortUnordered(m proto.Message) {
	switch r := m.(type) {
	case *pb.LeaseTimeToLiveResponse:
		slices.SortFunc(r.Keys, bytes.Compare)
	case *pb.LeaseLeasesResponse:
		slices.SortFunc(r.Leases, func(x, y *pb.LeaseStatus) int {
			if x.ID < y.ID {
				return -1
			}
			return 1
		})
	}
}

// eventList makes the events of one watch comparable and printable.
func eventList(id int64, events []*mvccpb.Event) *pb.WatchResponse {
	return &pb.WatchResponse{WatchId: id, Events: events}
}

// unavailable says whether the error may come from a server that has died.
func unavailable(err error) bool {
	c := status.Code(err)
	return err != nil && (c == codes.Unavailable || c == codes.Canceled || c == codes.DeadlineExceeded || c == codes.Unknown)
}
