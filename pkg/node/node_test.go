package node

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

// testConfig listens on ports of the system's choice and keeps its data in a folder of the test's.
func testConfig(t *testing.T) Config {
	t.Helper()
	c := DefaultConfig(true)
	c.DataDir = t.TempDir()
	c.ListenAddress = "127.0.0.1:0"
	c.MetricsBindAddress = "127.0.0.1:0"
	c.HTTPAddress = "127.0.0.1:0"
	c.Version = "1.2.3"
	c.Logger, _ = logtest.NewNullLogger()
	return c
}

// startFake starts a node on a fake engine and closes it at the end of the test.
func startFake(t *testing.T, c Config) (*Node, *fakeEngine) {
	t.Helper()
	e := newFakeEngine()
	n, err := start(t.Context(), c, e.open)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return n, e
}

// get asks the metrics listener and returns the status and the body.
func get(t *testing.T, client *http.Client, url string) (int, string) {
	t.Helper()
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// newClient returns a client that leaves no connection behind.
func newClient(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

func dialHello(t *testing.T, network, addr string) {
	t.Helper()
	conn, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if text, _ := io.ReadAll(conn); string(text) != "hello" {
		t.Errorf("%s answered %q", addr, text)
	}
}

func TestStartServesEveryListener(t *testing.T) {
	c := testConfig(t)
	path := socketPath(t)
	c.ListenAddress = "127.0.0.1:0,unix://" + path
	n, e := startFake(t, c)
	addrs := n.Addrs()
	if len(addrs) != 2 || addrs[1] != "unix://"+path || n.URLs()[0] != "http://"+addrs[0] {
		t.Fatalf("addresses %v, URLs %v", addrs, n.URLs())
	}
	dialHello(t, "tcp", addrs[0])
	dialHello(t, "unix", path)
	if err := n.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"drain", "close"}; !slices.Equal(e.events, want) {
		t.Errorf("engine was stopped by %v, want %v", e.events, want)
	}
	if n.Err() != nil {
		t.Errorf("error after close: %v", n.Err())
	}
}

func TestEndpoints(t *testing.T) {
	c := testConfig(t)
	c.EnablePprof = true
	n, e := startFake(t, c)
	client, base := newClient(t), "http://"+n.MetricsAddr()
	expect := func(path string, code int, parts ...string) {
		t.Helper()
		gotCode, body := get(t, client, base+path)
		if gotCode != code {
			t.Errorf("%s: status %d, want %d", path, gotCode, code)
		}
		for _, part := range parts {
			if !strings.Contains(body, part) {
				t.Errorf("%s: %q is not in:\n%s", path, part, body)
			}
		}
	}
	expect("/livez", 200, "ok")
	expect("/readyz", 200, "ok")
	expect("/readyz?verbose", 200, "[+]ping ok\n", "[+]serving ok\n", "[+]commit ok\n", "readyz check passed")
	expect("/health", 200, `{"health":"true","reason":""}`)
	expect("/version", 200, `{"etcdserver":"3.6.16","etcdcluster":"3.6.0","kinsy":"1.2.3"}`)
	expect("/metrics", 200, "kinsy_fake 0", `kinsy_build_info{api="etcd",etcd_version="3.6.16",version="1.2.3"} 1`, "go_goroutines", "process_start_time_seconds")
	expect("/debug/pprof/", 200, "goroutine")
	expect("/", 404)

	e.setStatus(engineStatus{reasons: []string{"disk I/O error"}})
	expect("/livez", 200, "ok")
	expect("/readyz", 503, "[+]serving ok\n", "[-]commit failed: disk I/O error\n", "readyz check failed")
	expect("/health", 503, `{"health":"false","reason":"disk I/O error"}`)

	e.setStatus(engineStatus{healthy: true, noSpace: true})
	expect("/readyz", 503, "no space left for the log")
	expect("/health", 503, "no space left for the log")
	expect("/health?exclude=NOSPACE", 200, `"true"`)

	e.setStatus(engineStatus{})
	expect("/readyz", 503, "last commit failed")

	e.env.fail(errors.New("log broke"))
	expect("/livez", 503, "[-]node failed: log broke")
	expect("/readyz", 503, "[-]serving failed: log broke")
}

func TestPprofIsOffByDefault(t *testing.T) {
	n, _ := startFake(t, testConfig(t))
	if code, _ := get(t, newClient(t), "http://"+n.MetricsAddr()+"/debug/pprof/"); code != 404 {
		t.Errorf("status %d", code)
	}
}

func TestNoMetrics(t *testing.T) {
	c := testConfig(t)
	c.MetricsBindAddress = MetricsOff
	n, _ := startFake(t, c)
	if n.MetricsAddr() != "" {
		t.Errorf("metrics at %s", n.MetricsAddr())
	}
}

// TestReadyOnlyAfterLoading holds the engine's opening and looks at the metrics listener and the client port meanwhile.
func TestReadyOnlyAfterLoading(t *testing.T) {
	c := testConfig(t)
	reserved, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.MetricsBindAddress = reserved.Addr().String()
	_ = reserved.Close()

	opening, release := make(chan struct{}), make(chan struct{})
	fake := newFakeEngine()
	open := func(ctx context.Context, env engineEnv) (engine, error) {
		close(opening)
		<-release
		return fake.open(ctx, env)
	}
	started := make(chan *Node, 1)
	go func() {
		n, err := start(context.Background(), c, open)
		if err != nil {
			t.Error(err)
		}
		started <- n
	}()
	<-opening
	client, base := newClient(t), "http://"+c.MetricsBindAddress
	if code, body := get(t, client, base+"/readyz"); code != 503 || !strings.Contains(body, "[-]serving failed: loading") {
		t.Errorf("readyz while loading: %d %s", code, body)
	}
	if code, _ := get(t, client, base+"/livez"); code != 200 {
		t.Errorf("livez while loading: %d", code)
	}
	if code, body := get(t, client, base+"/health"); code != 503 || body != `{"health":"false","reason":"loading"}` {
		t.Errorf("health while loading: %d %s", code, body)
	}
	close(release)
	n := <-started
	if n == nil {
		t.FailNow()
	}
	if code, _ := get(t, client, base+"/readyz"); code != 200 {
		t.Errorf("readyz after loading: %d", code)
	}
	if err := n.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestFailedStartLeavesNothing(t *testing.T) {
	c := testConfig(t)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	broken := errors.New("broken log")
	cases := map[string]struct {
		change func(*Config)
		open   engineOpener
		want   string
	}{
		"busy client port":  {func(c *Config) { c.ListenAddress = "127.0.0.1:0," + busy.Addr().String() }, newFakeEngine().open, "--listen-address: listen on 127.0.0.1:"},
		"busy metrics port": {func(c *Config) { c.MetricsBindAddress = busy.Addr().String() }, newFakeEngine().open, "--metrics-bind-address: listen on 127.0.0.1:"},
		"engine":            {func(*Config) {}, func(context.Context, engineEnv) (engine, error) { return nil, broken }, "broken log"},
		"invalid":           {func(c *Config) { c.API = "" }, newFakeEngine().open, "--api"},
		"certificate":       {func(c *Config) { c.CertFile, c.KeyFile = "/missing", "/missing" }, newFakeEngine().open, "load server certificate"},
	}
	for name, tt := range cases {
		cfg := c
		tt.change(&cfg)
		if _, err := start(t.Context(), cfg, tt.open); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	startFake(t, c) // the folder is free again
}

func TestSecondNodeOnOneFolder(t *testing.T) {
	c := testConfig(t)
	startFake(t, c)
	if _, err := start(t.Context(), c, newFakeEngine().open); !errors.Is(err, ErrDataDirInUse) {
		t.Errorf("second node: %v", err)
	}
}

func TestFailureEndsTheNode(t *testing.T) {
	n, e := startFake(t, testConfig(t))
	select {
	case <-n.Done():
		t.Fatal("done before any failure")
	default:
	}
	first := errors.New("outcome of a commit unknown")
	e.env.fail(first)
	e.env.fail(errors.New("a later one"))
	<-n.Done()
	if !errors.Is(n.Err(), first) {
		t.Errorf("error %v", n.Err())
	}
}

func TestIgnoredParametersAreNamed(t *testing.T) {
	c := testConfig(t)
	log, hook := logtest.NewNullLogger()
	c.Logger = log
	c.Endpoint = "sqlite://" + c.DataDir + "/k.db?_synchronous=NORMAL"
	startFake(t, c)
	if countLevel(hook, logrus.WarnLevel) != 1 {
		t.Errorf("entries %v", hook.AllEntries())
	}
}

func TestMetricsOverTLS(t *testing.T) {
	ca := newAuthority(t)
	c := testConfig(t)
	files := ca.writeFiles(t, t.TempDir(), "server")
	c.CertFile, c.KeyFile, c.TrustedCAFile = files.CertFile, files.KeyFile, files.TrustedCAFile
	n, e := startFake(t, c)
	if e.env.tls == nil || !strings.HasPrefix(n.URLs()[0], "https://") {
		t.Errorf("clients without TLS: %v", n.URLs())
	}
	client := newClient(t)
	client.Transport.(*http.Transport).TLSClientConfig = ca.client(t, "probe")
	if code, _ := get(t, client, "https://"+n.MetricsAddr()+"/livez"); code != 200 {
		t.Errorf("status %d", code)
	}
	unknown := newClient(t)
	unknown.Transport.(*http.Transport).TLSClientConfig = ca.client(t, "")
	if res, err := unknown.Get("https://" + n.MetricsAddr() + "/livez"); err == nil {
		_ = res.Body.Close()
		t.Error("answered a client without certificate")
	}
}

func TestMetricsIgnoreTLS(t *testing.T) {
	c := testConfig(t)
	files := newAuthority(t).writeFiles(t, t.TempDir(), "server")
	c.CertFile, c.KeyFile, c.MetricsIgnoreTLS = files.CertFile, files.KeyFile, true
	n, _ := startFake(t, c)
	if code, _ := get(t, newClient(t), "http://"+n.MetricsAddr()+"/livez"); code != 200 {
		t.Errorf("status %d", code)
	}
}
