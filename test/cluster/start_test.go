package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/client"
	"github.com/kinsy/kinsy/test/harness/history"
	"github.com/kinsy/kinsy/test/harness/process"
)

// TestThreeNodesStartAtOnce starts three nodes on an empty prefix at the same time, and uses each.
func TestThreeNodesStartAtOnce(t *testing.T) {
	c := newCluster(t)
	start := time.Now()
	if err := c.start(); err != nil {
		t.Fatalf("%v\n%s", err, c.dump(t))
	}
	t.Logf("three voters after %s", time.Since(start).Round(time.Millisecond))
	c.requireUse()
	c.requireMembers()
}

// TestThreeNodesJoinWhileServing starts one node, lets clients write, and lets the others join.
func TestThreeNodesJoinWhileServing(t *testing.T) {
	c := newCluster(t)
	ok(t, c.nodes[0].Start())
	one := c.nodes[0].Client(t)
	squad := newSquad("joining", 4, []*clientv3.Client{one}, *flagSeed)
	squad.Start(t.Context())
	ok(t, squad.Await(t.Context(), 200))
	for _, n := range c.nodes[1:] {
		start := time.Now()
		if err := n.Start(); err != nil {
			t.Fatalf("%v\n%s", err, c.dump(t))
		}
		t.Logf("%s serves after %s", n.Name, time.Since(start).Round(time.Millisecond))
		ok(t, squad.Await(t.Context(), 50))
	}
	if err := c.settled(settleLimit); err != nil {
		t.Fatalf("%v\n%s", err, c.dump(t))
	}
	l := squad.End(1)
	ok(t, squad.Err())
	clients := c.clients()
	v, _, err := l.Verify(t.Context(), clients[0], clients[1:]...)
	ok(t, err)
	t.Log(v)
	c.requireUse()
	c.requireMembers()
}

// TestThreeNodesAfterAPowerCut kills all at once, and starts them again, one of them much later.
func TestThreeNodesAfterAPowerCut(t *testing.T) {
	c := newCluster(t)
	ok(t, c.start())
	squad := newSquad("power", 6, c.clients(), *flagSeed)
	for range 3 {
		squad.Start(t.Context())
		ok(t, squad.Await(t.Context(), 100))
		for _, n := range c.nodes {
			n.Proc.Kill()
		}
		squad.Stop()
		squad.Wait()
		for _, n := range c.nodes[:2] {
			ok(t, n.Launch())
		}
		ok(t, c.writable(c.nodes[0], settleLimit))
		ok(t, c.nodes[2].Launch())
		if err := c.settled(settleLimit); err != nil {
			t.Fatalf("%v\n%s", err, c.dump(t))
		}
	}
	l := squad.End(1)
	ok(t, squad.Err())
	clients := c.clients()
	v, _, err := l.Verify(t.Context(), clients[0], clients[1:]...)
	ok(t, err)
	t.Log(v)
}

// writable returns when a write through a node is acknowledged.
func (c *cluster) writable(n *process.Node, limit time.Duration) error {
	cl := n.Client(c.t)
	return client.Until(limit, 5*time.Millisecond, func() error {
		_, err := put(c.t.Context(), time.Second, cl, "/register/writable", n.Name)
		return err
	})
}

// requireUse writes at every node and reads at every node, what was written before: by this node, and by the others.
func (c *cluster) requireUse() {
	c.t.Helper()
	clients := c.clients()
	watches := make([]*history.Follower, len(clients))
	base, err := history.Revision(c.t.Context(), clients[0])
	ok(c.t, err)
	ctx, stop := context.WithCancel(c.t.Context())
	watched := make([]error, len(clients))
	var watching sync.WaitGroup
	for i, cl := range clients {
		watches[i] = history.NewFollower("", base)
		watching.Go(func() { watched[i] = watches[i].Stay(ctx, cl) })
	}
	for round := range 30 {
		for i, writer := range clients {
			key, value := fmt.Sprintf("/use/%d", i), fmt.Sprintf("%d-%d", i, round)
			written, err := put(ctx, client.Patience, writer, key, value)
			ok(c.t, err)
			for j := range clients {
				reader := clients[(i+j)%len(clients)]
				requireValue(c.t, reader, key, value, written.Header.Revision)
			}
		}
	}
	head, err := history.Revision(ctx, clients[0])
	ok(c.t, err)
	for _, f := range watches {
		ok(c.t, f.Await(ctx, head))
		ok(c.t, history.SameEvents(f.UpTo(head), watches[0].UpTo(head)))
		ok(c.t, history.Contiguous(f.UpTo(head), base, head))
	}
	stop()
	watching.Wait()
	ok(c.t, errors.Join(watched...))
	requireSameHash(c.t, clients, head)
}

// requireValue reads a key, linearizably.
func requireValue(t testing.TB, c *clientv3.Client, key, value string, least int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), client.Patience)
	defer cancel()
	resp, err := c.Get(ctx, key)
	ok(t, err)
	if len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != value || resp.Header.Revision < least {
		t.Fatalf("%v reads %v at %d, want %s=%s of revision %d", c.Endpoints(), resp.Kvs, resp.Header.Revision, key, value, least)
	}
}

// requireSameHash compares what the nodes hold up to a revision.
func requireSameHash(t testing.TB, clients []*clientv3.Client, rev int64) {
	t.Helper()
	var first uint32
	for i, c := range clients {
		ctx, cancel := client.Within(t.Context())
		resp, err := c.HashKV(ctx, c.Endpoints()[0], rev)
		cancel()
		ok(t, err)
		if i == 0 {
			first = resp.Hash
		} else if resp.Hash != first {
			t.Errorf("hash up to revision %d is %x at node %d and %x at node 1", rev, resp.Hash, i+1, first)
		}
	}
}

// requireMembers compares the member lists of all nodes.
func (c *cluster) requireMembers() {
	c.t.Helper()
	var ids map[string]uint64
	for i, cl := range c.clients() {
		ctx, cancel := client.Within(c.t.Context())
		resp, err := cl.MemberList(ctx)
		ok(c.t, err)
		status, err := cl.Status(ctx, c.nodes[i].Addr)
		cancel()
		ok(c.t, err)
		seen := map[string]uint64{}
		for _, m := range resp.Members {
			seen[m.Name] = m.ID
			if m.IsLearner || m.ID == 0 || len(m.ClientURLs) == 0 {
				c.t.Errorf("%s lists %v", c.nodes[i].Name, m)
			}
		}
		if ids == nil {
			ids = seen
		}
		if fmt.Sprint(seen) != fmt.Sprint(ids) || len(seen) != len(c.nodes) {
			c.t.Errorf("%s lists %v, n1 %v", c.nodes[i].Name, seen, ids)
		}
		if p, err := c.primary(); err != nil || status.Leader != ids[p.Name] || resp.Header.MemberId != ids[c.nodes[i].Name] {
			c.t.Errorf("%s says leader %x and is member %x: %v of %v", c.nodes[i].Name, status.Leader, resp.Header.MemberId, ids, err)
		}
	}
}
