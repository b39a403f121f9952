package peer

import (
	"context"
	"fmt"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
)

// HandOver asks the node at an address, the Primary, to make another one Primary; to
// is 0 for any other one. It returns the Primary that is heard then. It blocks until
// the answer came or ctx ends; what was asked for may still happen then. Errors of the
// node come as gRPC statuses; ErrRefused if it is a node of another cluster, for
// example.
func (t *Transport) HandOver(ctx context.Context, address string, to elect.NodeID) (elect.NodeID, error) {
	lane, err := t.openLane(ctx, Peer{Address: address})
	if err != nil {
		return 0, err
	}
	defer lane.close(ErrClosed)
	defer context.AfterFunc(ctx, func() { lane.end(context.Cause(ctx)) })()
	answer, err := lane.client.HandOver(lane.ctx, &peerpb.HandOverRequest{To: uint64(to)})
	if err != nil {
		return 0, fmt.Errorf("hand over: %w", lane.explain(err))
	}
	return elect.NodeID(answer.GetPrimary()), nil
}

// HandOver has this node hand over.
func (s *service) HandOver(ctx context.Context, r *peerpb.HandOverRequest) (*peerpb.HandOverResponse, error) {
	if !s.t.handling() {
		return nil, errStops
	}
	defer s.t.handlers.Done()
	ctx, cancel := s.t.serving(ctx)
	defer cancel()
	primary, err := s.t.cfg.Handler.HandOver(ctx, elect.NodeID(r.GetTo()))
	if err != nil {
		return nil, ending(ctx, err)
	}
	return &peerpb.HandOverResponse{Primary: uint64(primary)}, nil
}
