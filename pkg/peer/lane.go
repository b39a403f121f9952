package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/pkg/peer/peerpb"
)

// Times of opening a lane.
const (
	connectTimeout = 500 * time.Millisecond // of TCP
	openTimeout    = time.Second            // of everything: TCP, TLS, Hello
)

// Flow control: what may be on its way and not taken yet, in bytes.
const (
	streamWindow     = 4 << 20
	connectionWindow = 16 << 20
)

// lane is one connection to a peer and what keeps it from being taken for dead. When
// the connection ends the lane has ended; it is never connected again. A node has up
// to three lanes to each peer, so that rows and requests do not delay control
// messages.
type lane struct {
	client peerpb.PeerClient
	conn   *grpc.ClientConn
	raw    net.Conn // that conn uses, or has not come to use
	// ctx is the parent of all calls on the lane. It says hello, and ends with the
	// lane.
	ctx    context.Context
	cancel context.CancelCauseFunc
	// goodbye is closed when the peer stops: it has ended its calls, and their ends are
	// on the way.
	goodbye chan struct{}
	wg      sync.WaitGroup
}

// errNoAnswer: the peer did not answer within openTimeout.
var errNoAnswer = errors.New("the peer does not answer")

// openLane connects to a peer and exchanges Hellos. A peer with ID 0 may be any node.
// ErrRefused if one of the two sides does not want the other.
func (t *Transport) openLane(ctx context.Context, p Peer) (*lane, error) {
	if p.Address == "" {
		return nil, ErrUnknownPeer
	}
	ctx, cancel := context.WithTimeoutCause(ctx, openTimeout, errNoAnswer)
	defer cancel()
	conn, err := t.dial(ctx, p)
	if err != nil {
		return nil, err
	}
	l, err := t.newLane(p, conn)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	if err := l.open(ctx, t, p); err != nil {
		l.close(err)
		return nil, err
	}
	return l, nil
}

// dial makes the connection. Its bytes are watched below TLS.
func (t *Transport) dial(ctx context.Context, p Peer) (net.Conn, error) {
	if t.cfg.Insecure && !loopback(p.Address) {
		return nil, fmt.Errorf("%w: %s is not a loopback address, which --insecure-peers needs", ErrRefused, p.Address)
	}
	dialer := net.Dialer{Timeout: connectTimeout}
	tcp, err := dialer.DialContext(ctx, "tcp", p.Address)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("connect: %w", err)
	}
	watched := t.dog.watch(tcp)
	if t.cfg.Insecure {
		return watched, nil
	}
	secured, err := handshake(ctx, watched, t.certs.clientConfig(p.Name, t.cfg.Cluster))
	if err == nil {
		return secured, nil
	}
	watched.abort()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("connect: %w", context.Cause(ctx))
	}
	var op *net.OpError
	if errors.Is(err, io.EOF) || errors.As(err, &op) && op.Op != remoteError {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return nil, fmt.Errorf("%w: node at %s: %w", ErrRefused, p.Address, err)
}

// remoteError is what crypto/tls calls an alert of the other side.
const remoteError = "remote error"

// handshake makes a TLS connection and waits for the first byte of the other side: with
// TLS 1.3 that is when it is known whether it takes this side's certificate. A gRPC
// server speaks first.
func handshake(ctx context.Context, conn net.Conn, config *tls.Config) (net.Conn, error) {
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	c := &tlsConn{Conn: secured, raw: conn, first: make([]byte, 1)}
	_, err := io.ReadFull(secured, c.first)
	return c, err
}

// tlsConn is a TLS connection whose first byte was read already.
type tlsConn struct {
	net.Conn
	raw   net.Conn // below TLS
	first []byte
}

// Read reads from the connection.
func (c *tlsConn) Read(b []byte) (int, error) {
	if len(c.first) == 0 || len(b) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.first)
	c.first = c.first[n:]
	return n, nil
}

// Close closes the connection without TLS's good-bye, which may wait for the other
// side; gRPC tells where a stream ends.
func (c *tlsConn) Close() error { return c.raw.Close() }

