package peer

import (
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Each connection hears something every pingInterval, in both directions. One that
// has heard nothing for quietTicks ticks is dead, or its peer frozen, and is closed.
// Ticks and not the time are counted, so that a node that was frozen itself does not
// take its peers for dead when it wakes.
const (
	pingInterval = 300 * time.Millisecond
	tickInterval = 250 * time.Millisecond
	quietTicks   = 7
)

// watchdog closes connections that have gone quiet. Safe for concurrent use.
type watchdog struct {
	mu    sync.Mutex
	conns map[*watchedConn]struct{}
}

func newWatchdog() *watchdog { return &watchdog{conns: map[*watchedConn]struct{}{}} }

// run ticks until stop is closed.
func (w *watchdog) run(stop <-chan struct{}) {
	ticker := time.NewTicker(tickInterval)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
			w.tick()
		}
	}
}

// tick counts one tick for every connection.
func (w *watchdog) tick() {
	w.mu.Lock()
	var dead []*watchedConn
	for c := range w.conns {
		if c.quiet.Add(1) >= quietTicks {
			dead = append(dead, c)
		}
	}
	w.mu.Unlock()
	for _, c := range dead {
		c.abort()
	}
}

// abortAll closes all connections.
func (w *watchdog) abortAll() {
	w.mu.Lock()
	conns := slices.Collect(maps.Keys(w.conns))
	w.mu.Unlock()
	for _, c := range conns {
		c.abort()
	}
}

// watch begins to watch a connection, until it is closed.
func (w *watchdog) watch(conn net.Conn) *watchedConn {
	c := &watchedConn{Conn: conn, dog: w}
	w.mu.Lock()
	w.conns[c] = struct{}{}
	w.mu.Unlock()
	return c
}

// watchedConn tells its watchdog when it hears something.
type watchedConn struct {
	net.Conn
	dog   *watchdog
	quiet atomic.Int32 // ticks since something was read
}

// Read reads from the connection.
func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.quiet.Store(0)
	}
	return n, err
}

// Close closes the connection.
func (c *watchedConn) Close() error {
	c.dog.mu.Lock()
	delete(c.dog.conns, c)
	c.dog.mu.Unlock()
	return c.Conn.Close()
}

// abort closes the connection and forgets what was not sent.
func (c *watchedConn) abort() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// watchedListener has its connections watched.
type watchedListener struct {
	net.Listener
	dog *watchdog
}

// Accept waits for the next connection.
func (l watchedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.dog.watch(conn), nil
}
