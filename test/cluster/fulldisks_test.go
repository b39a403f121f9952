package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/client"
)

// TestEveryDiskFull fills the disks of all nodes. The Primary refuses writes and serves reads, nobody is elected in its place, and
// all goes on by itself when there is room.
func TestEveryDiskFull(t *testing.T) {
	c := newClusterOnDisks(t)
	if len(c.disks) == 0 {
		t.Skip("no file system can be mounted here")
	}
	ok(t, c.start())
	clients := c.clients()
	_, err := put(t.Context(), 5*time.Second, clients[0], "key", "before")
	ok(t, err)
	p, err := c.awaitPrimary()
	ok(t, err)
	at := c.index(p)
	epoch, err := c.metric(p, "kinsy_epoch")
	ok(t, err)
	for _, d := range c.disks {
		ok(t, d.fill())
	}
	fit, err := putUntilRefused(t, clients[at])
	if !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Fatalf("after %d writes that fit: %v\n%s", fit, err, c.dump(t))
	}
	for range 20 { // some seconds
		c.requireFull(at, clients[at])
		ok(t, client.Wait(t.Context(), 200*time.Millisecond))
	}
	if now, err := c.metric(p, "kinsy_epoch"); err != nil || now != epoch {
		t.Errorf("the epoch is %v (%v), it was %v: elections were held", now, err, epoch)
	}
	ok(t, c.calmDisks())
	start := time.Now()
	for _, cl := range clients {
		ok(t, client.Until(settleLimit, 10*time.Millisecond, func() error {
			_, err := put(t.Context(), time.Second, cl, "key", "after")
			return err
		}))
	}
	if err := c.settled(settleLimit); err != nil {
		t.Fatalf("%v\n%s", err, c.dump(t))
	}
	t.Logf("%d writes fit; with room all was well after %s", fit, time.Since(start).Round(time.Millisecond))
	c.requireUse()
}

// putUntilRefused writes until a write is refused, not just left open.
func putUntilRefused(t *testing.T, c *clientv3.Client) (fit int, err error) {
	for i := range 20_000 {
		_, err = put(t.Context(), 5*time.Second, c, fmt.Sprintf("fill/%05d", i), "value")
		switch {
		case err == nil:
			fit++
		case !client.OpenOutcome(err):
			return fit, err
		}
	}
	return fit, err
}

// requireFull requires that the Primary refuses writes for want of space, says so, and serves linearizable reads.
func (c *cluster) requireFull(at int, cl *clientv3.Client) {
	t, n := c.t, c.nodes[at]
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), client.WaitLimit)
	defer cancel()
	if _, err := cl.Put(ctx, "key", "refused"); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Errorf("write: %v", err)
	}
	if resp, err := cl.Get(ctx, "key"); err != nil || len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != "before" {
		t.Errorf("read: %v, %v", resp, err)
	}
	if code, body, err := n.Get("/readyz"); err != nil || code != http.StatusServiceUnavailable {
		t.Errorf("/readyz is %d %q (%v)", code, body, err)
	}
	if code, _, err := n.Get("/health?exclude=NOSPACE"); err != nil || code != http.StatusOK {
		t.Errorf("/health?exclude=NOSPACE is %d (%v)", code, err)
	}
	resp, err := cl.AlarmList(ctx)
	if err != nil || len(resp.Alarms) != 1 || resp.Alarms[0].Alarm != pb.AlarmType_NOSPACE {
		t.Errorf("alarms are %v (%v)", resp, err)
	}
}
