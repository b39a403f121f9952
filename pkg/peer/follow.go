package peer

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Following is the Replica's side of a Follow stream. Receipt, by one goroutine at a
// time, and Close may be called concurrently with Recv.
type Following struct {
	lane   *lane
	stream peerpb.Peer_FollowClient
	opened FollowOpened
	limit  int // Config.MaxFrameBytes
	unbind func() bool

	last elect.Position // of Recv: the newest row received
	sent sqllog.ID      // of Receipt
}

// Follow opens a stream of rows from a Primary, on a connection of its own, and waits
// for its answer; ctx is that of the whole stream. Close must be called, unless there
// is an error: that of the Primary's handler as a gRPC status, or ErrRefused (also
// where its epoch is below open.Promised), ErrUnknownPeer, or what broke the
// connection.
func (t *Transport) Follow(ctx context.Context, to elect.NodeID, open FollowOpen) (*Following, error) {
	l := t.link(to)
	if l == nil {
		return nil, ErrUnknownPeer
	}
	lane, err := t.openLane(ctx, l.peer)
	if err != nil {
		return nil, err
	}
	f := &Following{lane: lane, limit: t.cfg.MaxFrameBytes}
	f.unbind = context.AfterFunc(ctx, func() { lane.end(context.Cause(ctx)) })
	if err := f.open(open); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (f *Following) open(open FollowOpen) error {
	stream, err := f.lane.client.Follow(f.lane.ctx)
	if err != nil {
		return f.reason(err)
	}
	f.stream = stream
	request := &peerpb.FollowOpen{Promised: int64(open.Promised), Last: encodePosition(open.Last)}
	_ = stream.Send(&peerpb.FollowRequest{Request: &peerpb.FollowRequest_Open{Open: request}}) // Recv has the reason
	reply, err := stream.Recv()
	if err != nil {
		return f.reason(err)
	}
	f.opened, err = decodeOpened(reply.GetOpened(), open)
	f.last = f.opened.TruncateTo
	return err
}

// decodeOpened checks what a Primary answered.
func decodeOpened(p *peerpb.FollowOpened, open FollowOpen) (FollowOpened, error) {
	if p == nil {
		return FollowOpened{}, fmt.Errorf("%w: the stream begins with something else", ErrFrame)
	}
	d := decoder{}
	o := FollowOpened{Epoch: d.epoch(p.GetEpoch()), TruncateTo: d.position(p.GetTruncateTo())}
	switch {
	case d.err != nil:
		return o, fmt.Errorf("%w: %w", ErrFrame, d.err)
	case o.Epoch < 1 || o.Epoch < open.Promised:
		return o, fmt.Errorf("%w: the stream is of epoch %d, %d is promised", ErrRefused, o.Epoch, open.Promised)
	case o.TruncateTo.ID > open.Last.ID || o.TruncateTo.Epoch > open.Last.Epoch:
		return o, fmt.Errorf("%w: truncate to (%d, %d) where the log ends at (%d, %d)", ErrFrame,
			o.TruncateTo.ID, o.TruncateTo.Epoch, open.Last.ID, open.Last.Epoch)
	}
	return o, nil
}

// Opened is what the Primary answered.
func (f *Following) Opened() FollowOpened { return f.opened }

// Recv blocks for the next frame, all of it, and checks it: that its rows are valid,
// follow what was received before (or FollowOpened.TruncateTo), and are of no epoch
// above that of the stream. The rows share no memory with anything else. Errors, after
// which the stream has ended: io.EOF where the Primary ended it without a reason, a
// gRPC status where it had one, ErrFrame, the cause of ctx, ErrClosed. It is called by
// one goroutine at a time.
func (f *Following) Recv() (*Frame, error) {
	frame := &Frame{Prev: f.last}
	check := &frameChecker{last: f.last, limit: f.limit, maxEpoch: f.opened.Epoch}
	for {
		reply, err := f.stream.Recv()
		if err != nil {
			return nil, f.reason(err)
		}
		more, err := frame.add(reply.GetPart(), check)
		if err != nil {
			f.lane.end(err)
			return nil, err
		}
		if !more {
			f.last = check.last
			return frame, nil
		}
	}
}

// add adds the next part of a frame and reports whether there are more.
func (f *Frame) add(part *peerpb.FramePart, check *frameChecker) (more bool, err error) {
	if part == nil {
		return false, fmt.Errorf("%w: the stream goes on with something else", ErrFrame)
	}
	d := decoder{}
	prev, committed, uploaded := d.position(part.GetPrev()), d.id(part.GetCommitted()), d.id(part.GetUploaded())
	rows := part.GetRows()
	switch {
	case d.err != nil:
		return false, fmt.Errorf("%w: %w", ErrFrame, d.err)
	case len(rows) == 0 && part.GetMore():
		return false, fmt.Errorf("%w: an empty part", ErrFrame)
	case len(rows) > 0 && prev != check.last:
		return false, fmt.Errorf("%w: it follows (%d, %d), not (%d, %d)", ErrFrame, prev.ID, prev.Epoch, check.last.ID, check.last.Epoch)
	}
	n := len(f.Rows)
	if f.Rows, err = decodeRows(rows, f.Rows); err != nil {
		return false, err
	}
	if err := check.add(f.Rows[n:]); err != nil {
		return false, err
	}
	f.Committed, f.Uploaded = committed, uploaded
	return part.GetMore(), nil
}

// Receipt says that the rows up to id are on disk. It blocks only where the Primary has
// not taken some thousand receipts, until it does or the stream ends; Recv has the reason
// of that.
func (f *Following) Receipt(id sqllog.ID) {
	if id <= f.sent {
		return
	}
	f.sent = id
	_ = f.stream.Send(&peerpb.FollowRequest{Request: &peerpb.FollowRequest_Receipt{Receipt: &peerpb.Receipt{Id: int64(id)}}})
}

// Close ends the stream, and waits for its goroutines but not for Recv, which returns
// ErrClosed. It may be called more than once.
func (f *Following) Close() {
	f.unbind()
	f.lane.close(ErrClosed)
}

// reason is why the stream has ended: what the Primary said, or else why the lane
// ended.
func (f *Following) reason(err error) error {
	if s, ok := status.FromError(err); ok && (s.Code() == codes.Canceled || s.Code() == codes.Unavailable) {
		if cause := context.Cause(f.lane.ctx); cause != nil {
			return cause
		}
	}
	return err
}
