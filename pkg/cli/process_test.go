package cli

import (
	"bufio"
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "modernc.org/sqlite" // registers the "sqlite" driver
)

// processLimit bounds everything a test waits for; it is far above what is expected.
const processLimit = 30 * time.Second

// process is a running kinsy.
type process struct {
	cmd     *exec.Cmd
	client  string // address of the client listener
	metrics string // address of the metrics listener
	ready   chan struct{}
	ended   chan struct{} // closed when both the output and the process have ended
	err     error         // of the process, set before ended is closed

	mu     sync.Mutex
	stdout bytes.Buffer
	stderr bytes.Buffer
}

// freeAddress returns an address on which nobody listened a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// launch starts kinsy with the arguments and addresses of its own, in the folder given.
func launch(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	p := &process{client: freeAddress(t), metrics: freeAddress(t), ready: make(chan struct{}), ended: make(chan struct{})}
	args = append(args, "--listen-address", p.client, "--metrics-bind-address", p.metrics)
	p.cmd = exec.Command(kinsyBinary, args...)
	p.cmd.Dir = dir
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	readers.Go(func() { p.read(bufio.NewScanner(stdout), &p.stdout) })
	readers.Go(func() { p.read(bufio.NewScanner(stderr), &p.stderr) })
	go func() {
		readers.Wait()
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
	return p
}

func (p *process) read(lines *bufio.Scanner, to *bytes.Buffer) {
	for lines.Scan() {
		p.mu.Lock()
		fmt.Fprintln(to, lines.Text())
		p.mu.Unlock()
		if strings.Contains(lines.Text(), "node is serving") {
			close(p.ready)
		}
	}
}

// output returns what the process wrote so far.
func (p *process) output() (stdout, stderr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stdout.String(), p.stderr.String()
}

// waitReady returns once clients are served.
func (p *process) waitReady(t *testing.T) {
	t.Helper()
	select {
	case <-p.ready:
	case <-p.ended:
		_, stderr := p.output()
		t.Fatalf("ended before it served: %v\n%s", p.err, stderr)
	case <-time.After(processLimit):
		t.Fatal("not ready in time")
	}
}

// waitExit returns the exit code and the time since start.
func (p *process) waitExit(t *testing.T, since time.Time) (int, time.Duration) {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(processLimit):
		t.Fatal("did not end in time")
	}
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		return exit.ExitCode(), time.Since(since)
	}
	if p.err != nil {
		t.Fatal(p.err)
	}
	return 0, time.Since(since)
}

// terminate sends a signal and expects an orderly end within the limit that is promised.
func (p *process) terminate(t *testing.T, signal os.Signal) {
	t.Helper()
	start := time.Now()
	if err := p.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	if code, took := p.waitExit(t, start); code != 0 || took > shutdownLimit {
		_, stderr := p.output()
		t.Fatalf("exit code %d after %v\n%s", code, took, stderr)
	}
}

func connect(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// create puts a key that is not there, as kube-apiserver does.
func create(t *testing.T, conn *grpc.ClientConn, key, value string) {
	t.Helper()
	res, err := pb.NewKVClient(conn).Txn(t.Context(), &pb.TxnRequest{
		Compare: []*pb.Compare{{Target: pb.Compare_MOD, Key: []byte(key), TargetUnion: &pb.Compare_ModRevision{ModRevision: 0}}},
		Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte(value)}}}},
	})
	if err != nil || !res.Succeeded {
		t.Fatalf("create %s: %v, %v", key, res, err)
	}
}

func expectValue(t *testing.T, conn *grpc.ClientConn, key, want string) {
	t.Helper()
	res, err := pb.NewKVClient(conn).Range(t.Context(), &pb.RangeRequest{Key: []byte(key)})
	if err != nil || len(res.Kvs) != 1 || string(res.Kvs[0].Value) != want {
		t.Fatalf("%s: %v, %v", key, res, err)
	}
}

func expectStatus(t *testing.T, url string, want int) {
	t.Helper()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport, Timeout: processLimit}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != want {
		t.Errorf("%s: status %d, want %d", url, res.StatusCode, want)
	}
}

