package client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kinsy/kinsy/pkg/node"
)

// follow starts a watch, and returns once the server has it.
func (s *server) follow(t *testing.T, args ...string) *background {
	t.Helper()
	revision := s.revision()
	b := s.background(append([]string{"watch", "--prefix", "/", "--rev", fmt.Sprint(revision + 1)}, args...)...)
	return b
}

// revision is the newest one.
func (s *server) revision() int64 {
	s.t.Helper()
	text := s.done("get", "x", "-w", "json")
	var revision int64
	_, after, _ := strings.Cut(text, `"revision":`)
	if _, err := fmt.Sscan(strings.FieldsFunc(after, func(r rune) bool { return r < '0' || r > '9' })[0], &revision); err != nil {
		s.t.Fatal(err)
	}
	return revision
}

func TestWatchPrints(t *testing.T) {
	profiles(t, func(t *testing.T, s *server) {
		text, json := s.follow(t, "--prev-kv"), s.follow(t, "-w", "json")
		s.done("put", "/a", "one\ntwo")
		s.done("put", "/a", "three")
		s.done("del", "/a")
		s.done("put", "/end", "")
		text.out.waitFor(t, "/end\n\n")
		json.out.waitFor(t, `"L2VuZA=="`)
		for _, b := range []*background{text, json} {
			b.stop()
			if err := b.wait(t); err != nil {
				t.Errorf("stopped: %v", err)
			}
		}
		equal(t, text.out.String(), "PUT\n/a\none\\ntwo\nPUT\n/a\none\\ntwo\n/a\nthree\nDELETE\n/a\nthree\n/a\n\nPUT\n/end\n\n")
		if got := strings.Count(json.out.String(), "\n"); got != 4 || !strings.Contains(json.out.String(), `"type":"DELETE","kv":{"key":"L2E=","mod_revision":`) {
			t.Errorf("%d lines: %s", got, json.out)
		}
	})
}

func TestWatchGoesOnAfterTheServerWasGone(t *testing.T) {
	s := startServer(t, node.APIEtcd)
	dead := deadAddress(t)
	b := s.background("watch", "--prefix", "/", "--rev", "1", "--endpoints", dead+","+s.address)
	var want strings.Builder
	put := func(i int) {
		s.done("put", fmt.Sprintf("/%d", i), "x")
		fmt.Fprintf(&want, "PUT\n/%d\nx\n", i)
	}
	put(0)
	b.out.waitFor(t, "/0\n")
	for round := range 3 {
		s.stop()
		b.errs.waitFor(t, strings.Repeat("trying again", 1))
		s.start()
		put(10*round + 1)
		put(10*round + 2)
		b.out.waitFor(t, fmt.Sprintf("/%d\nx\n", 10*round+2))
	}
	b.stop()
	if err := b.wait(t); err != nil {
		t.Errorf("stopped: %v", err)
	}
	equal(t, b.out.String(), want.String())
	if text := b.errs.String(); !strings.Contains(text, "going on at "+s.address+" from revision 3") {
		t.Errorf("it said:\n%s", text)
	}
}

func TestWatchSaysWhenHistoryWasCompacted(t *testing.T) {
	s := startServer(t, node.APIEtcd)
	for range 5 {
		s.done("put", "/a", "x")
	}
	s.done("compact", "5")
	s.refused("the history was compacted up to revision 5", "watch", "/a", "--rev", "2")
	b := s.background("watch", "/a", "--rev", "6")
	b.out.waitFor(t, "PUT\n/a\nx\n")
	b.stop()
	if err := b.wait(t); err != nil {
		t.Error(err)
	}
}

func TestWatchRunsACommand(t *testing.T) {
	s := startServer(t, node.APIEtcd)
	path := filepath.Join(t.TempDir(), "seen")
	script := `printf '%s|%s|%s|%s|%s|' "$KINSY_EVENT_TYPE" "$KINSY_EVENT_KEY" "$KINSY_EVENT_VALUE" "$KINSY_EVENT_REVISION" "$KINSY_EVENT_PREV_VALUE"; cat; echo "|"` +
		`; [ "$KINSY_EVENT_KEY" != /end ] || { touch ` + path + `; exit 3; }`
	b := s.follow(t, "--prev-kv", "--exec", script)
	s.done("put", "/a", "one\ntwo")
	s.done("put", "/a", "three")
	s.done("del", "/a")
	s.done("put", "/end", "x")
	err := b.wait(t)
	if err == nil || !strings.Contains(err.Error(), "command for revision 5: exit status 3") {
		t.Errorf("it ended with %v", err)
	}
	equal(t, b.out.String(), "PUT|/a|one\\ntwo|2||one\ntwo|\nPUT|/a|three|3|one\\ntwo|three|\nDELETE|/a||4|three||\nPUT|/end|x|5||x|\n")
}

