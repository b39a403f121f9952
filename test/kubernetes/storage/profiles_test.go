package storage

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kinsy/kinsy/test/kubernetes/process"
)

var (
	reference = flag.Bool("reference", false, "run the storage tests on the etcd server")
	rewrite   = flag.Bool("rewrite", false, "with -reference: record the tests that passed")
)

const (
	passes       = "testdata/passes.txt"
	childTimeout = 4 * time.Minute
	// parallel is how many subtests of a case may run at once: they wait more
	// than they work, and one case has a key that expires while they wait.
	parallel = "8"
)

// TestProfiles runs the storage tests on both profiles of kinsy, one after the
// other.
func TestProfiles(t *testing.T) {
	if os.Getenv(targetVariable) != "" {
		t.Skipf("%s is set", targetVariable)
	}
	for _, kind := range []process.Kind{process.Netsy, process.Etcd} {
		t.Run(string(kind), func(t *testing.T) {
			compare(t, runChild(t, kind), readPasses(t))
		})
	}
}

// TestReference runs the storage tests on the etcd server, which gives the
// list that the profiles of kinsy are held to.
func TestReference(t *testing.T) {
	if !*reference || os.Getenv(targetVariable) != "" {
		t.Skip("needs -reference")
	}
	passed := runChild(t, process.Reference)
	if !*rewrite {
		compare(t, passed, readPasses(t))
		return
	}
	text := strings.Join(passed, "\n") + "\n"
	if err := os.MkdirAll(filepath.Dir(passes), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(passes, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// runChild runs TestStore and TestCache on one kind of store in a child
// process and returns the sorted names of the tests that passed. The servers
// that the child starts are in its process group, which is ended with it.
func runChild(t *testing.T, kind process.Kind) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), childTimeout)
	defer cancel()
	path := binary(t, kind)
	cmd := exec.CommandContext(ctx, os.Args[0],
		"-test.run=^(TestStore|TestCache)$", "-test.v", "-test.parallel="+parallel, "-test.timeout="+childTimeout.String())
	cmd.Env = append(os.Environ(), targetVariable+"="+string(kind), binaryVariable+"="+path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	started := time.Now()
	out, err := cmd.CombinedOutput()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // no such group when all have ended
	}
	passed, other := results(out)
	t.Logf("%s: %d passed in %s", kind, len(passed), time.Since(started).Round(time.Second))
	if err != nil {
		t.Errorf("storage tests on %s: %v\n%s", kind, err, strings.Join(other, "\n"))
	}
	return passed
}

// results splits the verbose output of a test run into the names of the tests
// that passed, sorted, and all lines that do not speak of success.
func results(out []byte) (passed, other []string) {
	const pass = "--- PASS: "
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		text := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(text, pass):
			name, _, _ := strings.Cut(strings.TrimPrefix(text, pass), " ")
			passed = append(passed, name)
		case strings.HasPrefix(text, "=== "), text == "PASS", strings.Contains(text, "Updated featureGates="):
		default:
			other = append(other, line)
		}
	}
	slices.Sort(passed)
	return passed, other
}

func readPasses(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(passes)
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(string(text))
	slices.Sort(names)
	return names
}

// compare fails the test for every name that is only in one of the lists.
func compare(t *testing.T, got, want []string) {
	t.Helper()
	for _, name := range want {
		if _, found := slices.BinarySearch(got, name); !found {
			t.Errorf("passes on etcd, not here: %s", name)
		}
	}
	for _, name := range got {
		if _, found := slices.BinarySearch(want, name); !found {
			t.Errorf("not in %s: %s", passes, name)
		}
	}
}
