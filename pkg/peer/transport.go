package peer

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
)

// Limits of what a peer may do on one connection.
const (
	handshakeTimeout = 2 * time.Second
	maxStreams       = 64
	maxHeaderBytes   = 16 << 10
)

// Transport connects a node with its peers. Its methods may be called concurrently.
type Transport struct {
	cfg      Config
	certs    *certificates // nil if Insecure
	dog      *watchdog
	listener net.Listener // nil if it does not listen
	server   *grpc.Server
	refusals refusals

	// ctx ends when the Transport is closed.
	ctx    context.Context
	cancel context.CancelCauseFunc
	// lastly is closed when what ends with ctx has ended.
	lastly chan struct{}
	wg     sync.WaitGroup // the goroutines of links, of streams, and the watchdog

	mu     sync.Mutex
	closed bool
	// handlers are the Follow and Call streams that are served.
	handlers sync.WaitGroup
	names    map[elect.NodeID]string
	links    map[elect.NodeID]*link
}

// New checks the configuration, loads the certificates and opens the listener, so that
// Addr is known; connections are served from Serve on. Close must be called.
func New(cfg Config) (*Transport, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	t := &Transport{cfg: cfg, dog: newWatchdog(), lastly: make(chan struct{}), names: map[elect.NodeID]string{}, links: map[elect.NodeID]*link{}}
	if !cfg.Insecure {
		certs, err := loadCertificates(cfg, time.Now)
		if err != nil {
			return nil, err
		}
		t.certs = certs
	}
	if cfg.ListenAddress != "" {
		l, err := net.Listen("tcp", cfg.ListenAddress)
		if err != nil {
			return nil, fmt.Errorf("listen for peers: %w", err)
		}
		t.listener = l
		t.server = t.newServer()
	}
	t.ctx, t.cancel = context.WithCancelCause(context.Background())
	t.wg.Go(func() { t.dog.run(t.ctx.Done()) })
	return t, nil
}

func (t *Transport) newServer() *grpc.Server {
	opts := []grpc.ServerOption{
		grpc.ForceServerCodecV2(codec{}),
		grpc.UnaryInterceptor(t.unaryInterceptor),
		grpc.StreamInterceptor(t.streamInterceptor),
		grpc.WaitForHandlers(true),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.MaxRecvMsgSize(t.cfg.MaxFrameBytes + frameSlack),
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connectionWindow),
	}
	if !t.cfg.Insecure {
		opts = append(opts, grpc.Creds(credentials.NewTLS(t.certs.serverConfig())))
	}
	server := grpc.NewServer(opts...)
	peerpb.RegisterPeerServer(server, &service{t: t})
	return server
}

// service is the side of a Transport that answers.
type service struct {
	peerpb.UnsafePeerServer
	t *Transport
}

var _ peerpb.PeerServer = (*service)(nil)

// Addr is the address that the node listens on; nil if it does not.
func (t *Transport) Addr() net.Addr {
	if t.listener == nil {
		return nil
	}
	return t.listener.Addr()
}

// Address is where the others reach this node: Config.AdvertiseAddress, or else what
// it listens on; "" if it does not.
func (t *Transport) Address() string {
	switch {
	case t.cfg.AdvertiseAddress != "":
		return t.cfg.AdvertiseAddress
	case t.listener != nil:
		return t.listener.Addr().String()
	}
	return ""
}

// Serve accepts peers until Close, and returns nil then. It is called once, and not
// without Config.ListenAddress.
func (t *Transport) Serve() error {
	err := t.server.Serve(watchedListener{t.listener, t.dog})
	if t.ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve peers: %w", err)
}

// SetPeers says who the peers are and where, instead of what was said before. Messages
// go to them only, and a disk among them is accepted under its name only. Any other
// node of the cluster is accepted, too: one that joins is not known yet. Connections
// from a node that is not among them any more go on, and so does a Following. This node itself may be among
// them and is left out.
func (t *Transport) SetPeers(peers []Peer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	names := make(map[elect.NodeID]string, len(peers))
	links := make(map[elect.NodeID]*link, len(peers))
	for _, p := range peers {
		if p.ID == t.cfg.Self || p.ID == 0 {
			continue
		}
		names[p.ID] = p.Name
		if l := t.links[p.ID]; l != nil && l.peer == p {
			links[p.ID] = l
		} else if links[p.ID] == nil {
			links[p.ID] = t.newLink(p)
		}
	}
	for id, l := range t.links {
		if links[id] != l {
			l.end()
		}
	}
	t.names, t.links = names, links
}

// link returns the link to a peer; nil if it is not known.
func (t *Transport) link(id elect.NodeID) *link {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.links[id]
}

// knownName is the name that SetPeers gave a disk.
func (t *Transport) knownName(id elect.NodeID) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name, ok := t.names[id]
	return name, ok
}

// heardFrom is told when a node has connected: it can then be reached, too.
func (t *Transport) heardFrom(ctx context.Context) {
	from, _ := caller(ctx)
	if l := t.link(from); l != nil {
		l.retry()
	}
}

// serving returns the context of a stream that this node serves.
func (t *Transport) serving(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(t.ctx, func() { cancel(ErrClosed) })
	return ctx, func() { stop(); cancel(context.Canceled) }
}

// spawn runs f on a goroutine that Close waits for, unless the Transport is closed.
func (t *Transport) spawn(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.wg.Go(f)
	return true
}

// Close ends all streams and connections, waits until handlers have returned or ctx
// ends, and returns why it did not wait longer. Streams of this side end with
// ErrClosed, and so does a second Close.
func (t *Transport) Close(ctx context.Context) error {
	t.mu.Lock()
	closed := t.closed
	t.closed = true
	t.mu.Unlock()
	if closed {
		return ErrClosed
	}
	t.cancel(ErrClosed)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.stopServer(ctx)
		t.wg.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close peer transport: %w", context.Cause(ctx))
	}
}

// goodbye is how long Close lets streams end by themselves, so that the other sides
// hear why.
const goodbye = 500 * time.Millisecond

func (t *Transport) stopServer(ctx context.Context) {
	if t.server == nil {
		return
	}
	_ = t.listener.Close() // also where Serve was not called
	ctx, cancel := context.WithTimeout(ctx, goodbye)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		t.dog.abortAll() // handshakes, too
		t.server.Stop()
	})()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		t.handlers.Wait()
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	close(t.lastly)
	t.server.GracefulStop()
	<-ended
}

// handling counts a stream that Close lets end first. It reports false, and counts
// nothing, where the Transport is closed.
func (t *Transport) handling() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.handlers.Add(1)
	}
	return !t.closed
}
