package mvcc

import (
	"context"
	"errors"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func (w *world) stepGrant() {
	r := &pb.LeaseGrantRequest{ID: 1 + w.Int64N(6), TTL: 1 + w.Int64N(40)}
	_, taken := w.cur.leases[r.ID]
	if _, going := w.com.leases[r.ID]; going && !taken {
		return // its revocation is pending: see TestGrantWhileRevokePending
	}
	if w.chance(20) {
		r.ID, taken = 0, false
	}
	g := w.group()
	for _, pending := range w.groups {
		taken = taken || slices.Contains(pending.granted, r.ID)
	}
	resp, err := w.store.EvaluateGrant(g.batch, r)
	if taken {
		w.sameErr("grant", err, ErrLeaseExists)
		return
	}
	w.must(err)
	if resp.ID == 0 || (r.ID != 0 && resp.ID != r.ID) || resp.TTL != max(r.TTL, MinLeaseTTL) {
		w.Fatalf("grant %v: %v", r, resp)
	}
	g.granted, w.leases = append(g.granted, resp.ID), append(w.leases, resp.ID)
	w.evaluated(g, w.cur.grant(resp.ID, r.TTL))
}

// anyLease names a lease, or an id that is none.
func (w *world) anyLease() int64 {
	if len(w.com.leases) == 0 || w.chance(50) {
		return 1 + w.Int64N(7)
	}
	var ids []int64
	for _, id := range w.leases {
		if _, ok := w.com.leases[id]; ok && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids[w.IntN(len(ids))]
}

func (w *world) stepRevoke() {
	g, id := w.group(), w.anyLease()
	rev, err := w.store.EvaluateRevoke(g.batch, id)
	w.revoked(g, id, rev, err)
}

func (w *world) revoked(g *worldGroup, id, rev int64, err error) {
	w.Helper()
	if _, ok := w.cur.leases[id]; !ok {
		w.sameErr("revoke", err, ErrLeaseNotFound)
		return
	}
	w.must(err)
	w.evaluated(g, w.cur.revoke(id))
	if rev != w.cur.rev() {
		w.Fatalf("revoke answers revision %d, want %d", rev, w.cur.rev())
	}
}

// live tells whether clients still see a committed lease.
func (w *world) live(id int64) bool {
	at, ok := w.expiry[id]
	return ok && at.After(w.clock.now)
}

func (w *world) stepKeepAlive() {
	id := w.anyLease()
	ttl, err := w.store.KeepAlive(id)
	if _, ok := w.cur.leases[id]; !ok || !w.live(id) {
		w.sameErr("keep alive", err, ErrLeaseNotFound)
		return
	}
	w.must(err)
	if ttl != w.com.leases[id] {
		w.Fatalf("keep alive of %d answers %d", id, ttl)
	}
	w.expiry[id] = w.clock.now.Add(ttlDuration(ttl))
}

func (w *world) stepClock() {
	w.clock.now = w.clock.now.Add(time.Duration(w.IntN(8000)) * time.Millisecond)
}

// stepExpire does what the reaper does.
func (w *world) stepExpire() {
	ids, _ := w.store.Expired(1 + w.IntN(3))
	g := w.group()
	for _, id := range ids {
		at, ok := w.expiry[id]
		if _, evaluated := w.cur.leases[id]; !ok || !evaluated || at.After(w.clock.now) {
			w.Fatalf("lease %d is not due", id)
		}
		if !w.store.EvaluateExpire(g.batch, id) {
			w.Fatalf("lease %d was not expired", id)
		}
		w.revoked(g, id, w.store.revision, nil)
	}
}

// stepExpireAll lets time go on until every lease that is due was named.
func (w *world) stepExpireAll() {
	w.clock.now = w.clock.now.Add(time.Minute)
	due := map[int64]bool{}
	for id := range w.com.leases {
		if _, ok := w.cur.leases[id]; ok {
			due[id] = true
		}
	}
	for len(due) > 0 {
		ids, next := w.store.Expired(2)
		for _, id := range ids {
			delete(due, id)
		}
		if next < 0 && len(due) > 0 {
			w.Fatalf("%v are due, and nothing is to come", due)
		}
		w.clock.now = w.clock.now.Add(next)
	}
}

func (w *world) checkLeases() {
	w.Helper()
	if got := len(w.store.Leases().Leases); got != len(w.com.leases) {
		w.Fatalf("%d leases, want %d", got, len(w.com.leases))
	}
	for id, ttl := range w.com.leases {
		got, err := w.store.TimeToLive(context.Background(), &pb.LeaseTimeToLiveRequest{ID: id, Keys: true})
		if !w.live(id) {
			if !errors.Is(err, ErrLeaseNotFound) {
				w.Fatalf("lease %d is due and has %v, %v", id, got, err)
			}
			continue
		}
		w.must(err)
		var keys []string
		for _, key := range got.Keys {
			keys = append(keys, string(key))
		}
		left := int64(w.expiry[id].Sub(w.clock.now) / time.Second)
		if want := w.com.attached(id); !slices.Equal(keys, want) || got.GrantedTTL != ttl || got.TTL != left {
			w.Fatalf("lease %d: %v with %v, want %v and %d of %d left", id, got, keys, want, left, ttl)
		}
	}
}
