package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/client"
	"github.com/kinsy/kinsy/test/harness/faultproxy"
	"github.com/kinsy/kinsy/test/harness/gateway"
	"github.com/kinsy/kinsy/test/harness/process"
)

const (
	// storeLatency is how long a request to object storage takes.
	storeLatency = 10 * time.Millisecond
	// settleLimit is how long after the last fault all must be well.
	settleLimit = 20 * time.Second
	clientPort  = 2379
	peerPort    = 2380
	metricsPort = 2381
)

// cluster is some nodes with a prefix of the S3 server, which is behind a proxy of its own.
type cluster struct {
	t      testing.TB
	proxy  *faultproxy.Proxy
	prefix string
	nodes  []*process.Node
	disks  map[*process.Node]*disk // nodes with a file system of their own

	mu     sync.Mutex
	frozen map[*process.Node]bool
}

// clusters counts them: each has a prefix of its own.
var clusters atomic.Int64

var notInPrefix = regexp.MustCompile(`[^a-z0-9]+`)

// newCluster describes a cluster; none of its nodes runs.
func newCluster(t testing.TB, flags ...string) *cluster {
	t.Helper()
	return makeCluster(t, false, flags)
}

// newClusterOnDisks is newCluster, each node with a file system of its own where that is possible. Their disks are not as fast.
func newClusterOnDisks(t testing.TB, flags ...string) *cluster {
	t.Helper()
	return makeCluster(t, true, flags)
}

func makeCluster(t testing.TB, disks bool, flags []string) *cluster {
	t.Helper()
	t.Logf("seed %d", *flagSeed)
	name := fmt.Sprintf("%s-%d", notInPrefix.ReplaceAllString(strings.ToLower(t.Name()), "-"), clusters.Add(1))
	c := &cluster{t: t, prefix: "clusters/" + name, frozen: map[*process.Node]bool{}, disks: map[*process.Node]*disk{}}
	listen := ""
	if lab.separate {
		listen = storeHost + ":0"
	}
	var err error
	c.proxy, err = faultproxy.Start(faultproxy.Config{Target: server.URL(), Listen: listen, Seed: *flagSeed, Credentials: gateway.Credentials(), Region: gateway.Region})
	ok(t, err)
	t.Cleanup(func() {
		if err := c.proxy.Close(); err != nil {
			t.Error(err)
		}
	})
	c.calmStore()
	t.Cleanup(func() {
		if err := lab.heal(); err != nil {
			t.Error(err)
		}
	})
	ca := newAuthority(t)
	for i := range labNodes {
		c.nodes = append(c.nodes, c.describe(i, name, ca, disks, flags))
	}
	return c
}

// describe describes one node.
func (c *cluster) describe(i int, name string, ca *authority, disks bool, flags []string) *process.Node {
	id := fmt.Sprintf("n%d", i+1)
	cfg := process.Config{Binary: lab.wrappers[i], Name: id}
	if dir := os.Getenv(envKeep); dir != "" {
		cfg.Log = filepath.Join(dir, name+"-"+id+".log")
	}
	var d *disk
	if disks {
		d = newDisk(c.t)
	}
	if d != nil {
		cfg.Dir = d.data()
	}
	n := process.NewNode(c.t, cfg)
	if d != nil {
		c.disks[n] = d
		c.t.Cleanup(func() { // before its process is ended, which could not be while it waits for the disk
			if err := d.thaw(); err != nil {
				c.t.Error(err)
			}
		})
	}
	host, peers := "127.0.0.1", process.FreeAddress(c.t)
	if lab.separate {
		host = nodeHost(i)
		n.Addr, n.Metrics, peers = fmt.Sprintf("%s:%d", host, clientPort), fmt.Sprintf("%s:%d", host, metricsPort), fmt.Sprintf("%s:%d", host, peerPort)
	}
	n.Flags = append(gateway.Flags(c.proxy.URL(), c.prefix), "--cluster-id", name, "--node-id", id, "--peer-listen-address", peers, "--allow-insecure-listen")
	n.Flags = append(append(n.Flags, ca.flags(id, name, host)...), flags...)
	return n
}

// calmStore ends the faults of object storage.
func (c *cluster) calmStore() { c.proxy.Set(faultproxy.Plan{Name: "calm", Latency: storeLatency}) }

// start starts all nodes at once, and returns when all of them vote and serve.
func (c *cluster) start() error {
	for _, n := range c.nodes {
		if err := n.Launch(); err != nil {
			return err
		}
	}
	return c.settled(process.StartLimit)
}

// endpoints are the client addresses of all nodes.
func (c *cluster) endpoints() []string { return process.Endpoints(c.nodes...) }

