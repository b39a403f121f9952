package apiserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/kinsy/kinsy/test/kubernetes/process"
)

const (
	nodeCount     = 3
	statusTimeout = 2 * time.Second
)

var errNoPrimary = errors.New("no primary")

// nodes is a cluster of several stores under one kube-apiserver that knows all of
// them.
type nodes struct {
	*cluster
	stores  []*process.Store
	clients []*clientv3.Client // of one node each
}

// startNodes builds and starts all and returns when kube-apiserver is ready. They
// end with the test.
func startNodes(t *testing.T) *nodes {
	t.Helper()
	n := &nodes{cluster: prepareCluster(t), stores: make([]*process.Store, nodeCount)}
	n.failures = &failures{}
	n.compaction, n.eventTTL = clusterCompactionInterval, clusterEventTTL
	n.startStores(t, n.build(t))
	for _, store := range n.stores {
		n.endpoints = append(n.endpoints, store.Endpoint())
		n.clients = append(n.clients, nodeClient(t, store.Endpoint()))
	}
	n.startServer(t)
	return n
}

// startStores starts all nodes at once: etcd's serve only together.
func (n *nodes) startStores(t *testing.T, binary string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	peers := peerAddresses(t)
	errs := make([]error, nodeCount)
	var wg sync.WaitGroup
	for i := range nodeCount {
		config := process.StoreConfig{Kind: n.kind, Binary: binary, Dir: n.nodeDir(t, i), Args: n.nodeArguments(i, peers)}
		wg.Go(func() { n.stores[i], errs[i] = process.StartStore(ctx, config) })
	}
	wg.Wait()
	t.Cleanup(func() { n.killAll(t) })
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func (n *nodes) killAll(t *testing.T) {
	for i, store := range n.stores {
		if store == nil {
			continue
		}
		store.Kill()
		if t.Failed() {
			t.Logf("output of %s:\n%s", nodeName(i), store.Output())
		}
	}
}

func nodeName(i int) string { return fmt.Sprintf("n%d", i) }

func (n *nodes) nodeDir(t *testing.T, i int) string {
	t.Helper()
	dir := filepath.Join(n.dir, nodeName(i))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func peerAddresses(t *testing.T) []string {
	t.Helper()
	var out []string
	for range nodeCount {
		port, err := process.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("127.0.0.1:%d", port))
	}
	return out
}

// nodeArguments are what makes a store one of a cluster: for kinsy the same on
// every node but for name and address.
func (n *nodes) nodeArguments(i int, peers []string) []string {
	if n.kind != process.Reference {
		return append(objectFolder(filepath.Join(n.dir, "objects")).arguments(nil),
			"--cluster-id", "kubernetes-test",
			"--node-id", nodeName(i),
			"--peer-listen-address", peers[i],
			"--insecure-peers",
		)
	}
	var members []string
	for j, peer := range peers {
		members = append(members, nodeName(j)+"=http://"+peer)
	}
	return []string{
		"--name", nodeName(i),
		"--listen-peer-urls", "http://" + peers[i],
		"--initial-advertise-peer-urls", "http://" + peers[i],
		"--initial-cluster", strings.Join(members, ","),
	}
}

// nodeClient returns a client of one node. It ends with the test.
func nodeClient(t *testing.T, endpoint string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"http://" + endpoint}, DialTimeout: startTimeout, Logger: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// primary returns the node that calls itself the leader. It is an error if not
// every node but those left out names it.
func (n *nodes) primary(ctx context.Context, without ...int) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	found, leaders := -1, map[uint64]bool{}
	for i, client := range n.clients {
		if len(without) > 0 && i == without[0] {
			continue
		}
		status, err := client.Status(ctx, client.Endpoints()[0])
		if err != nil {
			return -1, fmt.Errorf("status of %s: %w", nodeName(i), err)
		}
		leaders[status.Leader] = true
		if status.Leader == status.Header.MemberId {
			found = i
		}
	}
	if found < 0 || len(leaders) != 1 {
		return -1, fmt.Errorf("%w: %d names for it", errNoPrimary, len(leaders))
	}
	return found, nil
}

func (n *nodes) awaitPrimary(t *testing.T, without ...int) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), settleTimeout)
	defer cancel()
	found := -1
	err := process.Until(ctx, pollInterval, func(ctx context.Context) (err error) {
		found, err = n.primary(ctx, without...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// killed is what became of a kill of the Primary.
type killed struct {
	at      time.Time
	node    int
	elected time.Duration // until the others named another
	joined  time.Duration // until the node was back and named it, too
}

// killPrimary ends the Primary by SIGKILL, and starts it again when it was away
// for some time.
func (n *nodes) killPrimary(t *testing.T) killed {
	t.Helper()
	k := killed{node: n.awaitPrimary(t)}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	k.at = time.Now()
	n.stores[k.node].Kill()
	away := time.NewTimer(downTime)
	n.awaitPrimary(t, k.node)
	k.elected = time.Since(k.at)
	<-away.C
	if err := n.stores[k.node].Start(ctx); err != nil {
		t.Fatal(err)
	}
	n.awaitPrimary(t)
	k.joined = time.Since(k.at)
	if err := n.server.WaitReady(ctx, n.ready); err != nil {
		t.Fatal(err)
	}
	n.outages = append(n.outages, [2]time.Time{k.at, time.Now().Add(recoveryTime)})
	return k
}

// watchStreams returns how many watch streams a node has open.
func (n *nodes) watchStreams(t *testing.T, i int) float64 {
	t.Helper()
	n.store = n.stores[i]
	streams, err := gauge(n.storeMetrics(t), "kinsy_grpc_watch_streams")
	if err != nil {
		t.Error(err)
	}
	return streams
}

// faultLine matches a line of kinsy's log that tells of a fault of its own.
var faultLine = regexp.MustCompile(`level=(error|fatal|panic)|^(panic|fatal error|goroutine)`)

func (n *nodes) checkStoreLogs(t *testing.T) {
	t.Helper()
	for i, store := range n.stores {
		text, err := os.ReadFile(store.Log())
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if faultLine.MatchString(line) {
				t.Errorf("%s: %s", nodeName(i), line)
			}
		}
	}
}

// terminate ends one node after the other by SIGTERM.
func (n *nodes) terminate(t *testing.T) {
	for _, n.store = range n.stores {
		n.terminateStore(t)
	}
}
