package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// What a client of every Gateway uses.
const (
	AccessKey = "test-access"
	SecretKey = "test-secret-key"
	Region    = "us-east-1"
	Bucket    = "kinsy"
)

const (
	startLimit = 20 * time.Second
	healthPath = "/health-of-the-gateway"
)

// Credentials are AccessKey and SecretKey.
func Credentials() aws.Credentials {
	return aws.Credentials{AccessKeyID: AccessKey, SecretAccessKey: SecretKey}
}

// URL is how kinsy names a prefix of the bucket (--object-store).
func URL(prefix string) string { return "s3://" + Bucket + "/" + prefix }

// Flags are kinsy's flags for a prefix of the bucket, reached at an endpoint: the Gateway's own or a proxy's.
func Flags(endpoint, prefix string) []string {
	return []string{"--object-store", URL(prefix), "--s3-endpoint", endpoint, "--s3-region", Region,
		"--s3-access-key", AccessKey, "--s3-secret-key", SecretKey}
}

// Gateway is a running S3 server with one bucket.
type Gateway struct {
	addr  string
	dir   string
	cmd   *exec.Cmd
	log   *os.File
	ended chan struct{}
	stop  sync.Once
}

// Start runs the server of a binary with its data in dir, and returns when it answers. dir must support extended attributes;
// the log is a file beside it. The server also ends when the process does that started it.
func Start(ctx context.Context, binary, dir string) (*Gateway, error) {
	if err := os.MkdirAll(filepath.Join(dir, Bucket), 0o755); err != nil {
		return nil, fmt.Errorf("make bucket: %w", err)
	}
	log, err := os.Create(dir + ".log")
	if err != nil {
		return nil, fmt.Errorf("make log of the gateway: %w", err)
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	g := &Gateway{addr: addr, dir: dir, log: log, ended: make(chan struct{})}
	g.cmd = exec.Command(binary, "--port", addr, "--access", AccessKey, "--secret", SecretKey, "--region", Region,
		"--quiet", "--keep-alive", "--health", healthPath, "posix", dir)
	g.cmd.Stdout, g.cmd.Stderr = log, log
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := g.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start versitygw: %w", err), log.Close())
	}
	go func() {
		_ = g.cmd.Wait() // it is killed
		close(g.ended)
	}()
	if err := g.awaitHealth(ctx); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func (g *Gateway) awaitHealth(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if g.healthy(ctx) {
			return nil
		}
		select {
		case <-tick.C:
		case <-g.ended:
			return fmt.Errorf("versitygw ended (%s), see %s", g.cmd.ProcessState, g.log.Name())
		case <-ctx.Done():
			return fmt.Errorf("versitygw does not answer: %w, see %s", ctx.Err(), g.log.Name())
		}
	}
}

func (g *Gateway) healthy(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.URL()+healthPath, nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// URL is the endpoint of the server.
func (g *Gateway) URL() string { return "http://" + g.addr }

// Dir is the folder whose files are the objects of the bucket.
func (g *Gateway) Dir() string { return filepath.Join(g.dir, Bucket) }

// Close kills the server and waits for its end. It may be called more than once.
func (g *Gateway) Close() {
	g.stop.Do(func() {
		_ = g.cmd.Process.Kill() // fails only where it has ended
		<-g.ended
		_ = g.log.Close()
	})
}
