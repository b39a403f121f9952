package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// node is a data folder and the addresses of the kinsy processes that serve it, one after the other.
type node struct {
	dir     string // the data folder
	addr    string // host:port of the client API
	metrics string // host:port of the metrics HTTP
	flags   []string
	proc    *process // the newest process, nil before the first
}

// newNode describes a node with an empty data folder. Whatever runs of it when the test ends is killed.
func newNode(t testing.TB, flags ...string) *node {
	t.Helper()
	n := &node{dir: filepath.Join(t.TempDir(), "data"), addr: freeAddress(t), metrics: freeAddress(t), flags: flags}
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

// launch starts a process and does not wait for it to serve.
func (n *node) launch() error {
	args := []string{"server", "--api", "etcd", "--data-dir", n.dir, "--listen-address", n.addr,
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
	return n.awaitReady(startLimit)
}

// awaitReady returns when /readyz answers 200, or with an error when the process ends first.
func (n *node) awaitReady(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		code, body, err := n.get("/readyz")
		if err == nil && code == http.StatusOK {
			return nil
		}
		select {
		case <-n.proc.ended:
			return fmt.Errorf("%w with code %d before it served\n%s", errEnded, n.proc.cmd.ProcessState.ExitCode(), n.proc.out.tail())
		case <-ctx.Done():
			return fmt.Errorf("kinsy does not serve within %s: %d %q %w\n%s", limit, code, body, err, n.proc.out.tail())
		case <-tick.C:
		}
	}
}

// wipe deletes the data folder of a node that does not run.
func (n *node) wipe() error {
	if n.proc != nil && n.proc.running() {
		return errors.New("wipe: kinsy runs: the test is wrong")
	}
	return os.RemoveAll(n.dir)
}

// restart ends the process with kill -9, deletes the data folder where it is said, and starts another one.
func (n *node) restart(wipe bool) error {
	n.proc.kill()
	if wipe {
		if err := n.wipe(); err != nil {
			return err
		}
	}
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

// keepDump ends the process with a trace of its goroutines, and returns the name of the file that keeps it with all that
// the process has written. go test keeps it with -artifacts.
func (n *node) keepDump(t *testing.T) string {
	path := filepath.Join(t.ArtifactDir(), "kinsy.txt")
	if err := os.WriteFile(path, []byte(n.proc.dump()), 0o600); err != nil {
		return err.Error()
	}
	return path
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

// within is a context for one check.
func within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, waitLimit)
}
