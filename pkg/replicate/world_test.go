package replicate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/internal/wallclock"
	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Times of the clusters of these tests.
const (
	testHeartbeat = 10 * time.Millisecond
	testSuspicion = 60 * time.Millisecond
)

// world is a cluster in this process: real logs, indexes and archives on object
// storage in memory, and a network that does what it is told to.
type world struct {
	testing.TB
	net    *network
	memory *object.Memory
	rule   elect.Rule
	every  time.Duration // between uploads of committed rows
	gone   sync.Map      // elect.NodeID of lost disks
	clock  slowClock
	nodes  []*testNode
	out    *logBuffer
	setup  func(*MemberConfig)
}

// slowClock goes on only as fast as somebody looks at it: a process that gets no time
// suspects nobody.
type slowClock struct {
	mu   sync.Mutex
	now  time.Duration
	last time.Time
}

func (c *slowClock) look() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := time.Now()
	if !c.last.IsZero() {
		c.now += min(t.Sub(c.last), testHeartbeat/4)
	}
	c.last = t
	return c.now
}

// logBuffer keeps what nodes log, for a test that fails.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func newWorld(t testing.TB) *world {
	w := &world{TB: t, net: newNetwork(), memory: object.NewMemory(), rule: elect.Majority, every: 50 * time.Millisecond, out: &logBuffer{}}
	if p, ok := t.(interface{ Parallel() }); ok { // most of the time is spent waiting
		p.Parallel()
	}
	t.Cleanup(func() {
		for _, n := range w.nodes {
			n.stop()
		}
		if t.Failed() {
			w.out.mu.Lock()
			defer w.out.mu.Unlock()
			t.Log("what the nodes logged:\n" + w.out.buf.String())
		}
	})
	return w
}

// testNode is one node, which may be started and stopped.
type testNode struct {
	w       *world
	name    string
	path    string
	store   *nodeStore
	wall    wallclock.Clock
	running bool

	id      elect.NodeID
	log     *faultyLog
	archive *s3snap.Archive
	index   *mvcc.Store
	m       *Member
	live    atomic.Pointer[Member] // m, for those who call while others start and stop it
	peers   *endpoint
	fatal   chan error
}

// add makes a node with an empty disk, and starts it.
func (w *world) add(name string) *testNode {
	w.Helper()
	n := &testNode{w: w, name: name, path: filepath.Join(w.TempDir(), "kinsy.db"), store: newNodeStore(w.memory)}
	w.nodes = append(w.nodes, n)
	n.start()
	return n
}

// start starts a node on what its disk holds.
func (n *testNode) start() {
	w := n.w
	w.Helper()
	logger := logrus.New()
	logger.SetOutput(w.out)
	logger.SetLevel(logrus.DebugLevel)
	logger.SetFormatter(&logrus.TextFormatter{DisableColors: true, TimestampFormat: "05.000"})
	quietly := logger.WithField("node", n.name)
	n.fatal = make(chan error, 10)
	fatal := func(err error) {
		quietly.WithError(err).Error("fatal")
		n.fatal <- err
	}
	var member func() *Member
	var mu sync.Mutex
	member = func() *Member {
		mu.Lock()
		defer mu.Unlock()
		return n.m
	}
	log, archive, err := s3snap.OpenReplica(ctx, s3snap.Config{
		Store: n.store, Path: n.path, Cluster: 7, Rule: w.rule, UploadInterval: w.every, Logger: quietly, OnFatal: fatal,
		OnDeposed: func(e sqllog.Epoch, err error) {
			if m := member(); m != nil {
				m.ArchiveDeposed(e, err)
			}
		},
		OnUploaded: func(e sqllog.Epoch, end sqllog.Head) {
			if m := member(); m != nil {
				m.Uploaded(e, end)
			}
		},
	})
	if err != nil {
		w.Fatal(err)
	}
	n.id, n.archive, n.log = elect.NodeID(log.Identity().Node), archive, &faultyLog{Log: log}
	cluster, err := archive.Control().Read(ctx)
	if err != nil {
		w.Fatal(err)
	}
	if n.index, err = mvcc.Open(ctx, log, mvcc.Config{Logger: quietly, ProgressInterval: -1, Head: log.Committed(), Now: n.wall.Now}); err != nil {
		w.Fatal(err)
	}
	n.peers = w.net.endpoint(n.id)
	cfg := MemberConfig{
		Self: n.id, Rule: w.rule, Cluster: cluster, Log: n.log, Store: n.index, Archive: archive, Control: archive.Control(),
		Peers: n.peers, Clock: w.clock.look, Status: testStatus, OnFatal: fatal, Logger: quietly,
		Names: func(id elect.NodeID) (string, bool) {
			_, gone := w.gone.Load(id)
			return id.String(), gone
		},
		Heartbeat: testHeartbeat, Suspicion: testSuspicion,
	}
	if w.setup != nil {
		w.setup(&cfg)
	}
	m := NewMember(cfg)
	mu.Lock()
	n.m = m
	mu.Unlock()
	n.peers.serve(m)
	m.Start()
	n.running = true
	n.live.Store(m)
	n.w.out.Write([]byte(fmt.Sprintf("-- node %s is %s\n", n.name, n.id)))
}

