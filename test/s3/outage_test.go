package s3

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/client"
	"github.com/kinsy/kinsy/test/harness/faultproxy"
	"github.com/kinsy/kinsy/test/harness/history"
	"github.com/kinsy/kinsy/test/harness/process"
)

// outages are the ways in which a store is down.
func outages() []faultproxy.Plan { return []faultproxy.Plan{faultproxy.Outage(), faultproxy.Silence()} }

// aloneLimit is how long a node with an intact disk and a local commit rule may look for the store before it serves
// without: 5 s, and slack for a busy machine.
const aloneLimit = 10 * time.Second

// fill writes keys, one after the other, and returns the revision of the last.
func fill(ctx context.Context, c *clientv3.Client, prefix string, count int) (head int64, err error) {
	for i := range count {
		if err := create(ctx, c, fmt.Sprintf("%s%05d", prefix, i), fmt.Sprintf("%s value %d", prefix, i)); err != nil {
			return 0, fmt.Errorf("write %d of %s: %w", i, prefix, err)
		}
	}
	return history.Revision(ctx, c)
}

// requireFill requires that the keys of fill are there, and nothing else with their prefix.
func requireFill(t *testing.T, c *clientv3.Client, prefix string, count int) {
	t.Helper()
	ctx, cancel := client.Within(t.Context())
	defer cancel()
	resp, err := c.Get(ctx, prefix, clientv3.WithPrefix())
	ok(t, err)
	for i, kv := range resp.Kvs {
		if key, value := fmt.Sprintf("%s%05d", prefix, i), fmt.Sprintf("%s value %d", prefix, i); string(kv.Key) != key || string(kv.Value) != value {
			t.Fatalf("key %d is %s=%s, want %s=%s", i, kv.Key, kv.Value, key, value)
		}
	}
	if len(resp.Kvs) != count {
		t.Errorf("%d keys with %s, want %d", len(resp.Kvs), prefix, count)
	}
}

// TestStartsWhileStoreIsDown starts a node with an intact disk and a local commit rule while the store is down. It serves,
// and what it wrote meanwhile is uploaded when the store is back.
func TestStartsWhileStoreIsDown(t *testing.T) {
	t.Parallel()
	for _, outage := range outages() {
		t.Run(outage.Name, func(t *testing.T) {
			w := newWorld(t)
			n := w.node(quorumLocal, "--upload-interval", "100ms")
			ok(t, n.Start())
			c := n.Client(t)
			_, err := fill(t.Context(), c, "/before/", 100)
			ok(t, err)
			_, err = n.Proc.Terminate(stopLimit)
			ok(t, err)
			w.proxy.Set(outage)
			start := time.Now()
			ok(t, n.Start())
			took := time.Since(start)
			if took > aloneLimit {
				t.Errorf("served after %s, want %s", took, aloneLimit)
			}
			head, err := fill(t.Context(), c, "/during/", 100)
			ok(t, err)
			if code, body, err := n.Get("/readyz"); err != nil || code != http.StatusOK {
				t.Errorf("/readyz is %d %q (%v) where the commit rule is local", code, body, err)
			}
			w.proxy.Set(faultproxy.Plan{})
			ok(t, w.awaitUploaded(head))
			ok(t, n.RestartEmpty())
			requireFill(t, c, "/before/", 100)
			requireFill(t, c, "/during/", 100)
			process.RequireNoPanic(t, n.Proc)
			t.Logf("served after %s", took.Round(time.Millisecond))
		})
	}
}

// awaitUploaded returns when the chain ends at a revision, at least.
func (w *world) awaitUploaded(revision int64) error {
	ctx := w.t.Context()
	s, err := w.open(ctx, "")
	if err != nil {
		return err
	}
	return client.Until(client.WaitLimit, 50*time.Millisecond, func() error {
		c, err := readChain(ctx, s)
		if err == nil && int64(c.end.Revision) < revision {
			err = fmt.Errorf("the chain ends at revision %d, want %d", c.end.Revision, revision)
		}
		return err
	})
}

// TestFreshNodeWaitsForStore starts a node without a disk while the store is down. It waits and says so; it must not begin
// a history of its own. When the store is back it serves what is there.
func TestFreshNodeWaitsForStore(t *testing.T) {
	t.Parallel()
	for _, quorum := range []int{quorumStore, quorumLocal} {
		for _, outage := range outages() {
			t.Run(fmt.Sprintf("quorum %d, %s", quorum, outage.Name), func(t *testing.T) {
				w := newWorld(t)
				n := w.node(quorum, "--upload-interval", "100ms")
				ok(t, n.Start())
				c := n.Client(t)
				_, err := fill(t.Context(), c, "/before/", 50)
				ok(t, err)
				_, err = n.Proc.Terminate(stopLimit)
				ok(t, err)
				ok(t, n.Wipe())
				w.proxy.Set(outage)
				ok(t, n.Launch())
				ok(t, n.Proc.Pause(t.Context(), 3*time.Second))
				if code, body, err := n.Get("/readyz"); err != nil || code != http.StatusServiceUnavailable || !strings.Contains(body, "object stor") {
					t.Errorf("/readyz is %d %q (%v), want 503 that names the object store", code, body, err)
				}
				w.proxy.Set(faultproxy.Plan{})
				ok(t, n.AwaitReady(recoverLimit))
				requireFill(t, c, "/before/", 50)
				_, err = fill(t.Context(), c, "/after/", 5)
				ok(t, err)
				process.RequireNoPanic(t, n.Proc)
			})
		}
	}
}

// TestOutageIsToldAndOver takes the store away from a node in quorum 0 under the eyes of one client: writes fail with the
// errors that clients know, /readyz and serializable reads tell what they should, and all is well afterwards.
func TestOutageIsToldAndOver(t *testing.T) {
	t.Parallel()
	for _, outage := range outages() {
		t.Run(outage.Name, func(t *testing.T) {
			w := newWorld(t)
			n := w.node(quorumStore)
			ok(t, n.Start())
			c := n.Client(t)
			_, err := fill(t.Context(), c, "/before/", 20)
			ok(t, err)
			w.proxy.Set(outage)
			ctx, cancel := context.WithTimeout(t.Context(), client.Patience)
			defer cancel()
			if _, err := c.Put(ctx, "/during", "lost or not"); err == nil || !client.OpenOutcome(err) {
				t.Errorf("a write while the store is down ended with %v", err)
			}
			ok(t, client.Until(silentLimit-client.Patience, 20*time.Millisecond, func() error {
				if code, body, err := n.Get("/readyz"); err != nil || code != http.StatusServiceUnavailable {
					return fmt.Errorf("/readyz is %d %q, %w", code, body, err)
				}
				return nil
			}))
			if resp, err := c.Get(t.Context(), "/before/", clientv3.WithPrefix(), clientv3.WithSerializable()); err != nil || len(resp.Kvs) != 20 {
				t.Errorf("a serializable read while the store is down: %v", err)
			}
			w.proxy.Set(faultproxy.Plan{})
			ok(t, n.AwaitReady(recoverLimit))
			_, err = fill(t.Context(), c, "/after/", 20)
			ok(t, err)
			requireFill(t, c, "/before/", 20)
			process.RequireNoPanic(t, n.Proc)
		})
	}
}
