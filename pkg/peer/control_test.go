package peer

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// TestSend: messages arrive in order, with their sender.
func TestSend(t *testing.T) {
	a, b := pair(t)
	for i := range 100 {
		a.Send(2, elect.Audit{Epoch: sqllog.Epoch(i)})
	}
	for i := range 100 {
		if got := next(t, "a message", b.h.messages); got != (received{1, elect.Audit{Epoch: sqllog.Epoch(i)}}) {
			t.Fatalf("message %d is %v", i, got)
		}
	}
	a.Send(3, elect.Ask{Seq: 1}) // nobody
	b.Send(1, elect.Ask{Seq: 2})
	if got := next(t, "an answer", a.h.messages); got != (received{2, elect.Ask{Seq: 2}}) {
		t.Fatalf("%v", got)
	}
}

// TestQueue: it is bounded, by number and by age; the oldest messages go.
func TestQueue(t *testing.T) {
	q := messageQueue{wake: make(chan struct{}, 1)}
	now := time.Now()
	for i := range queueMessages + 10 {
		q.put(elect.Ask{Seq: uint64(i)}, now)
	}
	got := q.take(now)
	if len(got) != queueMessages || got[0] != (elect.Ask{Seq: 10}) || got[queueMessages-1] != (elect.Ask{Seq: queueMessages + 9}) {
		t.Fatalf("%d messages, %v first, %v last", len(got), got[0], got[len(got)-1])
	}
	q.put(elect.Ask{Seq: 1}, now)
	q.put(elect.Ask{Seq: 2}, now.Add(queueAge))
	if got := q.take(now.Add(queueAge + 1)); len(got) != 1 || got[0] != (elect.Ask{Seq: 2}) {
		t.Fatalf("%v", got)
	}
	if got := q.take(now); len(got) != 0 {
		t.Fatalf("%v are left", got)
	}
}

// sendUntil sends until a message arrives: one may be lost with a connection.
func sendUntil(t *testing.T, from *node, to *node) {
	t.Helper()
	deadline := time.Now().Add(patience)
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for seq := uint64(1); time.Now().Before(deadline); seq++ {
		from.Send(to.cfg.Self, elect.Ask{Seq: seq})
		select {
		case <-to.h.messages:
			return
		case <-ticker.C:
		}
	}
	t.Fatal("no message arrives")
}

// TestReconnects: a peer that restarts is reached again, at once.
func TestReconnects(t *testing.T) {
	a, b := pair(t)
	sendUntil(t, a, b)
	address := b.Address()
	b.stop()
	a.waitLog(t, "peer not reached")
	for range 3 {
		cfg := config(2, "b")
		cfg.ListenAddress = address
		b = start(t, cfg, newHandler())
		began := time.Now()
		sendUntil(t, a, b)
		if took := time.Since(began); took > time.Second { // much of it is this test's machine
			t.Errorf("reached after %v", took)
		}
		if _, err := a.Forward(within(t), 2, grant(1)); err != nil {
			t.Error(err)
		}
		b.stop()
	}
	a.waitLog(t, "peer reached again")
}

// TestPeerMoves: an address that changes is used at once, and the old one no more.
func TestPeerMoves(t *testing.T) {
	a, b := pair(t)
	sendUntil(t, a, b)
	b.stop()
	b = start(t, config(2, "b"), newHandler())
	a.SetPeers([]Peer{a.peer(), b.peer()})
	sendUntil(t, a, b)
}

// proxy passes bytes between a node and its peers until it is frozen.
type proxy struct {
	net.Listener
	frozen, stop chan struct{}
}

func newProxy(t *testing.T, target string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, frozen: make(chan struct{}), stop: make(chan struct{})}
	t.Cleanup(func() { close(p.stop); _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(conn, target)
		}
	}()
	return p
}

func (p *proxy) serve(conn net.Conn, target string) {
	defer conn.Close()
	back, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer back.Close()
	done := make(chan struct{}, 2)
	go func() { p.pass(conn, back); done <- struct{}{} }()
	go func() { p.pass(back, conn); done <- struct{}{} }()
	<-done
}

func (p *proxy) pass(from, to net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		select {
		case <-p.frozen:
			<-p.stop // holds both connections open
			return
		default:
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// TestFrozenPeer: a connection over which nothing comes any more is given up by both
// sides within two seconds, with all that is on it, and disturbs no other peer.
func TestFrozenPeer(t *testing.T) {
	a, b, c := start(t, config(1, "a"), newHandler()), start(t, config(2, "b"), newHandler()), start(t, config(3, "c"), newHandler())
	p := newProxy(t, b.Address())
	a.SetPeers([]Peer{{2, "b", p.Addr().String()}, c.peer()})
	if _, err := a.Forward(within(t), 3, grant(1)); err != nil { // opens the stream
		t.Fatal(err)
	}
	begun, abandoned := make(chan struct{}), make(chan time.Time, 1)
	b.h.forward = func(ctx context.Context, _ *peerpb.ForwardRequest) *peerpb.ForwardResponse {
		close(begun)
		<-ctx.Done()
		abandoned <- time.Now()
		return nil
	}
	done := make(chan error, 1)
	go func() { _, err := a.Forward(within(t), 2, grant(1)); done <- err }()
	next(t, "the call", begun)
	close(p.frozen)
	froze := time.Now()
	for ended := false; !ended; {
		began := time.Now()
		if _, err := a.Forward(within(t), 3, grant(1)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("a call to another peer took %v", took)
		}
		select {
		case err := <-done:
			wantErrors(t, "the call that was under way", err, ErrUnknownOutcome)
			ended = true
		default:
		}
	}
	if took := time.Since(froze); took > 2500*time.Millisecond {
		t.Errorf("this side noticed after %v", took)
	}
	if took := next(t, "the other side to notice", abandoned).Sub(froze); took > 2500*time.Millisecond {
		t.Errorf("the other side noticed after %v", took)
	}
}

// TestDeafPeer: one that accepts connections and never reads is not waited for.
func TestDeafPeer(t *testing.T) {
	a, b := start(t, config(1, "a"), newHandler()), start(t, config(2, "b"), newHandler())
	deaf, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	a.SetPeers([]Peer{b.peer(), {3, "c", deaf.Addr().String()}})
	for range 10_000 {
		a.Send(3, elect.Ask{})
	}
	sendUntil(t, a, b)
	began := time.Now()
	_, err = a.Forward(within(t), 3, grant(1))
	wantErrors(t, "a call to it", err, ErrNotSent)
	if took := time.Since(began); took > 2*openTimeout {
		t.Errorf("a call to it took %v", took)
	}
}

// TestWatchdog: a connection is closed after quiet ticks, and only then.
func TestWatchdog(t *testing.T) {
	dog := newWatchdog()
	here, there := net.Pipe()
	c := dog.watch(here)
	for range 3 {
		for range quietTicks - 1 {
			dog.tick()
		}
		go there.Write([]byte("x"))
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	for range quietTicks {
		dog.tick()
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("it is still open")
	}
	if len(dog.conns) != 0 {
		t.Error("it is still watched")
	}
}
