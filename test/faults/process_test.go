package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// startLimit bounds how long a start may take; it is far above what is expected.
	startLimit = 30 * time.Second
	// stopLimit is how long kinsy may take to end after SIGTERM.
	stopLimit = 5 * time.Second
	// waitLimit bounds every other wait.
	waitLimit = 20 * time.Second
)

// errEnded is wrapped by errors about a process that ended before it served.
var errEnded = errors.New("kinsy ended")

// process is one running kinsy.
type process struct {
	cmd   *exec.Cmd
	out   *output
	ended chan struct{}
}

// output keeps what a process writes. It is a pipe to the process, not a file: the tests take disks away.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// String returns all that was written so far.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// tail returns the last lines.
func (o *output) tail() string {
	lines := strings.Split(strings.TrimSpace(o.String()), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

func launch(args ...string) (*process, error) {
	p := &process{cmd: exec.Command(kinsyBinary, args...), out: &output{}, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { // they would be settings
		return strings.HasPrefix(v, "KINSY_") || strings.HasPrefix(v, "KINE_")
	})
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start kinsy: %w", err)
	}
	go func() {
		_ = p.cmd.Wait() // exitCode reads the state
		close(p.ended)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// kill ends the process as kill -9 does, and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only where the process has ended
	<-p.ended
}

// dump ends the process with a trace of its goroutines, and returns all that it has written.
func (p *process) dump() string {
	_ = p.cmd.Process.Signal(syscall.SIGQUIT) // fails only where the process has ended
	if _, err := p.exit(stopLimit); err != nil {
		p.kill()
	}
	return p.out.String()
}

// freeze stops the process where it is, and returns when none of its threads is in a system call any more that does
// something.
func (p *process) freeze() error {
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stop kinsy: %w", err)
	}
	return until(waitLimit, time.Millisecond, p.frozen)
}

// frozen says which thread is not stopped yet.
func (p *process) frozen() error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.pid()))
	if err != nil || len(threads) == 0 {
		return fmt.Errorf("list threads: %d found, %w", len(threads), err)
	}
	for _, path := range threads {
		stat, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read thread: %w", err)
		}
		// The state follows the name, which is in parentheses.
		if _, state, _ := bytes.Cut(stat, []byte(") ")); !bytes.HasPrefix(state, []byte("T")) {
			return fmt.Errorf("thread is not stopped: %.40s", stat)
		}
	}
	return nil
}

// thaw lets a frozen process go on.
func (p *process) thaw() error { return p.cmd.Process.Signal(syscall.SIGCONT) }

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// exit waits for the end and returns the exit code, -1 after a signal that killed it.
func (p *process) exit(limit time.Duration) (int, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-timer.C:
		return -1, fmt.Errorf("kinsy did not end within %s\n%s", limit, p.out.tail())
	}
}

// terminate sends SIGTERM and requires exit code 0 within stopLimit. It returns how long that took.
func (p *process) terminate() (time.Duration, error) {
	start := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, fmt.Errorf("signal kinsy: %w", err)
	}
	code, err := p.exit(stopLimit)
	if err == nil && code != 0 {
		err = fmt.Errorf("kinsy ended with code %d\n%s", code, p.out.tail())
	}
	return time.Since(start), err
}

// until calls check, at once and then every interval, until it returns nil. When limit passes first the error is check's
// last one.
func until(limit, interval time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not so within %s: %w", limit, err)
		case <-ticker.C:
		}
	}
}

// requireNoPanic fails the test if a process has written the trace of a panic.
func requireNoPanic(t *testing.T, p *process) {
	t.Helper()
	for _, sign := range []string{"panic:", "goroutine ", "fatal error:", "SIGBUS", "SIGSEGV"} {
		if strings.Contains(p.out.String(), sign) {
			t.Fatalf("kinsy panicked:\n%s", p.out.String())
		}
	}
}

// ok ends the test at an error.
func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
