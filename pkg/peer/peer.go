package peer

import (
	"context"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Handler is the node behind a Transport. All methods may be called concurrently.
type Handler interface {
	// Receive takes a message. It must not block: it is called on the goroutine that
	// reads the sender's connection. Messages of one sender come in the order in which
	// they were sent, but for those that were lost.
	Receive(from elect.NodeID, m elect.Message)
	// Follow serves a Replica until the stream ends, its Replica goes, ctx ends, or
	// the node is no longer the Primary of the epoch it has opened the stream in. An
	// error that is a gRPC status is told to the Replica as it is, any other as
	// Aborted with its text. Nil ends the stream with io.EOF on the Replica's side.
	// The stream must not be used after it returns.
	Follow(ctx context.Context, s FollowStream) error
	// Forward answers one request of a client of another node. What went wrong is in
	// the response; nil is told as Unavailable. A request of a kind that this version
	// does not know has no Request. ctx ends when the caller waits no longer, and at
	// its deadline.
	Forward(ctx context.Context, r *peerpb.ForwardRequest) *peerpb.ForwardResponse
	// Committed returns an id at or above that of every row that was acknowledged
	// before it was called, confirmed by the Primary of the epoch after it was called.
	// Errors are told as those of Follow.
	Committed(ctx context.Context, epoch sqllog.Epoch) (sqllog.ID, error)
	// State describes the node. It does not block.
	State() *peerpb.NodeState
	// HandOver has this node, the Primary, make another one Primary, any other one if
	// to is 0, and returns the one that is heard then. Errors are told as those of
	// Follow; this node then goes on as it was.
	HandOver(ctx context.Context, to elect.NodeID) (elect.NodeID, error)
}

// Peer is another node.
type Peer struct {
	ID      elect.NodeID
	Name    string
	Address string // host:port of its Transport; "" if it is not known
}

// FollowOpen is what a Replica says of its log.
type FollowOpen struct {
	Promised sqllog.Epoch   // durably
	Last     elect.Position // its newest row; zero for an empty log
}

// FollowOpened is what the Primary answers.
type FollowOpened struct {
	Epoch sqllog.Epoch // of the Primary: every frame is of it
	// TruncateTo is the last row that both logs have. The Replica removes what it has
	// after it, and the first frame follows it.
	TruncateTo elect.Position
}

// FollowStream is the Primary's side of a Follow stream. Opened is called once, before
// Send. One goroutine may send while another one receives.
type FollowStream interface {
	// From is the Replica, as its Hello and certificate say.
	From() elect.NodeID
	// Name is its name.
	Name() string
	// Open is what it said first.
	Open() FollowOpen
	// Opened answers it. It may block as Send does.
	Opened(o FollowOpened) error
	// Send sends a frame. It blocks while the Replica does not take what was sent
	// before; some MiB fit between the two. An error means that the stream has ended.
	// ErrFrame: the frame breaks the rules; nothing was sent.
	Send(f *Frame) error
	// Receipt blocks for the next receipt and returns the id up to which the Replica
	// holds the rows on disk. It gives an error when the Replica has ended the stream,
	// which ends the context of the handler too, or after the handler has returned.
	Receipt() (sqllog.ID, error)
}
