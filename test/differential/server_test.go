package differential

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

const (
	envEtcdDir  = "KINSY_TEST_ETCD_DIR"
	envEtcdAddr = "KINSY_TEST_ETCD_ADDR"

	startTimeout = 30 * time.Second
	// etcdStop and kinsyStop bound how long a server may take to end; kinsy promises 5 s.
	etcdStop  = 20 * time.Second
	kinsyStop = 6 * time.Second
)

// server is one server process with a data folder that outlives restarts. It is used by one goroutine at a time.
type server struct {
	name    string // for messages: etcd or kinsy
	addr    string // host:port of the client API
	metrics string // host:port of kinsy's metrics HTTP; empty for etcd
	logPath string // what the process writes to stderr and stdout
	etcd    bool   // ends when its stdin closes; kinsy ends by SIGTERM
	command func() *exec.Cmd
	cmd     *exec.Cmd
	input   io.Closer // held open; etcd's process ends when it closes
	done    chan error
}

// runEtcd is the child process: one etcd member until stdin closes or a signal ends it.
func runEtcd(dir, addr string) int {
	cfg := embed.NewConfig()
	cfg.Dir = dir
	cfg.LogLevel = "error"
	cfg.UnsafeNoFsync = true
	cfg.WatchProgressNotifyInterval = time.Hour
	client := url.URL{Scheme: "http", Host: addr}
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		fmt.Fprintln(os.Stderr, "start etcd:", err)
		return 1
	}
	closed := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(closed)
	}()
	select {
	case <-closed:
	case err = <-e.Err():
		fmt.Fprintln(os.Stderr, "etcd stopped:", err)
	}
	e.Close()
	return 0
}

func newEtcd(t testing.TB, name string) *server {
	t.Helper()
	dir := t.TempDir()
	s := &server{name: name, etcd: true, addr: freeAddr(t), logPath: filepath.Join(dir, "log")}
	self, err := os.Executable()
	if err != nil {
		t.Fatalf("find test binary: %v", err)
	}
	s.command = func() *exec.Cmd {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), envEtcdDir+"="+filepath.Join(dir, "data"), envEtcdAddr+"="+s.addr)
		return cmd
	}
	return s
}

// newKinsy describes a kinsy with the given API profile. Periodic progress is off unless flags say otherwise.
func newKinsy(t testing.TB, profile string, flags ...string) *server {
	t.Helper()
	dir := t.TempDir()
	s := &server{name: "kinsy", addr: freeAddr(t), metrics: freeAddr(t), logPath: filepath.Join(dir, "log")}
	s.command = func() *exec.Cmd {
		args := []string{"server", "--api", profile, "--data-dir", filepath.Join(dir, "data"),
			"--listen-address", s.addr, "--metrics-bind-address", s.metrics, "--compact-interval", "0"}
		if len(flags) == 0 {
			flags = []string{"--watch-progress-notify-interval", "1h"}
		}
		return exec.Command(kinsyBinary, append(args, flags...)...)
	}
	return s
}

// newSubject returns the server that is compared with etcd.
func newSubject(t testing.TB) *server {
	t.Helper()
	if *flagSubject == "etcd" {
		return newEtcd(t, "etcd-2")
	}
	return newKinsy(t, "etcd")
}

// nextPort is where freeAddr looks next; it begins somewhere else in every process.
var nextPort atomic.Int64

func init() { nextPort.Store(int64(os.Getpid()) * 101) }

// freeAddr returns a port that nobody listens on. It is below those that outgoing connections are given, so that it
// stays free while a server restarts.
func freeAddr(t testing.TB) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20_000+nextPort.Add(1)%12_000)
		if l, err := net.Listen("tcp", addr); err == nil {
			_ = l.Close()
			return addr
		}
	}
	t.Fatal("found no free port")
	return ""
}

// start starts the process and returns when its port accepts connections.
func (s *server) start() error {
	log, err := os.OpenFile(s.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := s.command()
	cmd.Stdout, cmd.Stderr = log, log
	if s.input, err = cmd.StdinPipe(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	s.cmd, s.done = cmd, make(chan error, 1)
	go func(done chan<- error) { done <- cmd.Wait() }(s.done)
	return s.awaitPort()
}

func (s *server) awaitPort() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := net.Dial("tcp", s.addr); err == nil {
			return conn.Close()
		}
		select {
		case err := <-s.done:
			s.done <- err
			return fmt.Errorf("%s ended at start: %w\n%s", s.name, errOrExit(err), s.logTail())
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen on %s within %s\n%s", s.name, s.addr, startTimeout, s.logTail())
		case <-tick.C:
		}
	}
}

// stop asks the process to end, waits for it, and reports an exit code that is not 0.
func (s *server) stop() error {
	if s.cmd == nil {
		return nil
	}
	limit := kinsyStop
	if s.etcd {
		limit = etcdStop
		_ = s.input.Close()
	} else {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-s.done:
		s.cmd = nil
		if err != nil {
			return fmt.Errorf("%s ended with %w\n%s", s.name, err, s.logTail())
		}
		return nil
	case <-timer.C:
		s.kill()
		return fmt.Errorf("%s did not end within %s of being asked to", s.name, limit)
	}
}

// kill ends the process at once.
func (s *server) kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.done
	s.cmd = nil
}

// exited says how the process ended by itself, or nil while it runs.
func (s *server) exited() error {
	select {
	case err := <-s.done:
		s.done <- err
		return fmt.Errorf("%s ended by itself: %w\n%s", s.name, errOrExit(err), s.logTail())
	default:
		return nil
	}
}

// logTail returns the last lines the process has written.
func (s *server) logTail() string {
	b, err := os.ReadFile(s.logPath)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) > 15 {
		lines = lines[len(lines)-15:]
	}
	return strings.Join(lines, "\n")
}

func errOrExit(err error) error {
	if err == nil {
		return errors.New("exit code 0")
	}
	return err
}
