package cli

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
)

func TestExitCodes(t *testing.T) {
	clearEnvironment(t)
	withNode(t, nodeConfig(t.TempDir(), ""), func(address string, _ *grpc.ClientConn) {
		t.Setenv("KINSY_ENDPOINTS", address)
		for args, want := range map[string]int{
			"get /nothing":                                0,
			"del /nothing":                                0,
			"get /a --rev 99":                             1,
			"get /a --endpoints 127.0.0.1:1":              1,
			"get /a --endpoints " + address + " --cert x": 2,
			"get /a --endpoints nonsense":                 2,
			"get":                                         2,
			"get /a --nothing":                            2,
			"get /a --limit many":                         2,
			"lease":                                       0,
			"lease nothing":                               2,
			"nothing":                                     2,
			"server --nothing":                            2,
			"member nothing":                              2,
		} {
			code, stdout, stderr := kinsy(strings.Fields(args)...)
			if code != want || (code != 0) != (strings.Count(stderr, "\n") == 1) || code != 0 && stdout != "" {
				t.Errorf("%s: exit code %d, want %d; %q, %q", args, code, want, stdout, stderr)
			}
		}
	})
}

func TestClientOverTLS(t *testing.T) {
	clearEnvironment(t)
	cert, key := writeCertificate(t)
	c := nodeConfig(filepath.Join(t.TempDir(), "closed"), "")
	c.CertFile, c.KeyFile, c.TrustedCAFile = cert, key, cert
	withNode(t, c, func(address string, _ *grpc.ClientConn) {
		t.Setenv("KINSY_ENDPOINTS", "https://"+address)
		refused(t, "certificate", "get", "/a")
		refused(t, "no server at", "get", "/a", "--cacert", cert)
		refused(t, "the file has no certificate", "get", "/a", "--cacert", key)
		t.Setenv("KINSY_CACERT", cert)
		t.Setenv("KINSY_CERT", cert)
		t.Setenv("KINSY_KEY", key)
		done(t, "put", "/a", "x")
		if got := done(t, "get", "/a"); got != "/a\nx\n" {
			t.Errorf("got %q", got)
		}
		done(t, "bench", "put", "--total", "10")
		refused(t, "is plain text", "get", "/a", "--endpoints", "http://"+address)
	})
}

func TestClientCompletion(t *testing.T) {
	clearEnvironment(t)
	for args, want := range map[string]string{
		"--generate-shell-completion":             "watch:",
		"get --pre --generate-shell-completion":   "--prefix",
		"lease --generate-shell-completion":       "keep-alive:",
		"bench --cli --generate-shell-completion": "--clients",
	} {
		out, err := exec.Command(kinsyBinary, strings.Fields(args)...).Output()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, %s", args, err, out)
		}
	}
}

// TestDumpsAndExports: what kinsy dump writes kinsy import takes, and the other way round.
func TestDumpsAndExports(t *testing.T) {
	clearEnvironment(t)
	dir := t.TempDir()
	dump, export := filepath.Join(dir, "dump"), filepath.Join(dir, "export")
	withNode(t, nodeConfig(filepath.Join(dir, "a"), ""), func(address string, conn *grpc.ClientConn) {
		history(t, conn)
		done(t, "dump", "--endpoints", address, "--file", dump, "--with-lease")
		done(t, "export", "--endpoint", address, "--format", "json", "--output", export)
	})
	one, err := os.ReadFile(dump)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(export)
	if err != nil || !bytes.Equal(one, other) {
		t.Errorf("dump:\n%s\nexport (%v):\n%s", one, err, other)
	}
	done(t, "import", "--from-json", dump, "--data-dir", filepath.Join(dir, "b"))
	withNode(t, nodeConfig(filepath.Join(dir, "c"), ""), func(address string, _ *grpc.ClientConn) {
		contains(t, done(t, "load", "--endpoints", address, export), "OK, loaded ")
	})
}

// TestInterruptedClients: a command that goes on until it is told to stop ends with 0, another with an error.
func TestInterruptedClients(t *testing.T) {
	clearEnvironment(t)
	withNode(t, nodeConfig(t.TempDir(), ""), func(address string, _ *grpc.ClientConn) {
		done(t, "put", "/a", "x", "--endpoints", address)
		for args, want := range map[string]int{"watch /a --rev 1": 0, "txn --interactive": 1} {
			cmd := exec.Command(kinsyBinary, append(strings.Fields(args), "--endpoints", address)...)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stdout, cmd.Stderr = w, w
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			_ = w.Close()
			lines := bufio.NewReader(r)
			if _, err := lines.ReadString('\n'); err != nil { // it has begun
				t.Fatal(err)
			}
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			rest, _ := io.ReadAll(lines)
			_ = cmd.Wait()
			_ = in.Close()
			_ = r.Close()
			if code := cmd.ProcessState.ExitCode(); code != want || (want == 1) != strings.Contains(string(rest), "kinsy: interrupted: ") {
				t.Errorf("%s: exit code %d, want %d: %s", args, code, want, rest)
			}
		}
	})
}
