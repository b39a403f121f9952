package replicate

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// network connects the Members of a test. A link from one node to another may be
// silent: messages on it are lost, streams and calls hang. A node that is not there
// refuses everything at once.
type network struct {
	mu      sync.Mutex
	handler map[elect.NodeID]*endpoint
	silent  map[[2]elect.NodeID]bool
	lose    func(from, to elect.NodeID, msg elect.Message) bool // nil loses nothing
	changed chan struct{}                                       // closed when a link or node changes
}

func newNetwork() *network {
	return &network{handler: make(map[elect.NodeID]*endpoint), silent: make(map[[2]elect.NodeID]bool), changed: make(chan struct{})}
}

// endpoint is a node on the network. It is the Peers of its Member.
type endpoint struct {
	net    *network
	self   elect.NodeID
	m      peer.Handler
	inbox  chan message
	ctx    context.Context // ends when the node leaves
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

type message struct {
	from elect.NodeID
	msg  elect.Message
}

// errGone ends what a node served that has left.
var errGone = status.Error(codes.Unavailable, "the node is gone")

func (w *network) endpoint(self elect.NodeID) *endpoint {
	e := &endpoint{net: w, self: self, inbox: make(chan message, 4096)}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

// serve lets others reach a node.
func (e *endpoint) serve(m peer.Handler) {
	e.m = m
	e.wg.Go(func() {
		for {
			select {
			case in := <-e.inbox:
				m.Receive(in.from, in.msg)
			case <-e.ctx.Done():
				return
			}
		}
	})
	e.net.change(func() { e.net.handler[e.self] = e })
}

// leave takes a node off the network, at once.
func (e *endpoint) leave() {
	e.net.change(func() {
		if e.net.handler[e.self] == e {
			delete(e.net.handler, e.self)
		}
	})
	e.cancel()
}

func (w *network) change(fn func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fn()
	close(w.changed)
	w.changed = make(chan struct{})
}

// hush makes the link from one node to another silent, or lets it speak again.
func (w *network) hush(from, to elect.NodeID, on bool) {
	w.change(func() { w.silent[[2]elect.NodeID{from, to}] = on })
}

// reach gives the other end of a link, once it is not silent; ErrNotSent if nobody is
// there.
func (w *network) reach(ctx context.Context, from, to elect.NodeID) (*endpoint, error) {
	for {
		w.mu.Lock()
		e, silent, changed := w.handler[to], w.silent[[2]elect.NodeID{from, to}], w.changed
		w.mu.Unlock()
		switch {
		case !silent && e == nil:
			return nil, peer.ErrNotSent
		case !silent:
			return e, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Send implements Peers.
func (e *endpoint) Send(to elect.NodeID, m elect.Message) {
	w := e.net
	w.mu.Lock()
	defer w.mu.Unlock()
	there := w.handler[to]
	if there == nil || w.handler[e.self] != e || w.silent[[2]elect.NodeID{e.self, to}] || w.lose != nil && w.lose(e.self, to, m) {
		return
	}
	if a, ok := m.(elect.Appoint); ok {
		a.Cluster.Members = slices.Clone(a.Cluster.Members)
		m = a
	}
	select {
	case there.inbox <- message{e.self, m}:
	default:
	}
}

// call runs fn at another node, and gives its answer once the links let it.
func call2[T any](ctx context.Context, e *endpoint, to elect.NodeID, fn func(context.Context, peer.Handler) T) (out T, err error) {
	there, err := e.net.reach(ctx, e.self, to)
	if err != nil {
		return out, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(there.ctx, cancel)()
	defer context.AfterFunc(e.ctx, cancel)()
	answer := make(chan T, 1)
	there.wg.Go(func() { answer <- fn(ctx, there.m) })
	select {
	case out = <-answer:
	case <-ctx.Done():
		return out, peer.ErrUnknownOutcome
	}
	if _, err := e.net.reach(ctx, to, e.self); err != nil {
		return out, peer.ErrUnknownOutcome
	}
	return out, nil
}

// Forward implements Peers.
func (e *endpoint) Forward(ctx context.Context, to elect.NodeID, r *peerpb.ForwardRequest) (*peerpb.ForwardResponse, error) {
	r = proto.CloneOf(r)
	return call2(ctx, e, to, func(ctx context.Context, m peer.Handler) *peerpb.ForwardResponse {
		return proto.CloneOf(m.Forward(ctx, r))
	})
}

// Committed implements Peers.
func (e *endpoint) Committed(ctx context.Context, to elect.NodeID, epoch sqllog.Epoch) (sqllog.ID, error) {
	type answer struct {
		id  sqllog.ID
		err error
	}
	a, err := call2(ctx, e, to, func(ctx context.Context, m peer.Handler) answer {
		id, err := m.Committed(ctx, epoch)
		return answer{id, err}
	})
	if err != nil {
		return 0, err
	}
	return a.id, a.err
}

// Follow implements Peers.
func (e *endpoint) Follow(ctx context.Context, to elect.NodeID, open peer.FollowOpen) (Following, error) {
	there, err := e.net.reach(ctx, e.self, to)
	if err != nil {
		return nil, err
	}
	s := &stream{net: e.net, replica: e.self, primary: to, open: open, frames: make(chan *peer.Frame, 16), opened: make(chan peer.FollowOpened, 1), wake: make(chan struct{}, 1), over: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	context.AfterFunc(there.ctx, func() { s.cancel(errGone) })
	context.AfterFunc(e.ctx, func() { s.cancel(errGone) })
	there.wg.Go(func() {
		defer close(s.over)
		s.err = there.m.Follow(s.ctx, s)
	})
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

// stream is both ends of a stream of rows.
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

func (s *stream) From() elect.NodeID          { return s.replica }
func (s *stream) Name() string                { return s.replica.String() }
func (s *stream) Open() peer.FollowOpen       { return s.open }
func (s *stream) Opened() peer.FollowOpened   { return s.common }
func (s *stream) primarySide() peer.FollowStream { return primarySide{s} }

// Close implements Following.
func (s *stream) Close() { s.cancel(peer.ErrClosed) }
