package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// ErrExited is wrapped by errors about a process that ended before it was
// expected to.
var ErrExited = errors.New("process exited")

// logTail is how much of a process's output an error carries, in bytes.
const logTail = 4096

// Command describes a program to run.
type Command struct {
	// Path of the program and its arguments, without the program's name.
	Path string
	Args []string
	// Env is added to the environment of the test. What the test's own
	// environment sets for kinsy (KINSY_*, KINE_*) is left out.
	Env []string
	// Log is the file that standard output and error are appended to.
	Log string
}

// Process is a running program. Its methods may be called concurrently.
type Process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// Run starts the program and returns at once. The caller ends it with
// Terminate or Kill.
func Run(c Command) (*Process, error) {
	out, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open process log: %w", err)
	}
	defer out.Close()
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Env = append(environment(), c.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	p := &Process{cmd: cmd, log: c.Log, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // the exit code is read from ProcessState
	}()
	return p, nil
}

func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "KINSY_") || strings.HasPrefix(v, "KINE_")
	})
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Log is the path of the file with its output.
func (p *Process) Log() string { return p.log }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Terminate sends SIGTERM, waits for the end and returns the exit code. When
// ctx ends first the process is killed and the context's error is returned.
func (p *Process) Terminate(ctx context.Context) (int, error) {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return -1, fmt.Errorf("signal process: %w", err)
	}
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		p.Kill()
		return -1, fmt.Errorf("wait for end after SIGTERM: %w", ctx.Err())
	}
}

// Kill sends SIGKILL and waits for the end. It does nothing to a process that
// has ended.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // fails only when the process has ended
	<-p.done
}

// Output returns the last part of what the process has written.
func (p *Process) Output() string {
	f, err := os.Open(p.log)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > logTail {
		if _, err := f.Seek(-logTail, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// WaitReady polls check until it succeeds. It gives up when the process ends
// or ctx does; the error carries the end of the process's output.
func (p *Process) WaitReady(ctx context.Context, check func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-p.done:
			cancel(ErrExited)
		case <-ctx.Done():
		}
	}()
	if err := Until(ctx, 10*time.Millisecond, check); err != nil {
		return fmt.Errorf("wait for %s: %w\n%s", p.cmd.Path, err, p.Output())
	}
	return nil
}

// Until calls check, first at once and then in the given interval, until it
// returns nil. When ctx ends first the error names the cause and the last
// result of check.
func Until(ctx context.Context, interval time.Duration, check func(context.Context) error) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last result: %w", context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}
