package gateway

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/kinsy/kinsy/pkg/server"
)

// messageLimit is the size of the largest message of a WebSocket client in bytes.
const messageLimit = 1 << 20

// closeGrace is how long a client may take to answer that its connection ends.
const closeGrace = time.Second

// How a connection ends.
var (
	errLeft = errors.New("client left")
	errGone = errors.New("client does not answer pings")
	errSlow = errors.New("client does not read")
)

// session is one WebSocket.
type session struct {
	g      *Gateway
	conn   *websocket.Conn
	tcp    net.Conn // what conn writes to, to cut it off
	engine server.WatchStream
	ctx    context.Context // ends with the session, its cause says why
	cancel context.CancelCauseFunc
	moved  atomic.Int64 // frames that were taken and messages that came

	mu       sync.Mutex
	nextName int64
	names    map[string]*watch // by the client's id, as text
	asked    []*watch          // the engine's answers to Create are still to come, in this order
	active   int               // watches that the engine has created and not canceled
	wants    []int64           // progress that the client asked for: the revisions to reach
	overrun  []int64           // watches that compaction has ended and that still have their ids

	delivery // deliver's own
}

// serveWebSocket serves a WebSocket until either side ends it.
func (g *Gateway) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	if !g.enter() {
		writeError(w, errStopping)
		return
	}
	defer g.watches.Done()
	h := &hijacker{ResponseWriter: w}
	conn, err := websocket.Accept(h, r, &websocket.AcceptOptions{
		InsecureSkipVerify: slices.Contains(g.cfg.Origins, AnyOrigin),
		OriginPatterns:     g.cfg.Origins,
	})
	if err != nil { // the client was told
		return
	}
	conn.SetReadLimit(messageLimit)
	s := &session{
		g: g, conn: conn, tcp: h.conn, engine: g.cfg.Watcher.NewWatchStream(),
		names: make(map[string]*watch), delivery: newDelivery(),
	}
	s.ctx, s.cancel = context.WithCancelCause(g.draining)
	g.metrics.streams.WithLabelValues(kindWebSocket).Inc()
	defer g.metrics.streams.WithLabelValues(kindWebSocket).Dec()
	s.run()
}

// hijacker lets go of a connection and keeps a hand on it.
type hijacker struct {
	http.ResponseWriter
	conn net.Conn
}

// Hijack implements http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	h.conn = conn
	return conn, rw, err
}

// run returns when all goroutines of the session have ended.
func (s *session) run() {
	var others sync.WaitGroup
	others.Go(s.guarded(s.receive))
	others.Go(s.guarded(s.ping))
	s.guarded(func() { s.cancel(s.deliver()) })()
	cut := time.AfterFunc(closeGrace, func() { _ = s.tcp.Close() })
	s.engine.Close()
	s.close()
	_ = s.tcp.Close()
	cut.Stop()
	others.Wait()
}

// guarded returns f with a panic ending the session and nothing else.
func (s *session) guarded(f func()) func() {
	return func() {
		defer func() {
			if p := recover(); p != nil {
				s.cancel(s.g.recovered(callWatch, p))
			}
		}()
		f()
	}
}

// close says to the client why, unless the client knows or does not listen.
func (s *session) close() {
	cause := context.Cause(s.ctx)
	log := s.g.cfg.Logger.WithError(cause)
	switch {
	case errors.Is(cause, errLeft):
		_ = s.conn.CloseNow()
	case errors.Is(cause, errGone), errors.Is(cause, errSlow):
		log.Info("websocket closed")
		_ = s.conn.CloseNow()
	case s.g.draining.Err() != nil:
		_ = s.conn.Close(websocket.StatusGoingAway, errStopping.Message)
	default:
		log.Warn("watch of a websocket failed")
		_ = s.conn.Close(websocket.StatusInternalError, clip(toError(cause).Message))
	}
}

// write sends one message; it fails if the client does not take it in time.
func (s *session) write(b []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), s.g.cfg.WriteTimeout)
	defer cancel()
	stop := context.AfterFunc(s.ctx, func() { time.AfterFunc(closeGrace, cancel) })
	defer stop()
	err := s.conn.Write(ctx, websocket.MessageText, b)
	if err == nil {
		s.moved.Add(1)
		return nil
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errSlow
	}
	return errLeft
}

// ping looks for the client now and then. What it does not answer while frames are
// taken or messages come is only late.
func (s *session) ping() {
	ticker := time.NewTicker(s.g.cfg.PingInterval)
	defer ticker.Stop()
	for missed := 0; missed < 2; {
		select {
		case <-s.ctx.Done():
			return
		case <-ticker.C:
		}
		before := s.moved.Load()
		ctx, cancel := context.WithTimeout(context.Background(), s.g.cfg.PingInterval)
		err := s.conn.Ping(ctx)
		cancel()
		if err == nil || s.moved.Load() != before {
			missed = 0
			continue
		}
		missed++
	}
	s.cancel(errGone)
	_ = s.tcp.Close()
}