// newLane lets gRPC use a connection, once.
func (t *Transport) newLane(p Peer, conn net.Conn) (*lane, error) {
	var used atomic.Bool
	dial := func(context.Context, string) (net.Conn, error) {
		if used.Swap(true) {
			return nil, errors.New("the connection has ended")
		}
		return conn, nil
	}
	cc, err := grpc.NewClient("passthrough:///"+p.Address,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // TLS is below
		grpc.WithContextDialer(dial),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithIdleTimeout(0),
		grpc.WithInitialWindowSize(streamWindow),
		grpc.WithInitialConnWindowSize(connectionWindow),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(t.cfg.MaxFrameBytes+frameSlack),
			grpc.ForceCodecV2(codec{}),
		))
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	l := &lane{conn: cc, raw: conn, client: peerpb.NewPeerClient(cc), goodbye: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancelCause(t.withHello(t.ctx, p.ID))
	return l, nil
}

// open says hello, checks the answer, and begins to ping.
func (l *lane) open(ctx context.Context, t *Transport, p Peer) error {
	stop := context.AfterFunc(ctx, func() { l.cancel(context.Cause(ctx)) })
	defer stop()
	stream, err := l.client.Ping(l.ctx)
	if err != nil {
		return l.explain(err)
	}
	md, err := stream.Header()
	if err == nil && md.Get(helloKey) == nil {
		err = stream.RecvMsg(&peerpb.PingMessage{}) // the status, if it was refused
	}
	if err != nil {
		return l.explain(err)
	}
	h, err := t.readHello(md)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if p.Name != "" && h.Name != p.Name {
		return fmt.Errorf("%w: node %q answers at the address of node %q", ErrRefused, h.Name, p.Name)
	}
	if !stop() {
		return context.Cause(ctx)
	}
	l.wg.Go(func() { l.ping(stream) })
	l.wg.Go(func() { l.listen(stream) })
	return nil
}

// explain turns what gRPC says into an error of this package.
func (l *lane) explain(err error) error {
	if s, ok := status.FromError(err); ok && s.Code() == codes.FailedPrecondition {
		return fmt.Errorf("%w: %s", ErrRefused, s.Message())
	}
	if cause := context.Cause(l.ctx); cause != nil {
		return cause
	}
	return err
}

// ping lets both sides hear something until the lane ends.
func (l *lane) ping(stream peerpb.Peer_PingClient) {
	ticker := time.NewTicker(pingInterval)
	defer ticker.Stop()
	for seq := uint64(1); ; seq++ {
		_ = stream.Send(&peerpb.PingMessage{Seq: seq}) // listen has the reason if it did not work
		select {
		case <-ticker.C:
		case <-l.goodbye:
			return
		case <-l.ctx.Done():
			return
		}
	}
}

// listen waits for the end of the connection; then the lane ends, too.
func (l *lane) listen(stream peerpb.Peer_PingClient) {
	for {
		_, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			close(l.goodbye)
			return
		}
		if err != nil {
			l.end(fmt.Errorf("connection lost: %w", err))
			return
		}
	}
}

// end ends all calls on the lane. It does not wait.
func (l *lane) end(cause error) { l.cancel(cause) }

// close ends the lane and waits for its goroutine.
func (l *lane) close(cause error) {
	l.end(cause)
	_ = l.conn.Close()
	_ = l.raw.Close()
	l.wg.Wait()
}

// Ping sends every message back. It ends last when this node stops: the other side
// then gives the connection up.
func (s *service) Ping(stream peerpb.Peer_PingServer) error {
	s.t.heardFrom(stream.Context())
	ended := make(chan error, 1)
	if !s.t.spawn(func() { ended <- echo(stream) }) {
		return errStops
	}
	select {
	case err := <-ended:
		return ending(stream.Context(), err)
	case <-s.t.lastly:
		return nil
	}
}

func echo(stream peerpb.Peer_PingServer) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := stream.Send(m); err != nil {
			return err
		}
	}
}
