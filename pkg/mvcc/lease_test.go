package mvcc

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

func newLeaseDB(t testing.TB) (*db, *clock) {
	c := newClock()
	return newDB(t, Config{Now: c.time}), c
}

// keysOf gives the keys of a lease, as one string.
func (d *db) keysOf(id int64) string {
	d.Helper()
	resp, err := d.store.TimeToLive(context.Background(), &pb.LeaseTimeToLiveRequest{ID: id, Keys: true})
	if err != nil {
		d.Fatal(err)
	}
	var keys string
	for _, k := range resp.Keys {
		keys += string(k)
	}
	return keys
}

func (d *db) left(id int64) int64 {
	d.Helper()
	resp, err := d.store.TimeToLive(context.Background(), &pb.LeaseTimeToLiveRequest{ID: id})
	if err != nil {
		d.Fatal(err)
	}
	return resp.TTL
}

func TestLeaseExpires(t *testing.T) {
	d, c := newLeaseDB(t)
	d.grant(7, 10)
	d.grant(8, 20)
	d.write(leased("a", 7), leased("b", 7), leased("c", 8))
	if ids, next := d.store.Expired(10); len(ids) != 0 || next != 10*time.Second {
		t.Fatalf("%v are due, the next in %v", ids, next)
	}
	c.now = c.now.Add(9 * time.Second)
	if ttl, err := d.store.KeepAlive(7); err != nil || ttl != 10 {
		t.Fatal(ttl, err)
	}
	c.now = c.now.Add(9 * time.Second) // 18 s: kept alive until 19 s
	if ids, next := d.store.Expired(10); len(ids) != 0 || next != time.Second || d.left(7) != 1 {
		t.Fatalf("%v are due, the next in %v", ids, next)
	}
	c.now = c.now.Add(time.Second)
	if _, err := d.store.KeepAlive(7); !errors.Is(err, ErrLeaseNotFound) {
		t.Fatalf("a lease that is due was kept alive: %v", err)
	}
	ids, _ := d.store.Expired(10)
	if !slices.Equal(ids, []int64{7}) {
		t.Fatalf("%v are due", ids)
	}
	if again, next := d.store.Expired(10); len(again) != 0 || next != time.Second {
		t.Fatalf("%v come up again at once, the next in %v", again, next)
	}
	b := &Batch{}
	if d.store.EvaluateExpire(b, 8) || !d.store.EvaluateExpire(b, 7) || d.store.EvaluateExpire(b, 7) {
		t.Fatal("expired a lease that is not due, or one twice")
	}
	rev := d.store.Revision()
	d.commit(b)
	if d.store.Revision() != rev+1 || d.store.find([]byte("a"), rev+1) != nil || d.store.find([]byte("c"), rev+1) == nil {
		t.Fatalf("after expiry at revision %d", d.store.Revision())
	}
}

// TestExpiredComesUpAgain: a lease whose revocation was not committed.
func TestExpiredComesUpAgain(t *testing.T) {
	d, c := newLeaseDB(t)
	d.grant(7, 10)
	c.now = c.now.Add(10 * time.Second)
	for range 3 {
		ids, _ := d.store.Expired(1)
		if !slices.Equal(ids, []int64{7}) {
			t.Fatalf("%v are due", ids)
		}
		b := &Batch{}
		d.store.EvaluateExpire(b, 7)
		d.store.Rollback(b)
		c.now = c.now.Add(expiryRetry)
	}
}

func TestExpiredInParts(t *testing.T) {
	d, c := newLeaseDB(t)
	for id := range int64(5) {
		d.grant(id+1, 10+id)
	}
	c.now = c.now.Add(time.Minute)
	first, next := d.store.Expired(3)
	second, last := d.store.Expired(3)
	if !slices.Equal(first, []int64{1, 2, 3}) || next != 0 || !slices.Equal(second, []int64{4, 5}) || last != time.Second {
		t.Fatalf("%v, %v; %v, %v", first, next, second, last)
	}
	for id := range int64(5) {
		d.revoke(id + 1)
	}
	if ids, next := d.store.Expired(3); len(ids) != 0 || next >= 0 {
		t.Fatalf("%v, %v without a lease", ids, next)
	}
}

