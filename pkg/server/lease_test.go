package server

import (
	"context"
	"errors"
	"io"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/replicate"
)

func TestLeaseGrant(t *testing.T) {
	h := start(t, ProfileNetsy)
	resp, err := h.lease.LeaseGrant(testContext(t), &pb.LeaseGrantRequest{ID: 5, TTL: 30})
	if err != nil {
		t.Fatal(err)
	}
	wantHeader(t, resp.Header, fakeRevision)
	for engine, want := range map[error]error{
		mvcc.ErrLeaseExists:      rpctypes.ErrGRPCLeaseExist,
		mvcc.ErrLeaseTTLTooLarge: rpctypes.ErrGRPCLeaseTTLTooLarge,
	} {
		h.engine.fail = engine
		_, err = h.lease.LeaseGrant(testContext(t), &pb.LeaseGrantRequest{ID: 5, TTL: 30})
		wantError(t, err, want)
	}
}

func TestLeaseRevoke(t *testing.T) {
	h := start(t, ProfileEtcd)
	resp, err := h.lease.LeaseRevoke(testContext(t), &pb.LeaseRevokeRequest{ID: 5})
	if err != nil {
		t.Fatal(err)
	}
	wantHeader(t, resp.Header, fakeRevision)
	h.engine.fail = mvcc.ErrLeaseNotFound
	_, err = h.lease.LeaseRevoke(testContext(t), &pb.LeaseRevokeRequest{ID: 5})
	wantError(t, err, rpctypes.ErrGRPCLeaseNotFound)
}

func TestLeaseTimeToLive(t *testing.T) {
	h := start(t, ProfileEtcd)
	resp, err := h.lease.LeaseTimeToLive(testContext(t), &pb.LeaseTimeToLiveRequest{ID: 5})
	if err != nil || resp.TTL != 5 {
		t.Fatalf("got %v, %v", resp, err)
	}
	wantHeader(t, resp.Header, fakeRevision)

	h.engine.fail = mvcc.ErrLeaseNotFound
	resp, err = h.lease.LeaseTimeToLive(testContext(t), &pb.LeaseTimeToLiveRequest{ID: 5})
	if err != nil || resp.TTL != -1 || resp.ID != 5 {
		t.Fatalf("a lease that is gone: got %v, %v", resp, err)
	}
	wantHeader(t, resp.Header, fakeRevision)
	h.engine.fail = replicate.ErrStopped
	_, err = h.lease.LeaseTimeToLive(testContext(t), &pb.LeaseTimeToLiveRequest{ID: 5})
	wantError(t, err, rpctypes.ErrGRPCStopped)
}

func TestLeaseLeases(t *testing.T) {
	h := start(t, ProfileEtcd)
	resp, err := h.lease.LeaseLeases(testContext(t), &pb.LeaseLeasesRequest{})
	if err != nil || len(resp.Leases) != 1 {
		t.Fatalf("got %v, %v", resp, err)
	}
	wantHeader(t, resp.Header, fakeRevision)
	h.engine.fail = replicate.ErrUnavailable
	_, err = h.lease.LeaseLeases(testContext(t), &pb.LeaseLeasesRequest{})
	wantError(t, err, rpctypes.ErrGRPCUnhealthy)
}

func keepAlive(t *testing.T, h *harness) pb.Lease_LeaseKeepAliveClient {
	t.Helper()
	stream, err := h.lease.LeaseKeepAlive(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func TestLeaseKeepAlive(t *testing.T) {
	h := start(t, ProfileEtcd)
	h.engine.onKeepAlive = func(_ context.Context, id int64) (int64, error) {
		if id == 404 {
			return 0, mvcc.ErrLeaseNotFound
		}
		return id * 10, nil
	}
	stream := keepAlive(t, h)
	for id, ttl := range map[int64]int64{1: 10, 2: 20, 404: 0} {
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
			t.Fatal(err)
		}
		resp, err := stream.Recv()
		if err != nil || resp.ID != id || resp.TTL != ttl {
			t.Fatalf("lease %d: got %v, %v, want TTL %d", id, resp, err, ttl)
		}
		wantHeader(t, resp.Header, fakeRevision)
	}
}

// Requests sent before the client closes its side are all answered.
func TestLeaseKeepAliveHalfClosed(t *testing.T) {
	h := start(t, ProfileEtcd)
	stream := keepAlive(t, h)
	for id := range int64(20) {
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: id + 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if all := receiveAll(t, stream.Recv); len(all) != 20 || all[19].ID != 20 {
		t.Fatalf("%d answers: %v", len(all), all)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("after the end: %v", err)
	}
}

func TestLeaseKeepAliveFails(t *testing.T) {
	h := start(t, ProfileEtcd)
	h.engine.fail = replicate.ErrNotPrimary
	stream := keepAlive(t, h)
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: 1}); err != nil {
		t.Fatal(err)
	}
	_, err := stream.Recv()
	wantError(t, err, rpctypes.ErrGRPCNoLeader)
}
