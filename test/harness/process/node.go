package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/client"
)

// API profiles, for Config.API.
const (
	ProfileNetsy = "netsy"
	ProfileEtcd  = "etcd"
)

// StartLimit bounds how long Node.Start waits; it is far above what is expected.
const StartLimit = 30 * time.Second

// Config describes a Node.
type Config struct {
	// Binary is the path of kinsy.
	Binary string
	// Name is the node's in errors and names of files; "" means kinsy. Nodes of one test need different ones.
	Name string
	// Dir is the data folder; "" means an empty one that goes with the test.
	Dir string
	// API is the profile; "" means ProfileEtcd.
	API string
	// Flags are given after those for the fields of Node.
	Flags []string
	// Log is a file to which the output of all processes is appended; "" for none. It must not be in Dir.
	Log string
}

// Node is a data folder and addresses, and the kinsy processes that serve it, one after the other. A test may change the
// fields between two processes. Methods are called one at a time but for those that ask (Get, Health, Metric, Client).
type Node struct {
	Name    string
	Dir     string // the data folder
	API     string
	Addr    string // host:port of the client API
	Metrics string // host:port of the metrics HTTP
	Flags   []string
	Proc    *Process // the newest process, nil before the first

	binary string
	log    *os.File // nil for none
}

// NewNode describes a node on free addresses. Whatever runs of it when the test ends is killed.
func NewNode(t testing.TB, c Config) *Node {
	t.Helper()
	n := &Node{Name: c.Name, Dir: c.Dir, API: c.API, Addr: FreeAddress(t), Metrics: FreeAddress(t), Flags: c.Flags, binary: c.Binary}
	if n.Name == "" {
		n.Name = "kinsy"
	}
	if n.Dir == "" {
		n.Dir = filepath.Join(t.TempDir(), "data")
	}
	if n.API == "" {
		n.API = ProfileEtcd
	}
	if c.Log != "" {
		f, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatalf("open log of %s: %v", n.Name, err)
		}
		n.log = f
	}
	t.Cleanup(n.end)
	return n
}

func (n *Node) end() {
	if n.Proc != nil {
		n.Proc.Kill()
	}
	if n.log != nil {
		_ = n.log.Close()
	}
}

// given are the addresses that FreeAddress has returned: a node that is down must find its own free.
var given sync.Map

// FreeAddress returns an address of loopback on which nobody listens, another one at each call. The port is below those that
// the system gives to outgoing connections, so that none of them takes it while a node is down.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		_ = l.Close()
		if _, taken := given.LoadOrStore(addr, true); !taken {
			return addr
		}
	}
	t.Fatal("no free port found")
	return ""
}

// Database is the path of the log.
func (n *Node) Database() string { return filepath.Join(n.Dir, "kinsy.db") }

// Launch starts a process and does not wait for it to serve.
func (n *Node) Launch() error {
	args := []string{"server", "--api", n.API, "--data-dir", n.Dir, "--listen-address", n.Addr,
		"--metrics-bind-address", n.Metrics, "--compact-interval", "0"}
	var also io.Writer
	if n.log != nil {
		also = n.log
	}
	p, err := Launch(n.binary, also, append(args, n.Flags...)...)
	if err != nil {
		return fmt.Errorf("%s: %w", n.Name, err)
	}
	n.Proc = p
	return nil
}

// Start starts a process and returns when it serves.
func (n *Node) Start() error {
	if err := n.Launch(); err != nil {
		return err
	}
	return n.AwaitReady(StartLimit)
}

// AwaitReady returns when /readyz answers 200, or with an error when the process ends first (ErrEnded), or a limit passes.
func (n *Node) AwaitReady(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		code, body, err := n.Get("/readyz")
		if err == nil && code == http.StatusOK {
			return nil
		}
		select {
		case <-n.Proc.Ended:
			return fmt.Errorf("%s: %w with code %d before it served\n%s", n.Name, ErrEnded, n.Proc.ExitCode(), n.Proc.Tail())
		case <-ctx.Done():
			return fmt.Errorf("%s does not serve within %s: %d %q %w\n%s", n.Name, limit, code, body, err, n.Proc.Tail())
		case <-tick.C:
		}
	}
}

// Restart ends the process with kill -9 and starts another one, as Start does.
func (n *Node) Restart() error {
	n.Proc.Kill()
	return n.Start()
}

// RestartEmpty is Restart with an empty data folder.
func (n *Node) RestartEmpty() error {
	n.Proc.Kill()
	if err := n.Wipe(); err != nil {
		return err
	}
	return n.Start()
}

// Wipe deletes the data folder of a node that does not run.
func (n *Node) Wipe() error {
	if n.Proc != nil && n.Proc.Running() {
		return errors.New("wipe: kinsy runs: the test is wrong")
	}
	return os.RemoveAll(n.Dir)
}

// Get asks the metrics HTTP.
func (n *Node) Get(path string) (code int, body string, err error) {
	hc := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := hc.Get("http://" + n.Metrics + path)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// Health returns the field of etcd's /health.
func (n *Node) Health() (string, error) {
	_, body, err := n.Get("/health")
	if err != nil {
		return "", err
	}
	var h struct{ Health string }
	if err := json.Unmarshal([]byte(body), &h); err != nil {
		return "", fmt.Errorf("read /health %q: %w", body, err)
	}
	return h.Health, nil
}

// Metric returns the value of a metric without labels.
func (n *Node) Metric(name string) (float64, error) {
	_, body, err := n.Get("/metrics")
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

// KeepDump ends the process with a trace of its goroutines, and returns the name of the file that keeps it with all that the
// process has written. go test keeps it with -artifacts.
func (n *Node) KeepDump(t testing.TB) string {
	path := filepath.Join(t.ArtifactDir(), n.Name+".txt")
	if err := os.WriteFile(path, []byte(n.Proc.Dump()), 0o600); err != nil {
		return err.Error()
	}
	return path
}

// Client returns an etcd client of this node (client.Dial).
func (n *Node) Client(t testing.TB) *clientv3.Client {
	t.Helper()
	return client.Dial(t, n.Addr)
}

// Clients returns several clients of this node, each with a connection of its own.
func (n *Node) Clients(t testing.TB, count int) []*clientv3.Client {
	t.Helper()
	return client.DialEach(t, count, n.Addr)
}

// Endpoints are the client addresses of nodes, for client.Dial and client.DialEach.
func Endpoints(nodes ...*Node) []string {
	list := make([]string, len(nodes))
	for i, n := range nodes {
		list[i] = n.Addr
	}
	return list
}