func TestRevokeDeletesInOneRevision(t *testing.T) {
	d, _ := newLeaseDB(t)
	d.grant(7, 10)
	d.write(leased("b", 7), leased("a", 7))
	d.write(leased("c", 7), put("d", "stays"))
	before := d.store.Revision()
	if rev := d.revoke(7); rev != before+1 || d.store.Revision() != rev {
		t.Fatalf("revoked at %d, from %d", rev, before)
	}
	got := d.store.history.from(nil, before+1, before+1, 100)
	var keys string
	for _, r := range got {
		if !r.tombstone {
			t.Fatalf("%s was put", r.entry.key)
		}
		keys += string(r.entry.key)
	}
	if keys != "abc" {
		t.Fatalf("deleted %s", keys)
	}
	d.grant(8, 10) // no keys: revoking it moves no revision
	if rev := d.revoke(8); rev != before+1 {
		t.Fatalf("an empty lease was revoked at %d", rev)
	}
}

func TestLeaseOfAKeyChanges(t *testing.T) {
	d, _ := newLeaseDB(t)
	d.grant(7, 10)
	d.grant(8, 10)
	for _, step := range []struct {
		op           *pb.RequestOp
		seven, eight string
	}{
		{leased("k", 7), "k", ""},
		{leased("k", 8), "", "k"},
		{leased("k", 7), "k", ""},
		{opPut(&pb.PutRequest{Key: []byte("k"), Value: []byte("v"), IgnoreLease: true}), "k", ""},
		{opPut(&pb.PutRequest{Key: []byte("k"), IgnoreValue: true, Lease: 8}), "", "k"},
		{put("k", "v"), "", ""},
		{leased("k", 7), "k", ""},
		{del("k", ""), "", ""},
		{leased("k", 8), "", "k"},
	} {
		d.write(step.op)
		if d.keysOf(7) != step.seven || d.keysOf(8) != step.eight {
			t.Fatalf("%v: %q and %q", step.op, d.keysOf(7), d.keysOf(8))
		}
		if n := len(d.store.lessor.leases[7].entries) + len(d.store.lessor.leases[8].entries); n != len(step.seven)+len(step.eight) {
			t.Fatalf("%v: %d entries are held", step.op, n)
		}
	}
	d.reopen()
	if d.keysOf(7) != "" || d.keysOf(8) != "k" || len(d.store.lessor.leases[7].entries) != 0 {
		t.Fatalf("after reopening: %q and %q", d.keysOf(7), d.keysOf(8))
	}
}

// TestLeaseOfPendingChanges: what is rolled back, or published while more is
// pending above it, must leave a key on just the lease that its record names.
func TestLeaseOfPendingChanges(t *testing.T) {
	d, _ := newLeaseDB(t)
	d.grant(7, 10)
	d.write(leased("k", 7))
	evaluate := func(op *pb.RequestOp) *Batch {
		b := &Batch{}
		a, err := d.store.EvaluateTxn(context.Background(), b, &pb.TxnRequest{Success: []*pb.RequestOp{op}})
		if err != nil {
			t.Fatal(err)
		}
		a.Release()
		return b
	}
	off, on, offAgain := evaluate(put("k", "v")), evaluate(leased("k", 7)), evaluate(put("k", "v"))
	d.commit(off) // the newest pending record has no lease, the next one has
	d.commit(on)
	if d.keysOf(7) != "k" {
		t.Fatalf("lease has %q while a change is pending", d.keysOf(7))
	}
	d.store.Rollback(offAgain)
	if d.keysOf(7) != "k" {
		t.Fatalf("lease has %q after a rollback", d.keysOf(7))
	}
	d.store.Rollback(evaluate(leased("new", 7)))
	if n := len(d.store.lessor.leases[7].entries); n != 1 {
		t.Fatalf("%d entries are held after a rollback", n)
	}
	d.revoke(7)
	if d.store.find([]byte("k"), d.store.Revision()) != nil {
		t.Fatal("the key outlived its lease")
	}
}