// testStatus is what errors are told as between nodes.
func testStatus(err error) error {
	switch {
	case errors.Is(err, mvcc.ErrLeaseNotFound):
		return status.Error(codes.NotFound, leaseNotFoundText)
	case errors.Is(err, ErrNoSpace):
		return status.Error(codes.ResourceExhausted, err.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.Unavailable, err.Error())
}

// stop ends a node as a shutdown does that is in a hurry: nothing is uploaded, nobody
// is told.
func (n *testNode) stop() {
	if !n.running {
		return
	}
	n.running = false
	n.live.Store(nil)
	n.peers.leave()
	n.closeMember()
	n.peers.wg.Wait()
	n.archive.Interrupt()
	n.store.set(nil)
	done, cancel := context.WithCancel(ctx)
	cancel()
	n.archive.Close(done)
	n.index.Close()
	if err := n.log.Log.Close(); err != nil {
		n.w.Error(err)
	}
	select {
	case err := <-n.fatal:
		n.w.Errorf("node %s was to end: %v", n.name, err)
	default:
	}
}

// closeMember closes the Member, which must not take long.
func (n *testNode) closeMember() {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		n.m.Close()
	}()
	select {
	case <-closed:
	case <-within(patient).Done():
		n.w.Errorf("node %s does not close", n.name)
		<-closed
	}
}

// logged reports whether some node has logged a text.
func (w *world) logged(text string) bool {
	w.out.mu.Lock()
	defer w.out.mu.Unlock()
	return strings.Contains(w.out.buf.String(), text)
}

// eventually waits for something that no channel tells.
func (w *world) eventually(what string, done func() bool) {
	w.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for start := time.Now(); !done(); <-ticker.C {
		if time.Since(start) > 15*time.Second {
			var states []string
			for _, n := range w.nodes {
				if n.running {
					states = append(states, fmt.Sprintf("%s: %v, log %v, index %v", n.name, n.m.control.state(), n.log.Head(), n.index.Head()))
				}
			}
			w.Fatalf("waiting for %s\n%s", what, strings.Join(states, "\n"))
		}
	}
}

// leads reports whether a node is Primary, in its own eyes.
func (n *testNode) leads() bool {
	role, _ := n.m.role()
	return n.running && role == elect.Primary && n.m.primary() != nil
}

func (n *testNode) awaitLead() *testNode {
	n.w.Helper()
	n.w.eventually(n.name+" as primary", n.leads)
	return n
}

// primary waits for one, other than some nodes, that a majority follows.
func (w *world) primary(except ...*testNode) *testNode {
	w.Helper()
	var found *testNode
	w.eventually("a primary", func() bool {
		for _, n := range w.nodes {
			if n.running && !slices.Contains(except, n) && n.leads() {
				found = n
				return true
			}
		}
		return false
	})
	return found
}

// follows reports whether a node receives rows from another one.
func (n *testNode) follows(p *testNode) bool {
	node, _, _ := n.m.leader.get()
	return n.running && node == p.id && n.m.streaming.Load() && p.m.healthy(n.id)
}

