package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

const (
	profileNetsy = "netsy"
	profileEtcd  = "etcd"
)

// node is a data folder and the addresses of the kinsy processes that serve it, one after the other.
type node struct {
	dir     string // the data folder
	api     string
	addr    string // host:port of the client API
	metrics string // host:port of the metrics HTTP
	flags   []string
	proc    *process // the newest process, nil before the first
}

// newNode describes a node with its data in dir. Whatever runs of it when the test ends is killed.
func newNode(t testing.TB, dir, api string, flags ...string) *node {
	t.Helper()
	n := &node{dir: dir, api: api, addr: freeAddress(t), metrics: freeAddress(t), flags: flags}
	t.Cleanup(func() {
		if n.proc != nil {
			n.proc.kill()
		}
	})
	return n
}

// freeAddress returns an address on which nobody listens. The port is below those that the system gives to outgoing
// connections, so that none of them takes it while a node is down.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		if l, err := net.Listen("tcp", addr); err == nil {
			_ = l.Close()
			return addr
		}
	}
	t.Fatal("no free port found")
	return ""
}

func (n *node) database() string { return filepath.Join(n.dir, "kinsy.db") }

// launch starts a process and does not wait for it to serve.
func (n *node) launch() error {
	args := []string{"server", "--api", n.api, "--data-dir", n.dir, "--listen-address", n.addr,
		"--metrics-bind-address", n.metrics, "--compact-interval", "0"}
	p, err := launch(append(args, n.flags...)...)
	if err != nil {
		return err
	}
	n.proc = p
	return nil
}

// start starts a process and returns when it serves.
func (n *node) start() error {
	if err := n.launch(); err != nil {
		return err
	}
	return n.awaitReady()
}

// awaitReady returns when /readyz answers 200, or with an error when the process ends first.
func (n *node) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		code, _, err := n.get("/readyz")
		if err == nil && code == http.StatusOK {
			return nil
		}
		select {
		case <-n.proc.ended:
			return fmt.Errorf("%w with code %d before it served\n%s", errEnded, n.proc.cmd.ProcessState.ExitCode(), n.proc.out.tail())
		case <-ctx.Done():
			return fmt.Errorf("kinsy does not serve within %s\n%s", startLimit, n.proc.out.tail())
		case <-tick.C:
		}
	}
}

func (n *node) restart() error {
	n.proc.kill()
	return n.start()
}

// get asks the metrics HTTP.
func (n *node) get(path string) (code int, body string, err error) {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + n.metrics + path)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// health returns the field of etcd's /health.
func (n *node) health() (string, error) {
	_, body, err := n.get("/health")
	if err != nil {
		return "", err
	}
	var h struct{ Health string }
	if err := json.Unmarshal([]byte(body), &h); err != nil {
		return "", fmt.Errorf("read /health %q: %w", body, err)
	}
	return h.Health, nil
}

// metric returns the value of a metric without labels.
func (n *node) metric(name string) (float64, error) {
	_, body, err := n.get("/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(body) {
		var value float64
		if rest, found := strings.CutPrefix(line, name+" "); found {
			_, err := fmt.Sscan(rest, &value)
			return value, err
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}

// client returns an etcd client that finds a restarted node at once.
func (n *node) client(t testing.TB) *clientv3.Client {
	t.Helper()
	quick := grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 3 * time.Millisecond, Multiplier: 1.2, MaxDelay: 15 * time.Millisecond},
		MinConnectTimeout: time.Second}
	c, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{n.addr},
		Logger:      zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(quick)},
	})
	if err != nil {
		t.Fatalf("make client: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// clients returns several clients, each with a connection of its own.
func (n *node) clients(t testing.TB, count int) []*clientv3.Client {
	t.Helper()
	list := make([]*clientv3.Client, count)
	for i := range list {
		list[i] = n.client(t)
	}
	return list
}

// within is a context for one request.
func within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, waitLimit)
}
