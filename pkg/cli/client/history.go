package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/urfave/cli/v3"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
)

const historyDescription = `Prints what is kept of a key, the oldest first: a line for each change with its revision, PUT or DELETE, and the value. What
compaction has taken is not there; the value that it has kept is, with the revision at which it was written.`

// progressEvery is how often a watch is asked whether it has sent everything.
const progressEvery = 100 * time.Millisecond

func newHistory(c Config) *cli.Command {
	escaped := false
	return c.command(spec{
		name: "history", usage: "show the revisions of a key that are kept", args: "KEY", description: historyDescription,
		flags: []cli.Flag{newEscapedFlag(&escaped)},
		run: func(ctx context.Context, s *session) error {
			args, err := s.args(1, 1)
			if err != nil {
				return err
			}
			key, err := literal(args[0], escaped)
			if err == nil && len(key) == 0 {
				err = usagef("the key is empty")
			}
			if err != nil {
				return err
			}
			h := &history{servers: s.servers, key: key}
			if err := h.read(ctx); err != nil {
				return err
			}
			return s.printHistory(h)
		},
	})
}

// history is what a server has kept of a key.
type history struct {
	*servers
	key     []byte
	events  []*mvccpb.Event
	head    int64 // the revision up to which it is known
	compact int64 // what is before is gone; 0: nothing
}

// read reads the history: the value at the compacted revision, then every change after it. A compaction meanwhile has it begin
// anew.
func (h *history) read(ctx context.Context) error {
	for {
		err := h.servers.read(ctx, h.once)
		var gone compactedError
		if !errors.As(err, &gone) || gone.revision <= h.compact {
			return err
		}
		h.compact = gone.revision
	}
}

// compactedError says that a revision is gone, and which one is the oldest that is not.
type compactedError struct{ revision int64 }

// Error says so.
func (e compactedError) Error() string {
	return fmt.Sprintf("%v up to revision %d", errCompacted, e.revision)
}

func (h *history) once(ctx context.Context, conn *grpc.ClientConn) error {
	h.events = nil
	now, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: h.key, KeysOnly: true})
	if err != nil {
		return err
	}
	h.head = now.GetHeader().GetRevision()
	if h.compact > 0 {
		if err := h.oldest(ctx, conn); err != nil {
			return err
		}
	}
	return h.changes(ctx, conn)
}

// oldest reads what compaction has left.
func (h *history) oldest(ctx context.Context, conn *grpc.ClientConn) error {
	kept, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: h.key, Revision: h.compact})
	if err != nil {
		return err
	}
	for _, kv := range kept.GetKvs() {
		h.events = append(h.events, &mvccpb.Event{Type: mvccpb.PUT, Kv: kv})
	}
	return nil
}

// changes takes every change after the compacted revision up to the head from a watch. That it has sent all of them is known
// when it tells of progress up to there.
func (h *history) changes(ctx context.Context, conn *grpc.ClientConn) error {
	if h.compact >= h.head {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := startWatch(ctx, conn, &pb.WatchCreateRequest{Key: h.key, StartRevision: h.compact + 1})
	if err != nil {
		return err
	}
	asked := askForProgress(ctx, stream)
	defer func() {
		cancel()
		<-asked
	}()
	for {
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		if done, err := h.take(answer); done || err != nil {
			return err
		}
	}
}

// take handles an answer of the watch, and reports whether it was the last.
func (h *history) take(answer *pb.WatchResponse) (done bool, err error) {
	switch {
	case answer.GetCanceled() && answer.GetCompactRevision() > 0:
		return true, compactedError{answer.GetCompactRevision()}
	case answer.GetCanceled():
		return true, canceled(answer)
	case answer.GetCreated():
		return false, nil
	}
	for _, e := range answer.GetEvents() {
		if e.GetKv().GetModRevision() > h.head {
			return true, nil
		}
		h.events = append(h.events, e)
	}
	return len(answer.GetEvents()) == 0 && answer.GetHeader().GetRevision() >= h.head, nil
}

// askForProgress asks a watch for its progress until the context ends, again and again: etcd does not answer while it is still
// sending. The channel is closed when it has ended.
func askForProgress(ctx context.Context, stream pb.Watch_WatchClient) (ended <-chan struct{}) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(progressEvery)
		defer ticker.Stop()
		for {
			err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
			if err != nil {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}()
	return done
}

// historyJSON is the history of a key in JSON.
type historyJSON struct {
	Revision        int64       `json:"revision"`
	CompactRevision int64       `json:"compact_revision"`
	Key             []byte      `json:"key"`
	Events          []eventJSON `json:"events"`
}

func (s *session) printHistory(h *history) error {
	switch s.format {
	case formatJSON:
		return s.writeJSON(historyJSON{h.head, h.compact, h.key, eventsOf(h.events)})
	case formatTable:
		rows := [][]string{{"REVISION", "CHANGE", "VERSION", "LEASE", "VALUE"}}
		for _, e := range h.events {
			kv := e.GetKv()
			rows = append(rows, []string{strconv.FormatInt(kv.GetModRevision(), 10), e.GetType().String(), number(kv.GetVersion()), leaseOrDash(kv.GetLease()), Escape(kv.GetValue())})
		}
		return s.table(rows)
	}
	for _, e := range h.events {
		line := strconv.FormatInt(e.GetKv().GetModRevision(), 10) + " " + s.eventType(e)
		if e.GetType() == mvccpb.PUT {
			line += " " + Escape(e.GetKv().GetValue())
		}
		s.println(line)
	}
	return nil
}
