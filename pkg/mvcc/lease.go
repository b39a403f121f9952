package mvcc

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// EvaluateGrant adds the row of a new lease. ID 0 asks for one to be chosen. A
// TTL, in seconds, below MinLeaseTTL is raised to it. No revision moves.
func (s *Store) EvaluateGrant(b *Batch, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	if r.TTL > MaxLeaseTTL {
		return nil, ErrLeaseTTLTooLarge
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ttl := r.ID, max(r.TTL, MinLeaseTTL)
	for id == 0 {
		if chosen := rand.Int64(); !s.lessor.known(chosen) {
			id = chosen
		}
	}
	if s.lessor.known(id) {
		return nil, ErrLeaseExists
	}
	row := s.addRow(b, sqllog.Row{Kind: sqllog.KindLease, Revision: sqllog.Revision(s.revision), Lease: id, Version: ttl})
	b.leases = append(b.leases, s.lessor.grant(id, ttl, row))
	b.last = s.revision
	return &pb.LeaseGrantResponse{Header: &pb.ResponseHeader{Revision: s.revision}, ID: id, TTL: ttl}, nil
}

// known tells whether an id is taken, be it by a lease that is on its way in or
// out.
func (l *lessor) known(id int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return id == 0 || l.leases[id] != nil
}

// EvaluateRevoke deletes the keys of a lease in one revision and adds the row
// that ends it. It returns the revision after.
func (s *Store) EvaluateRevoke(b *Batch, id int64) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revoke(b, id)
}

// EvaluateExpire is EvaluateRevoke for a lease that Expired named; it does
// nothing (false) if the lease was kept alive since.
func (s *Store) EvaluateExpire(b *Batch, id int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.lessor.isDue(id) {
		return false
	}
	_, err := s.revoke(b, id)
	return err == nil
}

func (l *lessor) isDue(id int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	le := l.lookupLocked(id)
	return le != nil && !le.expiry.After(l.now())
}

func (s *Store) revoke(b *Batch, id int64) (int64, error) {
	le := s.lessor.startRevoke(id)
	if le == nil {
		return 0, ErrLeaseNotFound
	}
	t := &txn{s: s, b: b, begin: s.revision}
	records := s.lessor.attached(le, s.revision)
	slices.SortFunc(records, func(a, b *record) int { return bytes.Compare(a.entry.key, b.entry.key) })
	for _, rec := range records {
		t.delete(rec)
	}
	s.revision = t.revision()
	row := s.addRow(b, sqllog.Row{Kind: sqllog.KindLease, Revision: sqllog.Revision(s.revision), Lease: id})
	b.leases = append(b.leases, leaseChange{lease: le, revoke: true, row: row})
	b.last = s.revision
	return s.revision, nil
}

// startRevoke marks a lease, so that no key is put under it any more. It gives
// nil if the lease does not exist, or is being revoked already.
func (l *lessor) startRevoke(id int64) *lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	le := l.leases[id]
	if le == nil || le.revoking {
		return nil
	}
	le.revoking = true
	return le
}

// KeepAlive starts the TTL of a lease anew and returns it, in seconds. It writes
// no row: after a restart every lease has its full TTL anyway.
func (s *Store) KeepAlive(id int64) (int64, error) { return s.lessor.renew(id) }

// TimeToLive tells how long a lease has left, in whole seconds, and, if asked,
// which keys are attached to it, in order.
func (s *Store) TimeToLive(_ context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	pin := s.pins.enter()
	defer s.pins.leave(pin)
	rev := s.committed.Load()
	s.lessor.mu.Lock()
	le := s.lessor.lookupLocked(r.ID)
	if le == nil || !le.expiry.After(s.lessor.now()) {
		s.lessor.mu.Unlock()
		return nil, ErrLeaseNotFound
	}
	left := le.expiry.Sub(s.lessor.now())
	s.lessor.mu.Unlock()
	resp := &pb.LeaseTimeToLiveResponse{
		Header: &pb.ResponseHeader{Revision: rev}, ID: r.ID, TTL: int64(left / time.Second), GrantedTTL: le.ttl,
	}
	if r.Keys {
		for _, rec := range s.lessor.attached(le, rev) {
			resp.Keys = append(resp.Keys, rec.entry.key)
		}
		slices.SortFunc(resp.Keys, bytes.Compare)
	}
	return resp, nil
}

// Leases lists the leases, those with the least time left first, as etcd does.
func (s *Store) Leases() *pb.LeaseLeasesResponse {
	s.lessor.mu.Lock()
	defer s.lessor.mu.Unlock()
	list := make([]*lease, 0, len(s.lessor.leases))
	for _, le := range s.lessor.leases {
		if !le.pending {
			list = append(list, le)
		}
	}
	slices.SortFunc(list, func(a, b *lease) int { return a.expiry.Compare(b.expiry) })
	resp := &pb.LeaseLeasesResponse{Header: &pb.ResponseHeader{Revision: s.committed.Load()}}
	for _, le := range list {
		resp.Leases = append(resp.Leases, &pb.LeaseStatus{ID: le.id})
	}
	return resp
}

// Expired names leases that are due, at most max, and says when to look again:
// at once if next is 0, when a lease is granted if it is negative.
func (s *Store) Expired(max int) (ids []int64, next time.Duration) { return s.lessor.expired(max) }
