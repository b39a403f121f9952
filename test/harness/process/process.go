// Package process starts kinsy as processes of their own, as machines do, and takes them away again.
//
// A Process is one of them. A Node is a data folder and addresses, and the processes that serve it, one after the other; a test
// may have any number of nodes. All of them end when the test does.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kinsy/kinsy/test/harness/client"
)

// tailLines is how much of what a process has written an error shows.
const tailLines = 20

// dumpLimit bounds how long a process may take to write its goroutines.
const dumpLimit = 10 * time.Second

// ErrEnded is wrapped by errors about a process that ended by itself.
var ErrEnded = errors.New("kinsy ended")

// Process is one running kinsy. Its methods may be called concurrently.
type Process struct {
	// Ended is closed when the process has ended.
	Ended <-chan struct{}

	cmd *exec.Cmd
	out *output
}

// output keeps what a process writes, and passes it on. It is a pipe to the process, not a file: tests take disks away.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
	also io.Writer // nil: nobody
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.also != nil {
		_, _ = o.also.Write(p) // what is kept in memory counts
	}
	return o.text.Write(p)
}

// Launch starts a binary with arguments. Settings of the environment are taken away. What the process writes is kept, and
// goes to also as well where that is not nil. The process ends with the one that started it at the latest.
func Launch(binary string, also io.Writer, args ...string) (*Process, error) {
	ended := make(chan struct{})
	p := &Process{Ended: ended, cmd: exec.Command(binary, args...), out: &output{also: also}}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "KINSY_") || strings.HasPrefix(v, "KINE_") || strings.HasPrefix(v, "AWS_")
	})
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start kinsy: %w", err)
	}
	go func() {
		_ = p.cmd.Wait() // ExitCode reads the state
		close(ended)
	}()
	return p, nil
}

// PID is the number of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Output returns all that the process has written so far.
func (p *Process) Output() string {
	p.out.mu.Lock()
	defer p.out.mu.Unlock()
	return p.out.text.String()
}

// Tail returns the last lines of Output.
func (p *Process) Tail() string {
	lines := strings.Split(strings.TrimSpace(p.Output()), "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}

// Kill ends the process as kill -9 does, and waits for its end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // fails only where the process has ended
	<-p.Ended
}

// Dump ends the process with a trace of its goroutines, and returns all that it has written.
func (p *Process) Dump() string {
	_ = p.cmd.Process.Signal(syscall.SIGQUIT) // fails only where the process has ended
	if _, err := p.Exit(dumpLimit); err != nil {
		p.Kill()
	}
	return p.Output()
}

// Freeze stops the process where it is (SIGSTOP), and returns when none of its threads is in a system call any more that does
// something.
func (p *Process) Freeze() error {
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stop kinsy: %w", err)
	}
	return client.Until(client.WaitLimit, time.Millisecond, p.frozen)
}

// frozen says which thread is not stopped yet.
func (p *Process) frozen() error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.PID()))
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

// Thaw lets a frozen process go on.
func (p *Process) Thaw() error { return p.cmd.Process.Signal(syscall.SIGCONT) }

// Running reports whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.Ended:
		return false
	default:
		return true
	}
}

// ExitCode is the exit code of a process that has ended, -1 after a signal that killed it.
func (p *Process) ExitCode() int {
	if p.Running() {
		return -1
	}
	return p.cmd.ProcessState.ExitCode()
}

// Exit waits for the end and returns ExitCode.
func (p *Process) Exit(limit time.Duration) (int, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.Ended:
		return p.ExitCode(), nil
	case <-timer.C:
		return -1, fmt.Errorf("kinsy did not end within %s\n%s", limit, p.Tail())
	}
}

// Terminate sends SIGTERM and requires exit code 0 within a limit. It returns how long that took.
func (p *Process) Terminate(limit time.Duration) (time.Duration, error) {
	start := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, fmt.Errorf("signal kinsy: %w", err)
	}
	code, err := p.Exit(limit)
	if err == nil && code != 0 {
		err = fmt.Errorf("kinsy ended with code %d\n%s", code, p.Tail())
	}
	return time.Since(start), err
}

// Pause returns after a time, or when ctx or the process ends, which is an error.
func (p *Process) Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-p.Ended:
		return p.endedByItself()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *Process) endedByItself() error {
	return fmt.Errorf("%w by itself with code %d\n%s", ErrEnded, p.ExitCode(), p.Tail())
}

// While is a context that ends with ctx, or when the process does, with an error that wraps ErrEnded as its cause.
func (p *Process) While(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-p.Ended:
			cancel(p.endedByItself())
		case <-ctx.Done():
		}
	}()
	return ctx
}

// RequireNoPanic fails the test if a process has written the trace of a panic.
func RequireNoPanic(t testing.TB, p *Process) {
	t.Helper()
	for _, sign := range []string{"panic:", "goroutine ", "fatal error:", "SIGBUS", "SIGSEGV"} {
		if strings.Contains(p.Output(), sign) {
			t.Fatalf("kinsy panicked:\n%s", p.Output())
		}
	}
}
