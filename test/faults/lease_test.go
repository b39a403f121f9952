package faults

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/client"
	"github.com/kinsy/kinsy/test/harness/history"
	"github.com/kinsy/kinsy/test/harness/process"
)

const (
	leaseTTL = 5 * time.Second
	// leaseSlack is how much later than its TTL a lease may expire on a busy machine.
	leaseSlack = 4 * time.Second
)

// grant makes a lease with a key.
func grant(ctx context.Context, c *clientv3.Client, key string) (clientv3.LeaseID, error) {
	lease, err := c.Grant(ctx, int64(leaseTTL/time.Second))
	if err != nil {
		return 0, fmt.Errorf("grant lease: %w", err)
	}
	_, err = c.Txn(ctx).Then(clientv3.OpPut(key, "value", clientv3.WithLease(lease.ID))).Commit()
	return lease.ID, err
}

// deletion returns the moment when a watch told of the delete of a key.
func deletion(ctx context.Context, c *clientv3.Client, key string, after int64) (time.Time, error) {
	ctx, cancel := client.Within(ctx)
	defer cancel()
	for resp := range c.Watch(ctx, key, clientv3.WithRev(after+1)) {
		if err := resp.Err(); err != nil {
			return time.Time{}, err
		}
		for _, ev := range resp.Events {
			if ev.Type == clientv3.EventTypeDelete {
				return time.Now(), nil
			}
		}
	}
	return time.Time{}, fmt.Errorf("no delete of %s: %w", key, ctx.Err())
}

// TestLeaseSurvivesKill9AndExpiresAfterItsFullTTL kills a store half-way through a lease, in both profiles.
func TestLeaseSurvivesKill9AndExpiresAfterItsFullTTL(t *testing.T) {
	t.Parallel()
	for _, api := range []string{process.ProfileNetsy, process.ProfileEtcd} {
		t.Run(api, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, t.TempDir(), api)
			ok(t, n.Start())
			c := n.Client(t)
			_, err := grant(t.Context(), c, "leased")
			ok(t, err)
			half := time.NewTimer(leaseTTL / 2)
			<-half.C
			n.Proc.Kill()
			before := time.Now()
			ok(t, n.Start())
			serving := time.Now()
			head, err := history.Revision(t.Context(), c)
			ok(t, err)
			got, err := c.Get(t.Context(), "leased")
			ok(t, err)
			if len(got.Kvs) != 1 || got.Kvs[0].Lease == 0 {
				t.Fatalf("after the restart the key is %v", got.Kvs)
			}
			gone, err := deletion(t.Context(), c, "leased", head)
			ok(t, err)
			if since := gone.Sub(before); since < leaseTTL {
				t.Errorf("expired %s after the restart, before its TTL of %s", since, leaseTTL)
			}
			if since := gone.Sub(serving); since > leaseTTL+leaseSlack {
				t.Errorf("expired only %s after the restart", since)
			}
			if now, err := history.Revision(t.Context(), c); err != nil || now != head+1 {
				t.Errorf("revision is %d (%v), want %d: expiry is one revision", now, err, head+1)
			}
		})
	}
}

// TestLeasesAfterKill9AreThoseBefore kills a store that has leases which were revoked, kept alive, and left.
func TestLeasesAfterKill9AreThoseBefore(t *testing.T) {
	t.Parallel()
	n := newNode(t, t.TempDir(), process.ProfileEtcd)
	ok(t, n.Start())
	c := n.Client(t)
	ids := map[string]clientv3.LeaseID{}
	for _, key := range []string{"revoked", "kept", "left"} {
		id, err := grant(t.Context(), c, key)
		ok(t, err)
		ids[key] = id
	}
	_, err := c.KeepAliveOnce(t.Context(), ids["kept"])
	ok(t, err)
	_, err = c.Revoke(t.Context(), ids["revoked"])
	ok(t, err)
	head, err := history.Revision(t.Context(), c)
	ok(t, err)
	for range 3 {
		ok(t, n.Restart())
		if now, err := history.Revision(t.Context(), c); err != nil || now != head {
			t.Fatalf("revision is %d (%v), was %d", now, err, head)
		}
		requireLeases(t, c, ids)
	}
}

func requireLeases(t *testing.T, c *clientv3.Client, ids map[string]clientv3.LeaseID) {
	t.Helper()
	list, err := c.Leases(t.Context())
	ok(t, err)
	if len(list.Leases) != len(ids)-1 {
		t.Errorf("%d leases, want %d", len(list.Leases), len(ids)-1)
	}
	for key, id := range ids {
		left, err := c.TimeToLive(t.Context(), id, clientv3.WithAttachedKeys())
		ok(t, err)
		got, err := c.Get(t.Context(), key)
		ok(t, err)
		if key == "revoked" {
			if left.TTL != -1 || got.Count != 0 {
				t.Errorf("%s: TTL %d and %d keys", key, left.TTL, got.Count)
			}
			if _, err := c.KeepAliveOnce(t.Context(), id); err != rpctypes.ErrLeaseNotFound {
				t.Errorf("%s: keepalive ended with %v", key, err)
			}
			continue
		}
		full := int64(leaseTTL / time.Second)
		if left.GrantedTTL != full || left.TTL < full-2 || len(left.Keys) != 1 || got.Count != 1 {
			t.Errorf("%s: %d of %d s left, keys %q, %d keys", key, left.TTL, left.GrantedTTL, left.Keys, got.Count)
		}
	}
}
