package peer

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/pkg/peer/peerpb"
)

// State asks the node at an address, whoever it is, for its state. It blocks until the
// answer came or ctx ends. ErrRefused if it is a node of another cluster, for example.
func (t *Transport) State(ctx context.Context, address string) (*peerpb.NodeState, error) {
	lane, err := t.openLane(ctx, Peer{Address: address})
	if err != nil {
		return nil, err
	}
	defer lane.close(ErrClosed)
	defer context.AfterFunc(ctx, func() { lane.end(context.Cause(ctx)) })()
	state, err := lane.client.State(lane.ctx, &peerpb.StateRequest{})
	if err != nil {
		return nil, lane.explain(err)
	}
	return state, nil
}

// State answers with the state of this node.
func (s *service) State(context.Context, *peerpb.StateRequest) (*peerpb.NodeState, error) {
	state := s.t.cfg.Handler.State()
	if state == nil {
		return nil, status.Error(codes.Unavailable, "no state")
	}
	return state, nil
}
