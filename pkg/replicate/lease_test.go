package replicate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/mvcc/mvcctest"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

func (b *bed) grant(id, ttl int64) {
	b.Helper()
	if _, err := b.p.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: ttl}); err != nil {
		b.Fatal(err)
	}
}

func leased(key string, lease int64) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte("v"), Lease: lease}}}
}

func TestLeaseIsReaped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, Config{})
		pass(time.Hour) // the reaper has nothing to look at
		b.grant(7, 60)
		b.grant(8, 10) // due before what the reaper waits for
		b.write(leased("a", 7), leased("b", 7), leased("c", 8))
		pass(9 * time.Second)
		if b.keys() != "abc" {
			t.Fatalf("%q are left", b.keys())
		}
		pass(time.Second)
		if b.keys() != "ab" || b.store.Revision() != 3 {
			t.Fatalf("%q are left at %d", b.keys(), b.store.Revision())
		}
		if ttl, err := b.p.LeaseKeepAlive(ctx, 7); err != nil || ttl != 60 {
			t.Fatal(ttl, err)
		}
		pass(59 * time.Second) // 69 s after the grant
		if resp, err := b.p.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: 7}); err != nil || resp.TTL != 1 {
			t.Fatalf("%v, %v", resp, err)
		}
		pass(time.Second)
		if b.keys() != "" || b.store.Revision() != 4 {
			t.Fatalf("%q are left at %d", b.keys(), b.store.Revision())
		}
		if resp, err := b.p.LeaseLeases(ctx); err != nil || len(resp.Leases) != 0 {
			t.Fatalf("%v, %v", resp, err)
		}
	})
}

// TestLeaseOfOneWhoLeft: the caller goes before its grant is durable. The lease
// ends all the same.
func TestLeaseOfOneWhoLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, Config{})
		b.gate.set(true)
		first := b.txn(writes(put("a", "1")))
		<-b.gate.entered
		over := call(func() error {
			leaving, leave := context.WithCancel(ctx)
			err := b.p.submit(leaving, func(batch *mvcc.Batch) error {
				leave()
				_, err := b.store.EvaluateGrant(batch, &pb.LeaseGrantRequest{ID: 7, TTL: 10})
				return err
			})
			return err
		})
		b.pending(1)
		b.gate.set(false)
		b.gate.release <- verdict{}
		want(t, "write", <-first, nil)
		if err := <-over; err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		pass(10 * time.Second)
		if resp, _ := b.p.LeaseLeases(ctx); len(resp.Leases) != 0 {
			t.Fatalf("%v", resp)
		}
	})
}

// TestManyLeasesAreReapedInGroups that do not make one commit too large.
func TestManyLeasesAreReapedInGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, Config{})
		const leases = 2*reapLeases + 10
		for id := range int64(leases) {
			b.grant(id+1, 10)
			b.write(leased(fmt.Sprintf("k%03d", id), id+1))
		}
		var groups []int
		b.log.Hook(mvcctest.Hooks{Append: func(rows []sqllog.Row) (bool, error) {
			groups = append(groups, len(rows))
			return false, nil
		}})
		pass(10 * time.Second)
		if !slices.Equal(groups, []int{2 * reapLeases, 2 * reapLeases, 20}) || b.keys() != "" {
			t.Fatalf("groups of %v rows, %d keys are left", groups, len(b.keys())/4)
		}
	})
}

// TestReapingIsTriedAgain after a commit that failed.
func TestReapingIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, Config{})
		b.grant(7, 10)
		b.write(leased("a", 7))
		var fail atomic.Bool
		fail.Store(true)
		b.log.Hook(mvcctest.Hooks{Append: func([]sqllog.Row) (bool, error) {
			if fail.Load() {
				return true, sqllog.ErrIO
			}
			return false, nil
		}})
		pass(10 * time.Second)
		if b.p.Err() == nil || b.keys() != "a" {
			t.Fatalf("%v, %q are left", b.p.Err(), b.keys())
		}
		fail.Store(false)
		pass(10 * time.Second)
		if b.p.Err() != nil || b.keys() != "" {
			t.Fatalf("%v, %q are left", b.p.Err(), b.keys())
		}
	})
}

func TestLeaseRevoke(t *testing.T) {
	b := newBed(t, Config{})
	b.grant(7, 10)
	b.write(leased("a", 7), leased("b", 7))
	resp, err := b.p.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: 7})
	if err != nil || resp.Header.Revision != 3 || b.keys() != "" {
		t.Fatalf("%v, %v", resp, err)
	}
	_, err = b.p.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: 7})
	want(t, "again", err, mvcc.ErrLeaseNotFound)
	_, err = b.p.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 7, TTL: mvcc.MaxLeaseTTL + 1})
	want(t, "grant", err, mvcc.ErrLeaseTTLTooLarge)
}

// TestLeasesSurviveRestart with their full TTL, and end after it.
func TestLeasesSurviveRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, Config{})
		b.grant(7, 10)
		b.write(leased("a", 7))
		pass(9 * time.Second)
		b.reopen(Config{})
		pass(9 * time.Second)
		if b.keys() != "a" {
			t.Fatal("the lease did not have its full TTL")
		}
		pass(time.Second)
		if b.keys() != "" {
			t.Fatal("the lease did not end")
		}
	})
}