func TestKeepAliveRenewsUntilTheLeaseIsGone(t *testing.T) {
	s := startServer(t, node.APIEtcd)
	s.done("lease", "grant", "2", "--id", "1f")
	s.done("put", "/l", "x", "--lease", "1f")
	b := s.background("lease", "keep-alive", "1f")
	b.out.waitFor(t, "TTL(2)\nlease 000000000000001f keepalived with TTL(2)\nlease 000000000000001f keepalived with TTL(2)\nlease 000000000000001f keepalived with TTL(2)\n")
	equal(t, s.done("get", "/l"), "/l\nx\n") // after more than its TTL
	s.done("lease", "revoke", "1f")
	if err := b.wait(t); err == nil || errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), "lease 000000000000001f expired or was revoked") {
		t.Errorf("it ended with %v", err)
	}
}

// gate forwards connections to a server while it is open.
type gate struct {
	t       *testing.T
	address string
	to      string
	l       net.Listener
	wg      sync.WaitGroup
	mu      sync.Mutex
	conns   []net.Conn
}

func newGate(t *testing.T, to string) *gate {
	g := &gate{t: t, address: "127.0.0.1:0", to: to}
	g.open()
	t.Cleanup(g.close)
	return g
}

func (g *gate) open() {
	g.t.Helper()
	l, err := net.Listen("tcp", g.address)
	if err != nil {
		g.t.Fatal(err)
	}
	g.l, g.address = l, l.Addr().String()
	g.wg.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", g.to)
			if err != nil {
				_ = from.Close()
				continue
			}
			g.mu.Lock()
			g.conns = append(g.conns, from, to)
			g.mu.Unlock()
			g.wg.Go(func() { _, _ = io.Copy(from, to) })
			g.wg.Go(func() { _, _ = io.Copy(to, from) })
		}
	})
}

// close cuts all connections, and refuses others.
func (g *gate) close() {
	_ = g.l.Close()
	g.mu.Lock()
	for _, conn := range g.conns {
		_ = conn.Close()
	}
	g.conns = nil
	g.mu.Unlock()
	g.wg.Wait()
}

func TestWatchSaysWhenHistoryWasCompactedMeanwhile(t *testing.T) {
	s := startServer(t, node.APIEtcd)
	g := newGate(t, s.address)
	b := s.background("watch", "--prefix", "/", "--rev", "1", "--endpoints", g.address)
	s.done("put", "/a", "x")
	b.out.waitFor(t, "/a\nx\n")
	g.close()
	b.errs.waitFor(t, "trying again")
	for range 5 {
		s.done("put", "/a", "y")
	}
	s.done("compact", "6")
	g.open()
	err := b.wait(t)
	if !errors.Is(err, errCompacted) || !strings.Contains(err.Error(), "up to revision 6") {
		t.Errorf("it ended with %v", err)
	}
	equal(t, b.out.String(), "PUT\n/a\nx\n")
}

// TestWatchMissesNothing cuts the connection again and again while keys are put.
func TestWatchMissesNothing(t *testing.T) {
	profiles(t, func(t *testing.T, s *server) {
		g := newGate(t, s.address)
		b := s.background("watch", "--prefix", "/", "--rev", "1", "--endpoints", g.address+","+deadAddress(t))
		var want strings.Builder
		for i := range 60 {
			if i%10 == 5 {
				g.close()
			}
			s.done("put", fmt.Sprintf("/%d", i), "x")
			fmt.Fprintf(&want, "PUT\n/%d\nx\n", i)
			if i%10 == 8 {
				g.open()
				b.out.waitFor(t, fmt.Sprintf("/%d\n", i))
			}
		}
		b.out.waitFor(t, "/59\nx\n")
		b.stop()
		if err := b.wait(t); err != nil {
			t.Error(err)
		}
		equal(t, b.out.String(), want.String())
	})
}