// metric reads one of a node's; a frozen one is not asked.
func (c *cluster) metric(n *process.Node, name string) (float64, error) {
	c.mu.Lock()
	frozen := c.frozen[n]
	c.mu.Unlock()
	if frozen || n.Proc == nil || !n.Proc.Running() {
		return 0, errors.New(n.Name + " does not run")
	}
	return n.Metric(name)
}

// primary finds the node that says it is Primary, of the highest epoch if there are several.
func (c *cluster) primary() (*process.Node, error) {
	var found *process.Node
	var newest float64
	for _, n := range c.nodes {
		is, err := c.metric(n, `kinsy_role{role="primary"}`)
		if err != nil || is != 1 {
			continue
		}
		if epoch, err := c.metric(n, "kinsy_epoch"); err == nil && epoch > newest {
			found, newest = n, epoch
		}
	}
	if found == nil {
		return nil, errors.New("no node says that it is primary")
	}
	return found, nil
}

// awaitPrimary is primary, once there is one.
func (c *cluster) awaitPrimary() (n *process.Node, err error) {
	err = client.Until(settleLimit, 2*time.Millisecond, func() (err error) {
		n, err = c.primary()
		return err
	})
	return n, err
}

// others are all nodes but one.
func (c *cluster) others(not *process.Node) (list []*process.Node) {
	for _, n := range c.nodes {
		if n != not {
			list = append(list, n)
		}
	}
	return list
}

// index is the place of a node in the cluster.
func (c *cluster) index(n *process.Node) int {
	for i, other := range c.nodes {
		if n == other {
			return i
		}
	}
	panic("the node is of another cluster: the test is wrong")
}

func (c *cluster) host(n *process.Node) string { return nodeHost(c.index(n)) }

// settled returns when all nodes vote and serve.
func (c *cluster) settled(limit time.Duration) error {
	err := client.Until(limit, 5*time.Millisecond, func() error {
		for _, n := range c.nodes {
			if n.Proc != nil && !n.Proc.Running() {
				return nil // said below
			}
		}
		return c.well()
	})
	for _, n := range c.nodes {
		if n.Proc != nil && !n.Proc.Running() {
			return fmt.Errorf("%s: %w with code %d\n%s", n.Name, process.ErrEnded, n.Proc.ExitCode(), n.Proc.Tail())
		}
	}
	return err
}

// well says what is missing: every node is ready and in the epoch of the Primary, which counts the votes of all.
func (c *cluster) well() error {
	p, err := c.primary()
	if err != nil {
		return err
	}
	if voters, err := c.metric(p, "kinsy_voters"); err != nil || int(voters) != len(c.nodes) {
		return fmt.Errorf("%s counts %v voters, %w", p.Name, voters, err)
	}
	epoch, err := c.metric(p, "kinsy_epoch")
	if err != nil {
		return err
	}
	for _, n := range c.nodes {
		if of, err := c.metric(n, "kinsy_epoch"); err != nil || of != epoch {
			return fmt.Errorf("%s is in epoch %v, %s in %v, %w", n.Name, of, p.Name, epoch, err)
		}
		if code, body, err := n.Get("/readyz"); err != nil || code != 200 {
			return fmt.Errorf("%s is not ready: %d %q %w", n.Name, code, body, err)
		}
	}
	return nil
}

// freeze stops a node's process.
func (c *cluster) freeze(n *process.Node) error {
	c.mu.Lock()
	c.frozen[n] = true
	c.mu.Unlock()
	return n.Proc.Freeze()
}

// thaw lets it go on.
func (c *cluster) thaw(n *process.Node) error {
	err := n.Proc.Thaw()
	c.mu.Lock()
	delete(c.frozen, n)
	c.mu.Unlock()
	return err
}

// clients returns one client for each node, which knows no other node.
func (c *cluster) clients() []*clientv3.Client {
	return client.DialEach(c.t, len(c.nodes), c.endpoints()...)
}

// put writes through a client within a limit.
func put(ctx context.Context, limit time.Duration, c *clientv3.Client, key, value string) (*clientv3.PutResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return c.Put(ctx, key, value)
}

// dump ends all nodes and keeps what they have written.
func (c *cluster) dump(t testing.TB) string {
	var paths []string
	if err := c.calmDisks(); err != nil { // what waits for a disk does not end
		t.Error(err)
	}
	for _, n := range c.nodes {
		if n.Proc != nil {
			_ = n.Proc.Thaw()
			paths = append(paths, n.KeepDump(t))
		}
	}
	return strings.Join(paths, " ")
}
