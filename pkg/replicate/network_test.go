package replicate

import (
	"context"
	"slices"
	"sync"

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

// spawn runs what a node does for another one, unless it has left.
func (e *endpoint) spawn(fn func()) bool {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	if e.ctx.Err() != nil {
		return false
	}
	e.wg.Go(fn)
	return true
}

// leave takes a node off the network, at once.
func (e *endpoint) leave() {
	e.net.change(func() {
		if e.net.handler[e.self] == e {
			delete(e.net.handler, e.self)
		}
		e.cancel()
	})
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

// callAt runs fn at another node, and gives its answer once the links let it.
func callAt[T any](ctx context.Context, e *endpoint, to elect.NodeID, fn func(context.Context, peer.Handler) T) (out T, err error) {
	there, err := e.net.reach(ctx, e.self, to)
	if err != nil {
		return out, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(there.ctx, cancel)()
	defer context.AfterFunc(e.ctx, cancel)()
	answer := make(chan T, 1)
	if !there.spawn(func() { answer <- fn(ctx, there.m) }) {
		return out, peer.ErrNotSent
	}
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
	return callAt(ctx, e, to, func(ctx context.Context, m peer.Handler) *peerpb.ForwardResponse {
		return proto.CloneOf(m.Forward(ctx, r))
	})
}

// Committed implements Peers.
func (e *endpoint) Committed(ctx context.Context, to elect.NodeID, epoch sqllog.Epoch) (sqllog.ID, error) {
	type answer struct {
		id  sqllog.ID
		err error
	}
	a, err := callAt(ctx, e, to, func(ctx context.Context, m peer.Handler) answer {
		id, err := m.Committed(ctx, epoch)
		return answer{id, err}
	})
	if err != nil {
		return 0, err
	}
	return a.id, a.err
}
