package server

import (
	"context"
	"errors"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/mvcc"
)

// leaseServer is etcd's Lease service.
type leaseServer struct {
	*Server
	pb.UnsafeLeaseServer
}

var _ pb.LeaseServer = (*leaseServer)(nil)

// LeaseGrant creates a lease. The engine chooses an id for id 0, and raises a
// TTL below its minimum, zero and negative ones included, as etcd does.
func (s *leaseServer) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	resp, err := s.cfg.Lessor.LeaseGrant(ctx, r)
	if err != nil {
		return nil, toGRPC(err)
	}
	resp.Header = s.headerNow(resp.Header)
	return resp, nil
}

// LeaseRevoke ends a lease and deletes its keys.
func (s *leaseServer) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	resp, err := s.cfg.Lessor.LeaseRevoke(ctx, r)
	if err != nil {
		return nil, toGRPC(err)
	}
	resp.Header = s.headerNow(resp.Header)
	return resp, nil
}

// LeaseTimeToLive describes a lease; for one that does not exist the TTL is -1.
func (s *leaseServer) LeaseTimeToLive(
	ctx context.Context, r *pb.LeaseTimeToLiveRequest,
) (*pb.LeaseTimeToLiveResponse, error) {
	resp, err := s.cfg.Lessor.LeaseTimeToLive(ctx, r)
	if errors.Is(err, mvcc.ErrLeaseNotFound) {
		resp, err = &pb.LeaseTimeToLiveResponse{ID: r.ID, TTL: -1}, nil
	}
	if err != nil {
		return nil, toGRPC(err)
	}
	resp.Header = s.headerNow(resp.Header)
	return resp, nil
}

// LeaseLeases lists the leases.
func (s *leaseServer) LeaseLeases(ctx context.Context, _ *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	resp, err := s.cfg.Lessor.LeaseLeases(ctx)
	if err != nil {
		return nil, toGRPC(err)
	}
	resp.Header = s.headerNow(resp.Header)
	return resp, nil
}

// LeaseKeepAlive renews leases, one answer per request, in order, until the
// client closes the stream or the server stops.
func (s *leaseServer) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	ctx, cancel := s.streamContext(stream.Context())
	defer cancel(nil)
	requests := make(chan *pb.LeaseKeepAliveRequest)
	s.spawn(func() { receiveKeepAlives(ctx, cancel, stream, requests) })
	for {
		select {
		case <-ctx.Done():
			return toGRPC(context.Cause(ctx))
		case r, open := <-requests:
			if !open {
				return nil
			}
			if err := s.keepAlive(ctx, stream, r.ID); err != nil {
				return toGRPC(err)
			}
		}
	}
}

// receiveKeepAlives hands requests over until the stream ends. It closes
// requests when the client is done, and ends ctx with the reason otherwise.
func receiveKeepAlives(
	ctx context.Context, cancel context.CancelCauseFunc,
	stream pb.Lease_LeaseKeepAliveServer, requests chan<- *pb.LeaseKeepAliveRequest,
) {
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			close(requests)
			return
		}
		if err != nil {
			cancel(err)
			return
		}
		select {
		case requests <- r:
		case <-ctx.Done():
			return
		}
	}
}

// keepAlive renews one lease; one that does not exist is answered with TTL 0.
// The revision is taken before, so that a client never sees its lease alive at
// a revision at which it was gone.
func (s *leaseServer) keepAlive(ctx context.Context, stream pb.Lease_LeaseKeepAliveServer, id int64) error {
	resp := &pb.LeaseKeepAliveResponse{Header: s.headerAt(s.cfg.Watcher.Revision()), ID: id}
	ttl, err := s.cfg.Lessor.LeaseKeepAlive(ctx, id)
	if err == nil {
		resp.TTL = ttl
	} else if !errors.Is(err, mvcc.ErrLeaseNotFound) {
		return err
	}
	return stream.Send(resp)
}
