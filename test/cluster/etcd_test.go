package cluster

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/build"
	"github.com/kinsy/kinsy/test/harness/client"
	"github.com/kinsy/kinsy/test/harness/process"
)

const (
	etcdClientPort = 3379
	etcdPeerPort   = 3380
	statusLimit    = time.Second
)

// etcdCluster is three nodes of etcd, with its own defaults, in the namespaces that kinsy's are in.
type etcdCluster struct {
	t       testing.TB
	clients [labNodes]*clientv3.Client
	procs   [labNodes]*process.Process
	binary  [labNodes]string
	args    [labNodes][]string
}

func startEtcd(t testing.TB) *etcdCluster {
	t.Helper()
	binary, err := build.Etcd(t.Context())
	ok(t, err)
	c := &etcdCluster{t: t}
	dir := t.TempDir()
	var all []string
	for i := range labNodes {
		all = append(all, fmt.Sprintf("e%d=http://%s:%d", i+1, nodeHost(i), etcdPeerPort))
	}
	t.Cleanup(func() {
		for _, p := range c.procs {
			if p != nil {
				p.Kill()
			}
		}
	})
	for i := range labNodes {
		c.binary[i], err = wrap(dir, i, binary)
		ok(t, err)
		peers, clients := fmt.Sprintf("http://%s:%d", nodeHost(i), etcdPeerPort), fmt.Sprintf("http://%s:%d", nodeHost(i), etcdClientPort)
		c.args[i] = []string{"--name", fmt.Sprintf("e%d", i+1), "--data-dir", filepath.Join(dir, fmt.Sprintf("e%d", i+1)),
			"--listen-client-urls", clients, "--advertise-client-urls", clients, "--listen-peer-urls", peers,
			"--initial-advertise-peer-urls", peers, "--initial-cluster", strings.Join(all, ",")}
		ok(t, c.launch(i))
		c.clients[i] = client.Dial(t, c.addr(i))
	}
	ok(t, c.settled())
	return c
}

func (c *etcdCluster) addr(i int) string { return fmt.Sprintf("%s:%d", nodeHost(i), etcdClientPort) }

func (c *etcdCluster) launch(i int) (err error) {
	c.procs[i], err = process.Launch(c.binary[i], nil, c.args[i]...)
	return err
}

// leader is the node that all nodes say leads.
func (c *etcdCluster) leader() (int, error) {
	leader, named := -1, map[uint64]bool{}
	for i, cl := range c.clients {
		ctx, cancel := context.WithTimeout(c.t.Context(), statusLimit)
		s, err := cl.Status(ctx, c.addr(i))
		cancel()
		if err != nil {
			return -1, err
		}
		if named[s.Leader] = true; s.Leader == s.Header.MemberId {
			leader = i
		}
	}
	if leader < 0 || len(named) != 1 {
		return -1, errors.New("the nodes do not agree on a leader")
	}
	return leader, nil
}

func (c *etcdCluster) settled() error {
	return client.Until(2*settleLimit, 20*time.Millisecond, func() error {
		_, err := c.leader()
		return err
	})
}

// measure lets something happen to the leader once, as cluster.measure does.
func (c *etcdCluster) measure(do, undo func(i int) error) (gap time.Duration, err error) {
	if err := c.settled(); err != nil { // a cut of kinsy's nodes is one of these too
		return 0, err
	}
	i, err := c.leader()
	if err != nil {
		return 0, err
	}
	var rest []string
	for j := range labNodes {
		if j != i {
			rest = append(rest, c.addr(j))
		}
	}
	v := fire(c.t.Context(), client.DialEach(c.t, len(rest), rest...))
	if _, err := v.first(c.t.Context(), time.Now()); err != nil {
		return 0, err
	}
	start := time.Now()
	if err = do(i); err == nil {
		_, err = v.first(c.t.Context(), time.Now())
	}
	if err == nil {
		err = client.Wait(c.t.Context(), 300*time.Millisecond)
	}
	gap = v.end(start).gap
	return gap, errors.Join(err, undo(i), c.settled())
}

// cutOthers cuts a node off from the others.
func cutOthers(i int) (cuts []cut) {
	for j := range labNodes {
		if j != i {
			cuts = append(cuts, between(nodeHost(i), nodeHost(j))...)
		}
	}
	return cuts
}

// TestFailoverIsNoSlowerThanEtcds lets the same happen to the Primary of kinsy and to the leader of etcd, by turns.
func TestFailoverIsNoSlowerThanEtcds(t *testing.T) {
	rounds := int(number(envRounds, 3))
	if rounds < fewRounds || !lab.separate || slow() {
		t.Skipf("%d rounds with namespaces %v are too little to compare", rounds, lab.separate)
	}
	c, e := newCluster(t), startEtcd(t)
	ok(t, c.start())
	all := trials()
	find := func(name string) trial {
		return all[slices.IndexFunc(all, func(tr trial) bool { return tr.name == name })]
	}
	for _, x := range []struct {
		trial    trial
		do, undo func(i int) error
	}{
		{find("kill -9"), func(i int) error { e.procs[i].Kill(); return nil }, e.launch},
		{find("SIGSTOP"), func(i int) error { return e.procs[i].Freeze() }, func(i int) error { return e.procs[i].Thaw() }},
		{find("cut off"), func(i int) error { return lab.cut(cutOthers(i)...) }, func(int) error { return lab.heal() }},
	} {
		var ours, theirs []time.Duration
		for range rounds {
			r, err := c.measure(x.trial)
			ok(t, err)
			gap, err := e.measure(x.do, x.undo)
			ok(t, err)
			ours, theirs = append(ours, r.gap), append(theirs, gap)
		}
		our, their := p95(ours), p95(theirs)
		t.Logf("%-8s no write for: kinsy median %s p95 %s, etcd %s %s", x.trial.name, ms(ours[rounds/2]), ms(our), ms(theirs[rounds/2]), ms(their))
		if our > their {
			t.Errorf("%s: kinsy took longer than etcd", x.trial.name)
		}
	}
}

// p95 sorts times, and gives the one that 95 of 100 do not exceed.
func p95(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[(len(times)*95+99)/100-1]
}
