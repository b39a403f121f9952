package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
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
	// stopLimit is how long kinsy may take to end after SIGTERM, its last upload included.
	stopLimit = 15 * time.Second
	// waitLimit bounds every other wait.
	waitLimit = 30 * time.Second
)

// errEnded is wrapped by errors about a process that ended by itself.
var errEnded = errors.New("kinsy ended")

// process is one running kinsy.
type process struct {
	cmd   *exec.Cmd
	out   *output
	ended chan struct{}
}

// output keeps what a process writes.
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
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// launch starts kinsy. Settings of the environment are taken away.
func launch(args ...string) (*process, error) {
	p := &process{cmd: exec.Command(kinsyBinary, args...), out: &output{}, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "KINSY_") || strings.HasPrefix(v, "KINE_") || strings.HasPrefix(v, "AWS_")
	})
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start kinsy: %w", err)
	}
	go func() {
		_ = p.cmd.Wait() // exit reads the state
		close(p.ended)
	}()
	return p, nil
}

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

// pause returns after a time, or when ctx or the process ends, which is an error.
func (p *process) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-p.ended:
		return fmt.Errorf("%w by itself with code %d\n%s", errEnded, p.cmd.ProcessState.ExitCode(), p.out.tail())
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// requireNoPanic fails the test if a process has written the trace of a panic.
func requireNoPanic(t *testing.T, p *process) {
	t.Helper()
	for _, sign := range []string{"panic:", "goroutine ", "fatal error:", "SIGSEGV"} {
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
