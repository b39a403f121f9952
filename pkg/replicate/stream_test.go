package replicate

import (
	"context"
	"io"
	"slices"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// errGone ends the streams of a node that has left.
var errGone = status.Error(codes.Unavailable, "the node is gone")

// stream is a stream of rows, from the Replica's side.
type stream struct {
	net              *network
	replica, primary elect.NodeID
	open             peer.FollowOpen
	common           peer.FollowOpened
	opened           chan peer.FollowOpened
	frames           chan *peer.Frame
	ctx              context.Context
	cancel           context.CancelCauseFunc
	over             chan struct{} // closed when the Primary serves it no longer
	err              error         // why; set before

	mu      sync.Mutex
	receipt sqllog.ID
	wake    chan struct{} // size one
}

// Follow implements Peers.
func (e *endpoint) Follow(ctx context.Context, to elect.NodeID, open peer.FollowOpen) (Following, error) {
	there, err := e.net.reach(ctx, e.self, to)
	if err != nil {
		return nil, err
	}
	s := &stream{
		net: e.net, replica: e.self, primary: to, open: open, opened: make(chan peer.FollowOpened, 1),
		frames: make(chan *peer.Frame, 16), wake: make(chan struct{}, 1), over: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	context.AfterFunc(there.ctx, func() { s.cancel(errGone) })
	context.AfterFunc(e.ctx, func() { s.cancel(errGone) })
	served := there.spawn(func() {
		defer close(s.over)
		s.err = there.m.Follow(s.ctx, streamSource{s})
	})
	if !served {
		s.Close()
		return nil, errGone
	}
	select {
	case s.common = <-s.opened:
		return s, nil
	case <-s.over:
		err = s.err
	case <-s.ctx.Done():
		err = context.Cause(s.ctx)
	}
	s.Close()
	return nil, err
}

func (s *stream) Opened() peer.FollowOpened { return s.common }

// Close implements Following.
func (s *stream) Close() { s.cancel(peer.ErrClosed) }

// Recv implements Following.
func (s *stream) Recv() (*peer.Frame, error) {
	var f *peer.Frame
	select {
	case f = <-s.frames:
	case <-s.ctx.Done():
		return nil, context.Cause(s.ctx)
	case <-s.over:
		select {
		case f = <-s.frames:
		default:
			if s.err == nil {
				return nil, io.EOF
			}
			return nil, s.err
		}
	}
	if err := s.net.speaks(s.ctx, s.primary, s.replica); err != nil {
		return nil, err
	}
	return f, nil
}

// Receipt implements Following.
func (s *stream) Receipt(id sqllog.ID) {
	s.mu.Lock()
	s.receipt = max(s.receipt, id)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// streamSource is a stream from the Primary's side.
type streamSource struct{ s *stream }

var _ peer.FollowStream = streamSource{}

func (p streamSource) From() elect.NodeID    { return p.s.replica }
func (p streamSource) Name() string          { return p.s.replica.String() }
func (p streamSource) Open() peer.FollowOpen { return p.s.open }

// Opened implements peer.FollowStream.
func (p streamSource) Opened(o peer.FollowOpened) error {
	if err := p.s.net.speaks(p.s.ctx, p.s.primary, p.s.replica); err != nil {
		return err
	}
	p.s.opened <- o
	return nil
}

// Send implements peer.FollowStream. The frame shares no memory with what comes out.
func (p streamSource) Send(f *peer.Frame) error {
	c := &peer.Frame{Prev: f.Prev, Committed: f.Committed, Uploaded: f.Uploaded, Rows: slices.Clone(f.Rows)}
	for i := range c.Rows {
		c.Rows[i].Key, c.Rows[i].Value = slices.Clone(c.Rows[i].Key), slices.Clone(c.Rows[i].Value)
	}
	select {
	case p.s.frames <- c:
		return nil
	case <-p.s.ctx.Done():
		return context.Cause(p.s.ctx)
	}
}

// Receipt implements peer.FollowStream.
func (p streamSource) Receipt() (sqllog.ID, error) {
	s := p.s
	select {
	case <-s.wake:
	case <-s.ctx.Done():
		return 0, context.Cause(s.ctx)
	case <-s.over:
		return 0, io.EOF
	}
	if err := s.net.speaks(s.ctx, s.replica, s.primary); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.receipt, nil
}

// speaks waits until a link is not silent.
func (w *network) speaks(ctx context.Context, from, to elect.NodeID) error {
	for {
		w.mu.Lock()
		silent, changed := w.silent[[2]elect.NodeID{from, to}], w.changed
		w.mu.Unlock()
		if !silent {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
