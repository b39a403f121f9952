package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Times between attempts to go on with a watch.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)

// errCompacted: the changes from the revision that is wanted on are not kept any more.
var errCompacted = errors.New("the history was compacted")

// follower is a watch that goes on, at any endpoint, until its context ends.
type follower struct {
	*servers
	request *pb.WatchCreateRequest // its StartRevision moves on
	note    func(format string, args ...any)
	on      func(context.Context, *pb.WatchResponse) error // takes answers with events; its error ends the watch

	began   bool // a server had the watch
	lost    bool // and the connection to it was lost
	refused int  // servers that did not take it, before one did
	pause   time.Duration
}

// run follows. It ends with the context's error, that of on, or one that no other attempt would change: errCompacted, a request
// that is refused, or no server in the beginning.
func (f *follower) run(ctx context.Context) error {
	for {
		err := f.follow(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case !mayGoOn(err) || !f.began && f.refused >= len(f.all):
			return describe(err)
		}
		if f.began && !f.lost {
			f.note("the connection is lost, trying again: %v", describe(err))
			f.lost = true
		}
		f.next()
		f.pause = min(max(2*f.pause, firstPause), lastPause)
		select {
		case <-ctx.Done():
		case <-time.After(f.pause):
		}
	}
}

// mayGoOn reports whether an error is one of the connection or of one server.
func mayGoOn(err error) bool {
	if _, ok := status.FromError(err); !ok {
		return false
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.Internal, codes.Unknown, codes.Aborted, codes.Canceled, codes.DeadlineExceeded, codes.ResourceExhausted:
		return true
	}
	return false
}

// follow watches on one connection until that ends.
func (f *follower) follow(ctx context.Context) error {
	conn, err := f.connect(ctx)
	if err != nil {
		f.refused = len(f.all) // by all of them
		return err
	}
	f.refused++
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if len(f.all) > 1 { // a server that hears no leader ends the watch, which then goes on elsewhere
		ctx = metadata.AppendToOutgoingContext(ctx, rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
	}
	stream, err := startWatch(ctx, conn, f.request)
	if err != nil {
		return err
	}
	for {
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := f.take(ctx, answer); err != nil {
			return err
		}
	}
}

// startWatch opens a stream with one watch.
func startWatch(ctx context.Context, conn *grpc.ClientConn, r *pb.WatchCreateRequest) (pb.Watch_WatchClient, error) {
	stream, err := pb.NewWatchClient(conn).Watch(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}})
	if err != nil {
		_, err = stream.Recv() // which has the reason
	}
	return stream, err
}

// take handles one answer, and moves the revision on from which another attempt would begin.
func (f *follower) take(ctx context.Context, answer *pb.WatchResponse) error {
	if err := canceled(answer); err != nil {
		return err
	}
	revision := answer.GetHeader().GetRevision()
	switch events := answer.GetEvents(); {
	case len(events) > 0:
		if err := f.on(ctx, answer); err != nil {
			return err
		}
		f.request.StartRevision = max(f.request.StartRevision, events[len(events)-1].GetKv().GetModRevision()+1)
	case answer.GetCreated():
		f.began, f.pause = true, 0
		if f.request.StartRevision == 0 {
			f.request.StartRevision = revision + 1
		}
		if f.lost {
			f.note("going on at %s from revision %d", f.name(), f.request.StartRevision)
			f.lost = false
		}
	default: // a progress notification: everything up to its revision was sent
		f.request.StartRevision = max(f.request.StartRevision, revision+1)
	}
	return nil
}

// canceled says why a server has ended a watch, if it has.
func canceled(answer *pb.WatchResponse) error {
	switch {
	case !answer.GetCanceled():
		return nil
	case answer.GetCompactRevision() > 0:
		return fmt.Errorf("%w up to revision %d; changes before it cannot be followed", errCompacted, answer.GetCompactRevision())
	case answer.GetCancelReason() != "":
		return fmt.Errorf("the server has ended the watch: %s", answer.GetCancelReason())
	}
	return errors.New("the server has ended the watch")
}
