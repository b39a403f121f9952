package peer

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Follow serves a Replica.
func (s *service) Follow(stream peerpb.Peer_FollowServer) error {
	if !s.t.handling() {
		return errStops
	}
	defer s.t.handlers.Done()
	first, err := stream.Recv()
	if err != nil {
		return ending(stream.Context(), err)
	}
	f := &followServer{stream: stream, limit: s.t.cfg.MaxFrameBytes}
	f.from, f.name = caller(stream.Context())
	if f.open, err = decodeOpen(first.GetOpen()); err != nil {
		return malformed(err)
	}
	f.ctx, f.cancel = context.WithCancelCause(stream.Context())
	defer f.cancel(context.Canceled)
	err = s.t.cfg.Handler.Follow(f.ctx, f)
	if cause := context.Cause(f.ctx); errors.Is(cause, errBadReceipt) { // the reason of everything after it
		return malformed(cause)
	}
	return ending(stream.Context(), err)
}

func decodeOpen(p *peerpb.FollowOpen) (FollowOpen, error) {
	if p == nil {
		return FollowOpen{}, errors.New("the stream does not begin with an open")
	}
	d := decoder{}
	o := FollowOpen{Promised: d.epoch(p.GetPromised()), Last: d.position(p.GetLast())}
	return o, d.err
}

// followServer is the Primary's side of a Follow stream.
type followServer struct {
	stream peerpb.Peer_FollowServer
	ctx    context.Context // ends with the stream, with the reason
	cancel context.CancelCauseFunc
	from   elect.NodeID
	name   string
	open   FollowOpen
	limit  int

	mu      sync.Mutex
	sent    elect.Position // the newest row sent, or about to be
	receipt sqllog.ID
}

var _ FollowStream = (*followServer)(nil)

// From, Name and Open are what the Replica said.
func (f *followServer) From() elect.NodeID { return f.from }
func (f *followServer) Name() string       { return f.name }
func (f *followServer) Open() FollowOpen   { return f.open }

// Opened answers the Replica.
func (f *followServer) Opened(o FollowOpened) error {
	f.mu.Lock()
	f.sent = o.TruncateTo
	f.mu.Unlock()
	opened := &peerpb.FollowOpened{Epoch: int64(o.Epoch), TruncateTo: encodePosition(o.TruncateTo)}
	return f.stream.Send(&peerpb.FollowReply{Reply: &peerpb.FollowReply_Opened{Opened: opened}})
}

// Send sends a frame.
func (f *followServer) Send(frame *Frame) error {
	parts, err := frame.encode(f.limit)
	if err != nil {
		return err
	}
	if len(frame.Rows) > 0 {
		f.mu.Lock()
		sent := f.sent
		if sent == frame.Prev {
			f.sent = frame.Last() // its receipt may come before Send returns
		}
		f.mu.Unlock()
		if sent != frame.Prev {
			return fmt.Errorf("%w: it follows (%d, %d), not (%d, %d)", ErrFrame, frame.Prev.ID, frame.Prev.Epoch, sent.ID, sent.Epoch)
		}
	}
	for _, part := range parts {
		if err := f.stream.SendMsg(part); err != nil {
			return f.reason(err)
		}
	}
	return nil
}

// reason is why the stream has ended, as far as this side knows.
func (f *followServer) reason(err error) error {
	if cause := context.Cause(f.ctx); cause != nil {
		return cause
	}
	return err
}

// errBadReceipt: the Replica breaks the rules of the stream.
var errBadReceipt = errors.New("invalid receipt")

// Receipt waits for the next receipt.
func (f *followServer) Receipt() (sqllog.ID, error) {
	request, err := f.stream.Recv()
	if err == nil {
		err = f.take(request.GetReceipt())
	}
	if err != nil {
		f.cancel(err)
		return 0, context.Cause(f.ctx)
	}
	return sqllog.ID(request.GetReceipt().GetId()), nil
}

func (f *followServer) take(receipt *peerpb.Receipt) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := sqllog.ID(receipt.GetId())
	switch {
	case receipt == nil:
		return fmt.Errorf("%w: the stream goes on with something else", errBadReceipt)
	case id < f.receipt:
		return fmt.Errorf("%w: of row %d after that of row %d", errBadReceipt, id, f.receipt)
	case id > f.sent.ID:
		return fmt.Errorf("%w: of row %d, row %d was sent", errBadReceipt, id, f.sent.ID)
	}
	f.receipt = id
	return nil
}
