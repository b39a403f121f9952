package cli

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestInterrupt sends signals to an import that waits for its input.
func TestInterrupt(t *testing.T) {
	clearEnvironment(t)
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		dir := filepath.Join(t.TempDir(), "new", "data")
		cmd := exec.Command(kinsyBinary, "import", "--from-json", "-", "--data-dir", dir)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		var errs bytes.Buffer
		cmd.Stderr = &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		if _, err := io.WriteString(in, `{"format":"kinsy-json-1","revision":9,"compact_revision":9,"history":false}`+"\n"); err != nil {
			t.Fatal(err)
		}
		waitForFile(t, filepath.Join(dir, "kinsy.db.loading"))
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case <-ended:
		case <-time.After(processLimit):
			t.Fatal("did not end in time")
		}
		if code := cmd.ProcessState.ExitCode(); code != 1 {
			t.Errorf("exit code %d", code)
		}
		contains(t, errs.String(), "kinsy: interrupted: ")
		if _, err := os.Lstat(filepath.Dir(dir)); err == nil {
			t.Errorf("left behind:\n%s", tree(t, filepath.Dir(dir)))
		}
		_ = in.Close()
	}
}

// waitForFile returns once a file is there.
func waitForFile(t *testing.T, path string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(processLimit)
	for {
		if _, err := os.Lstat(path); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s did not appear", path)
		}
	}
}
