package apiserver

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kinsy/kinsy/test/kubernetes/process"
)

// storeVariable chooses the store under kube-apiserver; see the package
// comment.
const storeVariable = "KINSY_APISERVER_STORE"

const (
	buildTimeout       = 20 * time.Minute
	startTimeout       = time.Minute
	commandTimeout     = 30 * time.Second
	pollInterval       = 50 * time.Millisecond
	compactionInterval = 5 * time.Second
	eventTTL           = 30 * time.Second
	token              = "kubernetes-test-token"
)

// cluster is a store and a kube-apiserver on it.
type cluster struct {
	kind    process.Kind
	dir     string
	bin     string
	store   *process.Store // nil if there are several
	server  *process.Process
	url     string
	certs   certificates
	client  *http.Client
	outages outages
	// endpoints are the client addresses of the stores.
	endpoints  []string
	compaction time.Duration // --etcd-compaction-interval
	eventTTL   time.Duration // --event-ttl
	// failures takes requests that failed, unless it is nil.
	failures *failures
	// restarted is when the store last served again after an outage.
	restarted time.Time
}

// newCluster builds and starts both and returns when kube-apiserver is ready.
// They end with the test. args are added to the command line of the store.
func newCluster(t *testing.T, args ...string) *cluster {
	t.Helper()
	c := prepareCluster(t)
	c.startStore(t, process.StoreConfig{Kind: c.kind, Binary: c.build(t), Dir: c.dir, Args: args})
	c.startServer(t)
	return c
}

// prepareCluster returns a cluster of which nothing runs.
func prepareCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{kind: process.Netsy, dir: t.TempDir(), compaction: compactionInterval, eventTTL: eventTTL}
	if kind := os.Getenv(storeVariable); kind != "" {
		c.kind = process.Kind(kind)
	}
	c.certs = newCertificates(t, c.dir)
	c.client = &http.Client{Transport: &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: c.certs.pool},
		MaxIdleConnsPerHost: 10,
	}}
	return c
}

// build builds what is missing and returns the path of the store's binary.
func (c *cluster) build(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), buildTimeout)
	defer cancel()
	var err error
	if c.bin, err = process.BuildKubernetes(ctx); err != nil {
		t.Fatal(err)
	}
	build := process.BuildKinsy
	if c.kind == process.Reference {
		build = process.BuildReference
	}
	path, err := build(ctx, c.dir)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func (c *cluster) startStore(t *testing.T, config process.StoreConfig) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	var err error
	c.store, err = process.StartStore(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	c.endpoints = []string{c.store.Endpoint()}
	t.Cleanup(func() {
		c.store.Kill()
		if t.Failed() {
			t.Logf("output of the store:\n%s", c.store.Output())
		}
	})
}

func (c *cluster) startServer(t *testing.T) {
	t.Helper()
	port, err := process.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	c.url = fmt.Sprintf("https://127.0.0.1:%d", port)
	c.server, err = process.Run(process.Command{
		Path: filepath.Join(c.bin, "kube-apiserver"),
		Args: c.serverArguments(t, port),
		Log:  c.serverLog(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.server.Kill()
		if t.Failed() {
			t.Logf("output of kube-apiserver:\n%s", c.server.Output())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	if err := c.server.WaitReady(ctx, c.ready); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) serverLog() string { return filepath.Join(c.dir, "kube-apiserver.log") }

func (c *cluster) serverArguments(t *testing.T, port int) []string {
	t.Helper()
	tokens := filepath.Join(c.dir, "tokens.csv")
	writeFile(t, tokens, []byte(token+",admin,admin,system:masters\n"))
	return []string{
		"--etcd-servers=http://" + strings.Join(c.endpoints, ",http://"),
		"--etcd-compaction-interval=" + c.compaction.String(),
		"--event-ttl=" + c.eventTTL.String(),
		"--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", port),
		"--advertise-address=192.0.2.1", // for documentation: it is stored and never dialled
		"--tls-cert-file=" + c.certs.cert,
		"--tls-private-key-file=" + c.certs.key,
		"--token-auth-file=" + tokens,
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.certs.serviceAccountKey,
		"--service-account-signing-key-file=" + c.certs.serviceAccountKey,
		"--service-cluster-ip-range=10.0.0.0/24",
		"--disable-admission-plugins=ServiceAccount", // no controller makes the default account
	}
}

// ready reports whether kube-apiserver and its connection to the store are.
func (c *cluster) ready(ctx context.Context) error {
	return c.do(ctx, http.MethodGet, "/readyz", nil, nil)
}

// kubectl runs a command and returns its standard output.
func (c *cluster) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "kubectl"), append(c.kubectlFlags(), args...)...)
	cmd.Env = append(os.Environ(), "HOME="+c.dir) // kubectl caches there
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

func (c *cluster) kubectlFlags() []string {
	return []string{"--server=" + c.url, "--token=" + token, "--certificate-authority=" + c.certs.cert}
}