func (n *testNode) awaitFollow(p *testNode) {
	n.w.Helper()
	n.w.eventually(n.name+" to follow "+p.name, func() bool { return n.follows(p) })
}

// cluster is what cluster.json says.
func (w *world) cluster() elect.Cluster {
	c, err := s3snap.NewControl(w.memory, 1, 1, quiet()).Read(ctx)
	if err != nil {
		w.Fatal(err)
	}
	return c
}

// voters waits until just these nodes vote.
func (w *world) voters(nodes ...*testNode) {
	w.Helper()
	var want []elect.NodeID
	for _, n := range nodes {
		want = append(want, n.id)
	}
	slices.Sort(want)
	w.eventually("the voters", func() bool {
		c := w.cluster()
		return !c.Changing && slices.Equal(c.Members, want) && slices.Equal(w.primary().m.Voters(), want)
	})
}

// trio is a cluster of three voters, of which the first is Primary.
func (w *world) trio() (a, b, c *testNode) {
	w.Helper()
	w.add("a").awaitLead()
	w.add("b")
	w.add("c")
	w.voters(w.nodes...)
	a = w.primary() // where the machine is busy, another election may have been held
	others := slices.DeleteFunc(slices.Clone(w.nodes), func(n *testNode) bool { return n == a })
	return a, others[0], others[1]
}

// cut makes nodes silent to each other, both ways, or lets them speak again.
func (w *world) cut(a, b *testNode, on bool) {
	w.net.hush(a.id, b.id, on)
	w.net.hush(b.id, a.id, on)
}

// isolate cuts a node off all others.
func (w *world) isolate(a *testNode, on bool) {
	for _, n := range w.nodes {
		if n != a {
			w.cut(a, n, on)
		}
	}
}

// within bounds a call that must not hang.
func within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(ctx, d)
	context.AfterFunc(ctx, cancel)
	return ctx
}

const patient = 15 * time.Second

func (n *testNode) tryPut(ctx context.Context, key, value string) (int64, error) {
	resp, err := n.m.Txn(ctx, writes(put(key, value)))
	if err != nil {
		return 0, err
	}
	return resp.Header.Revision, nil
}

// put writes, and tries again while there is no Primary.
func (n *testNode) put(key, value string) int64 {
	n.w.Helper()
	limit := within(patient)
	for {
		rev, err := n.tryPut(limit, key, value)
		if err == nil {
			return rev
		}
		if limit.Err() != nil {
			n.w.Fatalf("put at %s: %v", n.name, err)
		}
	}
}

func (n *testNode) tryGet(ctx context.Context, key string) (string, error) {
	resp, err := n.m.Range(ctx, &pb.RangeRequest{Key: []byte(key)})
	if err != nil || len(resp.Kvs) == 0 {
		return "", err
	}
	return string(resp.Kvs[0].Value), nil
}

// get is a linearizable read.
func (n *testNode) get(key string) string {
	n.w.Helper()
	value, err := n.tryGet(within(patient), key)
	if err != nil {
		n.w.Fatalf("get at %s: %v", n.name, err)
	}
	return value
}

// local is what a serializable read gives.
func (n *testNode) local(key string) string {
	n.w.Helper()
	resp, err := n.m.Range(ctx, &pb.RangeRequest{Key: []byte(key), Serializable: true})
	if err != nil {
		n.w.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return ""
	}
	return string(resp.Kvs[0].Value)
}

// same checks that all nodes come to hold the same.
func (w *world) same(nodes ...*testNode) {
	w.Helper()
	w.eventually("equal indexes", func() bool {
		var first uint32
		for i, n := range nodes {
			h, err := n.m.HashKV(ctx, 0)
			if err != nil {
				w.Fatal(err)
			}
			if i > 0 && (h.Hash != first || n.index.Head() != nodes[0].index.Head()) {
				return false
			}
			first = h.Hash
		}
		return true
	})
}

// put3 writes at every node, so that it is known to serve.
func (w *world) put3() {
	w.Helper()
	for _, n := range w.nodes {
		n.put("last", n.name)
	}
}
