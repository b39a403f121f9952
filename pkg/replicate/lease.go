package replicate

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/mvcc"
)

// LeaseGrant makes a lease. It moves no revision.
func (p *Primary) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (resp *pb.LeaseGrantResponse, err error) {
	err = p.submit(ctx, func(b *mvcc.Batch) (err error) {
		resp, err = p.store.EvaluateGrant(b, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// LeaseRevoke ends a lease and deletes its keys in one revision.
func (p *Primary) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	var revision int64
	err := p.submit(ctx, func(b *mvcc.Batch) (err error) {
		revision, err = p.store.EvaluateRevoke(b, r.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &pb.LeaseRevokeResponse{Header: &pb.ResponseHeader{Revision: revision}}, nil
}

// LeaseKeepAlive starts the TTL anew and returns it in seconds. It writes
// nothing, and so is confirmed like a read: another Primary may let the lease end.
func (p *Primary) LeaseKeepAlive(ctx context.Context, id int64) (int64, error) {
	if err := p.confirm(ctx); err != nil {
		return 0, err
	}
	return p.store.KeepAlive(id)
}

// LeaseTimeToLive tells what is left of a lease and which keys it has.
func (p *Primary) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	if err := p.confirm(ctx); err != nil {
		return nil, err
	}
	return p.store.TimeToLive(ctx, r)
}

// LeaseLeases lists the leases.
func (p *Primary) LeaseLeases(context.Context) (*pb.LeaseLeasesResponse, error) {
	return p.store.Leases(), nil
}

const (
	reapLeases = 256         // leases revoked in one group
	reapRetry  = time.Second // after a group that failed
)

// reap revokes leases that are due, until the Primary is closed.
func (p *Primary) reap() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-timer.C:
		case <-p.leaseGranted:
		}
		next := p.reapDue()
		if next >= 0 {
			timer.Reset(next)
		}
	}
}

// reapDue revokes what is due and says when to look again, never if negative.
func (p *Primary) reapDue() time.Duration {
	for {
		ids, next := p.store.Expired(reapLeases)
		if len(ids) == 0 {
			return next
		}
		err := p.submit(context.Background(), func(b *mvcc.Batch) error {
			for _, id := range ids {
				p.store.EvaluateExpire(b, id)
			}
			return nil
		})
		if err != nil {
			return reapRetry
		}
		if next != 0 {
			return next
		}
	}
}
