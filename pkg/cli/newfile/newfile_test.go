package newfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// write gives a file a text.
func write(path, text string, force bool) error {
	return Stream(path, force, func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
}

// only checks that a folder has one file, with a text.
func only(t *testing.T, path, want string) {
	t.Helper()
	all, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(all) != 1 {
		t.Errorf("files %v, %v", all, err)
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

func TestStream(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := write(path, "one", false); err != nil {
		t.Fatal(err)
	}
	only(t, path, "one")
	if err := write(path, "two", false); err == nil || !strings.Contains(err.Error(), "exists; give --force") {
		t.Errorf("a file was replaced: %v", err)
	}
	only(t, path, "one")
	if err := write(path, "three", true); err != nil {
		t.Fatal(err)
	}
	only(t, path, "three")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestFailureLeavesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	broken := errors.New("broken")
	err := Stream(path, true, func(w io.Writer) error {
		_, err := io.WriteString(w, "half")
		return errors.Join(err, broken)
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if all, err := os.ReadDir(filepath.Dir(path)); err != nil || len(all) > 0 {
		t.Errorf("left behind %v, %v", all, err)
	}
	if err := RemoveIfThere(path); err != nil {
		t.Error(err)
	}
}

// TestNameTakenMeanwhile: a file that appears while another one is written is not replaced.
func TestNameTakenMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	err := Stream(path, false, func(io.Writer) error { return os.WriteFile(path, []byte("other"), 0o600) })
	if err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("got %v", err)
	}
	only(t, path, "other")
}