func TestProcessKeepsItsDataOverRestarts(t *testing.T) {
	clearEnvironment(t)
	dir := t.TempDir()
	first := launch(t, dir, "server", "--data-dir", dir)
	first.waitReady(t)
	expectStatus(t, "http://"+first.metrics+"/readyz", http.StatusOK)
	expectStatus(t, "http://"+first.metrics+"/health", http.StatusOK)
	conn := connect(t, first.client)
	create(t, conn, "/registry/a", "one")
	watch, err := pb.NewWatchClient(conn).Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("a")}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	first.terminate(t, syscall.SIGTERM) // the watch must not hold it up

	second := launch(t, dir, "--data-dir", dir, "--log-format", "json")
	second.waitReady(t)
	expectValue(t, connect(t, second.client), "/registry/a", "one")
	second.terminate(t, os.Interrupt)
	if _, stderr := second.output(); !strings.Contains(stderr, `"message":"node is serving"`) {
		t.Errorf("log is not JSON: %s", stderr)
	}
}

func TestProcessDev(t *testing.T) {
	clearEnvironment(t)
	dir := t.TempDir()
	p := launch(t, dir, "--dev", "--http-address", "127.0.0.1:0")
	p.waitReady(t)
	create(t, connect(t, p.client), "a", "b")
	p.terminate(t, os.Interrupt)
	stdout, _ := p.output()
	for _, want := range []string{"kinsy 9.8.7 is ready", "http://" + p.client, "rest     http://127.0.0.1:", filepath.Join(dir, "kinsy-data", "kinsy.db"), "etcdctl --endpoints http://" + p.client} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is not in:\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout, "\x1b") {
		t.Error("colour although the output is no terminal")
	}
}

func TestProcessRefusesAFolderInUse(t *testing.T) {
	clearEnvironment(t)
	dir := t.TempDir()
	first := launch(t, dir, "server", "--data-dir", dir)
	first.waitReady(t)
	second := launch(t, dir, "server", "--data-dir", dir)
	code, _ := second.waitExit(t, time.Now())
	_, stderr := second.output()
	if code != 1 || !strings.Contains(stderr, fmt.Sprintf("kinsy process %d", first.cmd.Process.Pid)) || !strings.Contains(stderr, first.client) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	expectStatus(t, "http://"+first.metrics+"/readyz", http.StatusOK)
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	first.waitExit(t, time.Now())
	third := launch(t, dir, "server", "--data-dir", dir) // the lock went with the process
	third.waitReady(t)
	third.terminate(t, syscall.SIGTERM)
}

func TestProcessLeavesAKineDatabaseAlone(t *testing.T) {
	clearEnvironment(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "state.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("CREATE TABLE kine (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, value BLOB)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p := launch(t, dir, "server", "--endpoint", "sqlite://"+path)
	code, _ := p.waitExit(t, time.Now())
	if _, stderr := p.output(); code != 1 || !strings.Contains(stderr, "kine database") || !strings.Contains(stderr, path) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was changed (%v)", err)
	}
}

// TestProcessDroppedIn starts kinsy with nothing but the environment and flags of kine.
func TestProcessDroppedIn(t *testing.T) {
	clearEnvironment(t)
	dir := t.TempDir()
	t.Setenv("KINE_ENDPOINT", "sqlite://"+filepath.Join(dir, "db", "state.db")+"?_journal_mode=WAL&cache=shared")
	p := launch(t, dir, "--compact-min-retain", "100")
	p.waitReady(t)
	create(t, connect(t, p.client), "a", "b")
	p.terminate(t, syscall.SIGTERM)
	if _, err := os.Stat(filepath.Join(dir, "db", "state.db")); err != nil {
		t.Error(err)
	}
}

func TestProcessCompletion(t *testing.T) {
	for args, want := range map[string]string{
		"--generate-shell-completion":               "server:",
		"server --comp --generate-shell-completion": "--compact-interval",
		"--dev --comp --generate-shell-completion":  "--compact-interval",
		"completion bash":                           "complete -o",
		"version":                                   "kinsy 9.8.7",
	} {
		out, err := exec.Command(kinsyBinary, strings.Fields(args)...).Output()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, %s", args, err, out)
		}
	}
}
