package replicate

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
)

// What clients ask of a node of a cluster, whichever role it has. Writes and leases
// are the Primary's; reads are answered here, linearizable ones after the Primary
// has told up to where.

// Txn evaluates a Txn at the Primary. One that only reads is answered here.
func (m *Member) Txn(ctx context.Context, r *pb.TxnRequest) (resp *pb.TxnResponse, err error) {
	if mvcc.ReadOnly(r) {
		if needsConfirmation(r) {
			if err := m.confirm(ctx); err != nil {
				return nil, err
			}
		}
		return m.store.ReadTxn(ctx, r)
	}
	err = m.forward(ctx, func(p *Primary) (err error) {
		resp, err = p.Txn(ctx, r)
		return err
	}, func() *peerpb.ForwardRequest {
		return &peerpb.ForwardRequest{Request: &peerpb.ForwardRequest_Txn{Txn: r}}
	}, func(a *peerpb.ForwardResponse) error {
		resp = a.GetTxn()
		return nil
	})
	return resp, err
}

// confirm returns nil when this node's index holds everything that was
// acknowledged before it was called.
func (m *Member) confirm(ctx context.Context) error {
	if m.cfg.StaleRead {
		return nil
	}
	if m.primary() == nil {
		return m.confirmReplica(ctx)
	}
	switch err := m.confirmPrimary(ctx); {
	case err == nil:
		return nil
	case errors.Is(err, ErrNotPrimary): // not any more; the next one knows
		return m.confirmReplica(ctx)
	default:
		return archiveError(err)
	}
}

// Range answers a Range request.
func (m *Member) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	if !r.Serializable {
		if err := m.confirm(ctx); err != nil {
			return nil, err
		}
	}
	return m.store.Range(ctx, r)
}

// RangeStream answers a Range request in parts.
func (m *Member) RangeStream(ctx context.Context, r *pb.RangeRequest, send func(*pb.RangeStreamResponse) error) error {
	if !r.Serializable {
		if err := m.confirm(ctx); err != nil {
			return err
		}
	}
	return m.store.RangeStream(ctx, r, func(part *pb.RangeResponse) error {
		return send(&pb.RangeStreamResponse{RangeResponse: part})
	})
}

// Compact compacts to a revision.
func (m *Member) Compact(ctx context.Context, rev int64, physical bool) (header int64, err error) {
	err = m.forward(ctx, func(p *Primary) (err error) {
		header, err = p.Compact(ctx, rev, physical)
		return err
	}, func() *peerpb.ForwardRequest {
		return &peerpb.ForwardRequest{Request: &peerpb.ForwardRequest_Compact{
			Compact: &pb.CompactionRequest{Revision: rev, Physical: physical},
		}}
	}, func(a *peerpb.ForwardResponse) error {
		header = a.GetCompact().GetHeader().GetRevision()
		return nil
	})
	return header, err
}

// HashKV hashes this node's history up to a revision.
func (m *Member) HashKV(ctx context.Context, rev int64) (*pb.HashKVResponse, error) {
	return m.store.HashKV(ctx, rev)
}

// LeaseGrant makes a lease.
func (m *Member) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (resp *pb.LeaseGrantResponse, err error) {
	err = m.forward(ctx, func(p *Primary) (err error) {
		resp, err = p.LeaseGrant(ctx, r)
		return err
	}, func() *peerpb.ForwardRequest {
		return &peerpb.ForwardRequest{Request: &peerpb.ForwardRequest_LeaseGrant{LeaseGrant: r}}
	}, func(a *peerpb.ForwardResponse) error {
		resp = a.GetLeaseGrant()
		return nil
	})
	return resp, err
}

// LeaseRevoke ends a lease and deletes its keys.
func (m *Member) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (resp *pb.LeaseRevokeResponse, err error) {
	err = m.forward(ctx, func(p *Primary) (err error) {
		resp, err = p.LeaseRevoke(ctx, r)
		return err
	}, func() *peerpb.ForwardRequest {
		return &peerpb.ForwardRequest{Request: &peerpb.ForwardRequest_LeaseRevoke{LeaseRevoke: r}}
	}, func(a *peerpb.ForwardResponse) error {
		resp = a.GetLeaseRevoke()
		return nil
	})
	return resp, err
}

// LeaseKeepAlive starts the TTL of a lease anew and returns it in seconds.
func (m *Member) LeaseKeepAlive(ctx context.Context, id int64) (ttl int64, err error) {
	err = m.forward(ctx, func(p *Primary) (err error) {
		ttl, err = p.LeaseKeepAlive(ctx, id)
		return err
	}, func() *peerpb.ForwardRequest {
		return &peerpb.ForwardRequest{Request: &peerpb.ForwardRequest_LeaseKeepAlive{
			LeaseKeepAlive: &pb.LeaseKeepAliveRequest{ID: id},
		}}
	}, func(a *peerpb.ForwardResponse) error {
		ttl = a.GetLeaseKeepAlive().GetTTL()
		return nil
	})
	return ttl, err
}

// LeaseTimeToLive tells what is left of a lease.
func (m *Member) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (resp *pb.LeaseTimeToLiveResponse, err error) {
	err = m.forward(ctx, func(p *Primary) (err error) {
		resp, err = p.LeaseTimeToLive(ctx, r)
		return err
	}, func() *peerpb.ForwardRequest {
		return &peerpb.ForwardRequest{Request: &peerpb.ForwardRequest_LeaseTimeToLive{LeaseTimeToLive: r}}
	}, func(a *peerpb.ForwardResponse) error {
		resp = a.GetLeaseTimeToLive()
		return nil
	})
	return resp, err
}

// LeaseLeases lists the leases, those first that are the Primary's to end first.
func (m *Member) LeaseLeases(ctx context.Context) (resp *pb.LeaseLeasesResponse, err error) {
	err = m.forward(ctx, func(p *Primary) (err error) {
		resp, err = p.LeaseLeases(ctx)
		return err
	}, func() *peerpb.ForwardRequest {
		return &peerpb.ForwardRequest{Request: &peerpb.ForwardRequest_LeaseLeases{LeaseLeases: &pb.LeaseLeasesRequest{}}}
	}, func(a *peerpb.ForwardResponse) error {
		resp = a.GetLeaseLeases()
		return nil
	})
	return resp, err
}

// Hash is a checksum of every row that this node's log keeps.
func (m *Member) Hash(ctx context.Context) (uint32, error) { return m.store.Hash(ctx) }

// Defragment gives all unused pages of this node's database file back.
func (m *Member) Defragment(ctx context.Context) error { return m.scrubber.shrinkTo(ctx, 0) }
