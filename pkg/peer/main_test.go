package peer

import (
	"context"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/goleak"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testCluster = "test"

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

type received struct {
	from    elect.NodeID
	message elect.Message
}

// handler is a node whose answers a test chooses.
type handler struct {
	messages  chan received
	follow    func(ctx context.Context, s FollowStream) error
	forward   func(ctx context.Context, r *peerpb.ForwardRequest) *peerpb.ForwardResponse
	committed func(ctx context.Context, epoch sqllog.Epoch) (sqllog.ID, error)
	state     *peerpb.NodeState
	handOver  func(ctx context.Context, to elect.NodeID) (elect.NodeID, error)
}

func (h *handler) Receive(from elect.NodeID, m elect.Message) {
	select {
	case h.messages <- received{from, m}:
	default:
	}
}

func (h *handler) Follow(ctx context.Context, s FollowStream) error { return h.follow(ctx, s) }

func (h *handler) Forward(ctx context.Context, r *peerpb.ForwardRequest) *peerpb.ForwardResponse {
	return h.forward(ctx, r)
}

func (h *handler) Committed(ctx context.Context, epoch sqllog.Epoch) (sqllog.ID, error) {
	return h.committed(ctx, epoch)
}

func (h *handler) State() *peerpb.NodeState { return h.state }

func newHandler() *handler {
	return &handler{
		messages: make(chan received, 1000),
		forward:  echoForward,
		state:    &peerpb.NodeState{Name: "x"},
		committed: func(_ context.Context, epoch sqllog.Epoch) (sqllog.ID, error) {
			return sqllog.ID(epoch) * 10, nil
		},
	}
}

// echoForward answers a lease request with the same id and TTL.
func echoForward(_ context.Context, r *peerpb.ForwardRequest) *peerpb.ForwardResponse {
	grant := r.GetLeaseGrant()
	return &peerpb.ForwardResponse{
		Response: &peerpb.ForwardResponse_LeaseGrant{LeaseGrant: &pb.LeaseGrantResponse{ID: grant.GetID(), TTL: grant.GetTTL()}},
		Applied:  7,
	}
}

func grant(id int64) *peerpb.ForwardRequest {
	return &peerpb.ForwardRequest{Request: &peerpb.ForwardRequest_LeaseGrant{LeaseGrant: &pb.LeaseGrantRequest{ID: id, TTL: 60}}}
}

// logs keeps the lines of a node.
type logs struct {
	mu      sync.Mutex
	entries []*logrus.Entry
	added   chan struct{}
}

func (l *logs) Levels() []logrus.Level { return logrus.AllLevels }

func (l *logs) Fire(e *logrus.Entry) error {
	l.mu.Lock()
	l.entries = append(l.entries, e)
	l.mu.Unlock()
	signal(l.added)
	return nil
}

// errors are the errors of the lines with a message.
func (l *logs) errors(message string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []string
	for _, e := range l.entries {
		if e.Message == message {
			text := ""
			if err, ok := e.Data[logrus.ErrorKey].(error); ok {
				text = err.Error()
			}
			found = append(found, text)
		}
	}
	return found
}

// node is a Transport that is served.
type node struct {
	*Transport
	h    *handler
	stop func()
	logs *logs
}

// config is that of a node with an identity and a name, on a free port.
func config(id elect.NodeID, name string) Config {
	return Config{Self: id, Name: name, Cluster: ClusterID(testCluster), ListenAddress: "127.0.0.1:0", Insecure: true}
}

// start starts a node and has it closed with the test.
func start(t testing.TB, cfg Config, h *handler) *node {
	t.Helper()
	n := &node{h: h, logs: &logs{added: make(chan struct{}, 1)}}
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	logger.AddHook(n.logs)
	cfg.Logger = logger
	cfg.Handler = h
	transport, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.Transport = transport
	served := make(chan error, 1)
	if cfg.ListenAddress == "" {
		served <- nil
	} else {
		go func() { served <- transport.Serve() }()
	}
	var once sync.Once
	stop := func() {
		once.Do(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := transport.Close(ctx); err != nil {
				t.Error(err)
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
	n.stop = stop
	t.Cleanup(stop)
	return n
}

// peer is how others know the node.
func (n *node) peer() Peer { return Peer{n.cfg.Self, n.cfg.Name, n.Address()} }

// pair is two nodes that know each other.
func pair(t testing.TB) (a, b *node) {
	t.Helper()
	a, b = start(t, config(1, "a"), newHandler()), start(t, config(2, "b"), newHandler())
	meet(a, b)
	return a, b
}

func meet(nodes ...*node) {
	var peers []Peer
	for _, n := range nodes {
		peers = append(peers, n.peer())
	}
	for _, n := range nodes {
		n.SetPeers(peers)
	}
}

// within is a context that ends when a test has waited too long.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// next waits for an entry of a channel.
func next[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// waitLog waits for a line and returns its error.
func (n *node) waitLog(t testing.TB, message string) string {
	t.Helper()
	for {
		if found := n.logs.errors(message); len(found) > 0 {
			return found[0]
		}
		next(t, message, n.logs.added)
	}
}
