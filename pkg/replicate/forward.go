package replicate

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/peer"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// patience for a Primary while there is none: a request that was not sent anywhere
// may wait for the end of an election.
const leaderPatience = 5 * time.Second

// forward has a client's request answered by the Primary, wherever that is: here by
// local, elsewhere by what request makes. What was sent is never sent again.
func (m *Member) forward(ctx context.Context, local func(*Primary) error, request func() *peerpb.ForwardRequest, answer func(*peerpb.ForwardResponse) error) error {
	ctx, end := m.untilClosed(ctx)
	defer end()
	patience, cancel := context.WithTimeout(ctx, leaderPatience)
	defer cancel()
	for {
		node, epoch, err := m.leader.await(patience, 0)
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			m.logger.Warn("a request found no primary in time")
			return fmt.Errorf("%w: no primary is known", ErrNotPrimary)
		}
		if node == m.self {
			err = errNotSentYet
			if p := m.primary(); p != nil {
				err = local(p)
			}
			if errors.Is(err, errHandingOver) {
				err = errNotSentYet
			}
		} else {
			err = m.forwardTo(ctx, node, epoch, request(), answer)
		}
		if !errors.Is(err, errNotSentYet) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if patience.Err() != nil {
			m.logger.WithError(err).WithField("primary", node).Warn("a request found no primary in time")
			return fmt.Errorf("%w: %w", ErrNotPrimary, err)
		}
		pause(patience, followFirst)
	}
}

// errNotSentYet: the request had no effect, and may be sent.
var errNotSentYet = errors.New("request was not sent")

func (m *Member) forwardTo(ctx context.Context, node elect.NodeID, epoch sqllog.Epoch, r *peerpb.ForwardRequest, answer func(*peerpb.ForwardResponse) error) error {
	r.Epoch = int64(epoch)
	resp, err := m.peers.Forward(ctx, node, r)
	switch {
	case errors.Is(err, peer.ErrNotSent), errors.Is(err, peer.ErrUnknownPeer):
		return fmt.Errorf("%w: %w", errNotSentYet, err)
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if s := resp.GetError(); s != nil {
		return forwarded(s)
	}
	if resp.Applied > 0 {
		if err := m.applier.reached.wait(ctx, sqllog.ID(resp.Applied)); err != nil {
			return err
		}
	}
	return answer(resp)
}

// refusedText is what a node says that is not the Primary of the epoch asked for.
const refusedText = "kinsy: not the primary of this epoch"

// forwarded is an error of the Primary, as its clients get it.
func forwarded(s *peerpb.Status) error {
	switch err := status.Error(codes.Code(s.Code), s.Message); {
	case s.Message == refusedText:
		return fmt.Errorf("%w: %w", errNotSentYet, err)
	case s.Message == leaseNotFoundText:
		return mvcc.ErrLeaseNotFound
	default:
		return err
	}
}

// leaseNotFoundText is etcd's.
const leaseNotFoundText = "etcdserver: requested lease not found"

// Forward answers a client of another node: peer.Handler.
func (m *Member) Forward(ctx context.Context, r *peerpb.ForwardRequest) *peerpb.ForwardResponse {
	p := m.primary()
	if p == nil || r.Epoch != 0 && sqllog.Epoch(r.Epoch) != p.quorum.cfg.Cluster.Epoch {
		return refusal(status.Error(codes.Unavailable, refusedText))
	}
	resp := &peerpb.ForwardResponse{Epoch: int64(p.quorum.cfg.Cluster.Epoch)}
	err := serveForwarded(ctx, p, r, resp)
	switch {
	case errors.Is(err, errHandingOver):
		return refusal(status.Error(codes.Unavailable, refusedText))
	case err != nil:
		return refusal(m.cfg.Status(err))
	}
	applied := m.store.Head().ID
	p.quorum.recent.want(applied) // the node waits for it
	resp.Applied = int64(applied)
	return resp
}

func refusal(err error) *peerpb.ForwardResponse {
	s := status.Convert(err)
	return &peerpb.ForwardResponse{Response: &peerpb.ForwardResponse_Error{
		Error: &peerpb.Status{Code: uint32(s.Code()), Message: s.Message()},
	}}
}

// serveForwarded answers a request of another node's client.
func serveForwarded(ctx context.Context, p *Primary, r *peerpb.ForwardRequest, resp *peerpb.ForwardResponse) error {
	switch r := r.Request.(type) {
	case *peerpb.ForwardRequest_Txn:
		answer, err := p.Txn(ctx, r.Txn)
		resp.Response = &peerpb.ForwardResponse_Txn{Txn: answer}
		return err
	case *peerpb.ForwardRequest_LeaseGrant:
		answer, err := p.LeaseGrant(ctx, r.LeaseGrant)
		resp.Response = &peerpb.ForwardResponse_LeaseGrant{LeaseGrant: answer}
		return err
	case *peerpb.ForwardRequest_LeaseRevoke:
		answer, err := p.LeaseRevoke(ctx, r.LeaseRevoke)
		resp.Response = &peerpb.ForwardResponse_LeaseRevoke{LeaseRevoke: answer}
		return err
	case *peerpb.ForwardRequest_LeaseKeepAlive:
		ttl, err := p.LeaseKeepAlive(ctx, r.LeaseKeepAlive.GetID())
		resp.Response = &peerpb.ForwardResponse_LeaseKeepAlive{
			LeaseKeepAlive: &pb.LeaseKeepAliveResponse{ID: r.LeaseKeepAlive.GetID(), TTL: ttl},
		}
		return err
	case *peerpb.ForwardRequest_LeaseTimeToLive:
		answer, err := p.LeaseTimeToLive(ctx, r.LeaseTimeToLive)
		resp.Response = &peerpb.ForwardResponse_LeaseTimeToLive{LeaseTimeToLive: answer}
		return err
	case *peerpb.ForwardRequest_LeaseLeases:
		answer, err := p.LeaseLeases(ctx)
		resp.Response = &peerpb.ForwardResponse_LeaseLeases{LeaseLeases: answer}
		return err
	case *peerpb.ForwardRequest_Compact:
		rev, err := p.Compact(ctx, r.Compact.GetRevision(), r.Compact.GetPhysical())
		resp.Response = &peerpb.ForwardResponse_Compact{
			Compact: &pb.CompactionResponse{Header: &pb.ResponseHeader{Revision: rev}},
		}
		return err
	}
	return status.Error(codes.Unimplemented, "kinsy: request is not known to the primary")
}

// Committed confirms reads of another node: peer.Handler.
func (m *Member) Committed(ctx context.Context, epoch sqllog.Epoch) (sqllog.ID, error) {
	p := m.primary()
	if p == nil || epoch != 0 && epoch != p.quorum.cfg.Cluster.Epoch {
		return 0, status.Error(codes.Unavailable, refusedText)
	}
	id := m.store.Head().ID
	if err := m.confirmPrimary(ctx); err != nil {
		return 0, m.cfg.Status(err)
	}
	p.quorum.recent.want(id) // the node waits for it
	return id, nil
}