func TestPutWhileLeaseIsRevoked(t *testing.T) {
	d, _ := newLeaseDB(t)
	d.grant(7, 10)
	revoke := &Batch{}
	if _, err := d.store.EvaluateRevoke(revoke, 7); err != nil {
		t.Fatal(err)
	}
	b := &Batch{}
	_, err := d.store.EvaluateTxn(context.Background(), b, &pb.TxnRequest{Success: []*pb.RequestOp{put("a", "v"), leased("k", 7)}})
	if !errors.Is(err, ErrLeaseNotFound) || !b.Empty() {
		t.Fatalf("put under a lease that is going: %v", err)
	}
	if _, err := d.store.KeepAlive(7); !errors.Is(err, ErrLeaseNotFound) {
		t.Fatal(err)
	}
	if _, err := d.store.EvaluateRevoke(b, 7); !errors.Is(err, ErrLeaseNotFound) {
		t.Fatal(err)
	}
	d.store.Rollback(revoke) // the lease is as it was
	d.write(leased("k", 7))
	if d.keysOf(7) != "k" {
		t.Fatalf("lease has %q", d.keysOf(7))
	}
}

func TestGrantWhileRevokePending(t *testing.T) {
	d, _ := newLeaseDB(t)
	d.grant(7, 10)
	revoke := &Batch{}
	if _, err := d.store.EvaluateRevoke(revoke, 7); err != nil {
		t.Fatal(err)
	}
	if _, err := d.store.EvaluateGrant(&Batch{}, &pb.LeaseGrantRequest{ID: 7, TTL: 5}); !errors.Is(err, ErrLeaseExists) {
		t.Fatal(err)
	}
	d.commit(revoke)
	d.grant(7, 5)
	if d.left(7) != 5 {
		t.Fatalf("%d s left", d.left(7))
	}
}

func TestGrantIsNotSeenBeforeItIsCommitted(t *testing.T) {
	d, _ := newLeaseDB(t)
	b := &Batch{}
	resp, err := d.store.EvaluateGrant(b, &pb.LeaseGrantRequest{TTL: 1})
	if err != nil || resp.ID == 0 || resp.TTL != MinLeaseTTL {
		t.Fatal(resp, err)
	}
	if _, err := d.store.KeepAlive(resp.ID); !errors.Is(err, ErrLeaseNotFound) {
		t.Fatal(err)
	}
	if len(d.store.Leases().Leases) != 0 {
		t.Fatal("a pending lease is listed")
	}
	d.store.Rollback(b)
	if d.store.lessor.exists(resp.ID) {
		t.Fatal("a lease outlived its rollback")
	}
	if _, err := d.store.EvaluateGrant(b, &pb.LeaseGrantRequest{TTL: MaxLeaseTTL + 1}); !errors.Is(err, ErrLeaseTTLTooLarge) {
		t.Fatal(err)
	}
	d.grant(9, MaxLeaseTTL)
	if d.left(9) != MaxLeaseTTL {
		t.Fatalf("%d s left", d.left(9))
	}
}

func TestLeasesHaveTheirFullTTLAfterReload(t *testing.T) {
	d, c := newLeaseDB(t)
	d.grant(7, 30)
	d.grant(8, 10)
	d.write(leased("b", 7), leased("a", 7))
	c.now = c.now.Add(25 * time.Second) // 8 is overdue
	d.reopen()
	if d.left(7) != 30 || d.left(8) != 10 || d.keysOf(7) != "ab" {
		t.Fatalf("%d s and %d s left", d.left(7), d.left(8))
	}
	if list := d.store.Leases().Leases; len(list) != 2 || list[0].ID != 8 {
		t.Fatalf("leases are %v", list)
	}
	if ids, next := d.store.Expired(10); len(ids) != 0 || next != 10*time.Second {
		t.Fatalf("%v are due, the next in %v", ids, next)
	}
}

func TestCompactionRemovesLeaseRows(t *testing.T) {
	d, _ := newLeaseDB(t)
	d.grant(7, 30)
	d.write(leased("a", 7))
	d.revoke(7)
	d.grant(8, 30)
	d.write(leased("b", 8))
	d.compact(d.store.Revision())
	d.scrub()
	rows := d.rows()
	if len(rows) != 2 || rows[0].Kind != sqllog.KindLease || rows[0].Lease != 8 || string(rows[1].Key) != "b" {
		t.Fatalf("rows left: %+v", rows)
	}
	d.reopen()
	if d.keysOf(8) != "b" || len(d.store.Leases().Leases) != 1 {
		t.Fatal("a lease was lost")
	}
}
