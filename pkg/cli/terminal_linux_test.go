package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/kinsy/kinsy/pkg/cli/terminal"
)

// openTerminal makes a pseudo-terminal: what a program writes to slave is read from master.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// onTerminal runs kinsy with a terminal as its input, output and error, types a text, and returns what the terminal was sent.
func onTerminal(t *testing.T, environment []string, typed string, args ...string) string {
	t.Helper()
	master, slave := openTerminal(t)
	defer master.Close()
	cmd := exec.CommandContext(t.Context(), kinsyBinary, args...)
	cmd.Env = append(os.Environ(), environment...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := slave.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(master, typed); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(processLimit, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	var seen bytes.Buffer
	_, _ = io.Copy(&seen, master) // it ends with an error when the last writer has ended
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %v\n%s", args, err, seen.String())
	}
	return seen.String()
}

var colours = regexp.MustCompile("\x1b\\[[0-9;]*m")

// screen is what is on a terminal in the end.
func screen(sent string) string {
	lines := strings.Split(strings.ReplaceAll(sent, "\r\n", "\n"), "\n")
	for i, line := range lines {
		if at := strings.LastIndex(line, terminal.EraseLine); at >= 0 {
			line = line[at+len(terminal.EraseLine):]
		}
		lines[i] = colours.ReplaceAllString(line, "")
	}
	return strings.Join(lines, "\n")
}

func TestColoursAreForTerminals(t *testing.T) {
	clearEnvironment(t)
	t.Setenv("NO_COLOR", "")
	withNode(t, nodeConfig(t.TempDir(), ""), func(address string, _ *grpc.ClientConn) {
		t.Setenv("KINSY_ENDPOINTS", address)
		done(t, "put", "/a", "one")
		xterm := []string{"TERM=xterm"}
		get := []string{"get", "/a"}
		if got, want := onTerminal(t, xterm, "", get...), "\x1b[36m/a\x1b[0m\r\none\r\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		for _, environment := range [][]string{{"TERM=dumb"}, {"TERM=xterm", "NO_COLOR=1"}} {
			if got, want := onTerminal(t, environment, "", get...), "/a\r\none\r\n"; got != want {
				t.Errorf("%v: got %q, want %q", environment, got, want)
			}
		}
		if got := onTerminal(t, xterm, "", "get", "-w", "table", "/a"); !strings.HasPrefix(got, "\x1b[1mKEY  CREATED") {
			t.Errorf("table: %q", got)
		}
		if got := onTerminal(t, xterm, "", "get", "-w", "json", "/a"); strings.Contains(got, "\x1b") {
			t.Errorf("colours in JSON: %q", got)
		}
		cmd := exec.Command(kinsyBinary, get...)
		cmd.Env = append(os.Environ(), xterm...)
		if out, err := cmd.Output(); err != nil || string(out) != "/a\none\n" {
			t.Errorf("piped: %q, %v", out, err)
		}
	})
}

func TestProgressIsForTerminals(t *testing.T) {
	clearEnvironment(t)
	withNode(t, nodeConfig(t.TempDir(), ""), func(address string, _ *grpc.ClientConn) {
		bench := []string{"bench", "put", "--duration", "600ms", "--clients", "2", "--endpoints", address}
		sent := onTerminal(t, []string{"TERM=xterm"}, "", bench...)
		if !regexp.MustCompile(`\r\x1b\[Kput \[#+\.*\] +\d+% [0-9,]+, [0-9,]+/s`).MatchString(sent) {
			t.Errorf("no bar in %q", sent)
		}
		if got := screen(sent); strings.Contains(got, "[#") || !strings.HasPrefix(got, "load         put, 256 bytes a value\n") {
			t.Errorf("left on the screen:\n%s", got)
		}
		if sent := onTerminal(t, []string{"TERM=dumb"}, "", bench...); strings.Contains(sent, "\x1b") {
			t.Errorf("a dumb terminal was sent %q", sent)
		}
		code, stdout, stderr := kinsy(bench...)
		if code != 0 || stderr != "" || strings.Contains(stdout, "\x1b") {
			t.Errorf("piped: exit code %d, %q, %q", code, stdout, stderr)
		}
	})
}

func TestTxnAsksOnATerminal(t *testing.T) {
	clearEnvironment(t)
	withNode(t, nodeConfig(t.TempDir(), ""), func(address string, _ *grpc.ClientConn) {
		sent := onTerminal(t, []string{"TERM=xterm"}, "mod(\"/a\") = \"0\"\n\nput /a one\n\n\n", "txn", "--endpoints", address)
		contains(t, screen(sent), "compares:\n", "success requests (get, put, del):\n", "failure requests (get, put, del):\n", "SUCCESS\n\nOK\n")
	})
}
