package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/kinsy/kinsy/test/kubernetes/process"
)

// compactKey is where kube-apiserver keeps the revision it compacted to.
const compactKey = "compact_rev_key"

const (
	compactTimeout = 4*compactionInterval + 10*time.Second
)

var (
	errNotCompacted = errors.New("not compacted yet")
	errStillReady   = errors.New("still ready")
)

// terminateStore ends the store by SIGTERM.
func (c *cluster) terminateStore(t *testing.T) {
	t.Helper()
	limit := drainTimeout
	if c.kind == process.Reference {
		limit = startTimeout
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if code, err := c.store.Terminate(ctx); err != nil || (code != 0 && c.kind != process.Reference) {
		t.Errorf("the store ended with %d, %v", code, err)
	}
}

// killUntilNoticed ends the store by SIGKILL and waits until kube-apiserver is
// not ready any more.
func (c *cluster) killUntilNoticed(t *testing.T) {
	t.Helper()
	c.store.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), settleTimeout)
	defer cancel()
	err := process.Until(ctx, pollInterval, func(ctx context.Context) error {
		if c.ready(ctx) == nil {
			return errStillReady
		}
		return nil
	})
	if err != nil {
		t.Fatalf("wait for kube-apiserver to miss the store: %v", err)
	}
}

// testRestart ends the store and starts it again while objects are written and
// watched.
func (c *cluster) testRestart(t *testing.T, prefix string, end func(*testing.T)) {
	l := c.startLoad(t, prefix)
	l.awaitMore(t)
	c.interrupt(t, end)
	l.awaitMore(t)
	l.finish(t)
	c.kubectl(t, "create", "configmap", "after-"+prefix)
}

// interrupt ends the store, starts it again, waits for kube-apiserver to be
// ready and notes the outage.
func (c *cluster) interrupt(t *testing.T, end func(*testing.T)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	from := time.Now()
	end(t)
	if err := c.store.Start(ctx); err != nil {
		t.Fatal(err)
	}
	served := time.Now()
	c.restarted = served
	if err := c.server.WaitReady(ctx, c.ready); err != nil {
		t.Fatal(err)
	}
	c.outages = append(c.outages, [2]time.Time{from, time.Now().Add(recoveryTime)})
	t.Logf("store back after %s, kube-apiserver after %s",
		served.Sub(from).Round(time.Millisecond), time.Since(from).Round(time.Millisecond))
}

// testCompaction waits until kube-apiserver has asked for compaction beyond the
// revision of now, and checks that the store did it: what lies before the
// revision in compact_rev_key cannot be read, the revision itself can.
func (c *cluster) testCompaction(t *testing.T) {
	client := c.etcdClient(t)
	ctx, cancel := context.WithTimeout(t.Context(), compactTimeout)
	defer cancel()
	first := c.listAll(t, configMaps.path+"?limit=1")
	c.mustCreate(t, configMaps, fmt.Sprintf("compaction-%s", first.Metadata.ResourceVersion))
	now := parseVersion(t, first.Metadata.ResourceVersion)
	err := process.Until(ctx, pollInterval, func(ctx context.Context) error { return compactedBeyond(ctx, client, now) })
	if err != nil {
		t.Fatalf("wait for compaction beyond %d: %v", now, err)
	}
	c.checkExpired(t, first)
}

// etcdClient returns a client of the store. It ends with the test.
func (c *cluster) etcdClient(t *testing.T) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"http://" + c.store.Endpoint()}, DialTimeout: startTimeout, Logger: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// compactedBeyond checks that the store is compacted exactly to what
// compact_rev_key says, and that this is above rev.
func compactedBeyond(ctx context.Context, client *clientv3.Client, rev int64) error {
	resp, err := client.Get(ctx, compactKey)
	if err != nil {
		return err
	}
	if len(resp.Kvs) == 0 {
		return fmt.Errorf("%w: no key", errNotCompacted)
	}
	to, err := strconv.ParseInt(string(resp.Kvs[0].Value), 10, 64)
	if err != nil {
		return fmt.Errorf("parse compact revision: %w", err)
	}
	if to <= rev {
		return fmt.Errorf("%w: asked for %d", errNotCompacted, to)
	}
	if _, err := client.Get(ctx, compactKey, clientv3.WithRev(to-1)); !errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("%w: read at %d: %v", errNotCompacted, to-1, err)
	}
	if _, err := client.Get(ctx, compactKey, clientv3.WithRev(to)); err != nil {
		return fmt.Errorf("read at compact revision %d: %w", to, err)
	}
	return nil
}

// checkExpired waits until a page that began before the compaction cannot be
// continued, which shows that kube-apiserver has heard of it.
func (c *cluster) checkExpired(t *testing.T, first list) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	path := configMaps.path + "?limit=1&continue=" + first.Metadata.Continue
	err := process.Until(ctx, pollInterval, func(ctx context.Context) error {
		err := c.do(ctx, http.MethodGet, path, nil, nil)
		var status *statusError
		if errors.As(err, &status) && status.Code == http.StatusGone {
			return nil
		}
		return fmt.Errorf("%w: continued list: %v", errNotCompacted, err)
	})
	if err != nil {
		t.Fatal(err)
	}
}
