package server

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// eventsField is the field number of WatchResponse.Events.
const eventsField = 11

// sendFragments sends r in parts smaller than limit bytes, events in order,
// Fragment set on all parts but the last. A part has at least one event,
// however large. A response below the limit goes out as it is.
func sendFragments(r *pb.WatchResponse, limit int, send func(*pb.WatchResponse) error) error {
	if len(r.Events) < 2 || proto.Size(r) < limit {
		return send(r)
	}
	frame := proto.Size(fragmentOf(r, nil, true))
	for rest := r.Events; len(rest) > 0; {
		n := fragmentLen(rest, frame, limit)
		part := fragmentOf(r, rest[:n:n], n < len(rest))
		rest = rest[n:]
		if err := send(part); err != nil {
			return err
		}
	}
	return nil
}

// fragmentLen is how many of the events fit below limit together with frame
// bytes around them; at least one.
func fragmentLen(events []*mvccpb.Event, frame, limit int) int {
	size := frame
	for i, e := range events {
		size += protowire.SizeTag(eventsField) + protowire.SizeBytes(proto.Size(e))
		if i > 0 && size >= limit {
			return i
		}
	}
	return len(events)
}

func fragmentOf(r *pb.WatchResponse, events []*mvccpb.Event, more bool) *pb.WatchResponse {
	return &pb.WatchResponse{
		Header:          r.Header,
		WatchId:         r.WatchId,
		Created:         r.Created,
		Canceled:        r.Canceled,
		CompactRevision: r.CompactRevision,
		CancelReason:    r.CancelReason,
		Fragment:        more,
		Events:          events,
	}
}
