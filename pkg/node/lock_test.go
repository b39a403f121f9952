package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLockNamesTheHolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	first, err := lockFolder(dir, "127.0.0.1:2379")
	if err != nil {
		t.Fatal(err)
	}
	_, err = lockFolder(dir, "127.0.0.1:9999")
	if !errors.Is(err, ErrDataDirInUse) {
		t.Fatalf("second lock: %v", err)
	}
	for _, want := range []string{dir, fmt.Sprintf("kinsy process %d", os.Getpid()), "listening on 127.0.0.1:2379", "started 20"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if err := first.release(); err != nil {
		t.Fatal(err)
	}
	again, err := lockFolder(dir, "127.0.0.1:9999")
	if err != nil {
		t.Fatalf("lock after release: %v", err)
	}
	if err := again.release(); err != nil {
		t.Fatal(err)
	}
}

func TestLockHolderUnknown(t *testing.T) {
	path := filepath.Join(t.TempDir(), lockFileName)
	for _, text := range []string{"", "{", "{}"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := describeHolder(path); got != "another kinsy process" {
			t.Errorf("%q: %s", text, got)
		}
	}
}

func TestLockFolderNotCreatable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := lockFolder(file, ""); err == nil || !strings.Contains(err.Error(), "create data folder") {
		t.Errorf("got %v", err)
	}
}

func TestLockDataDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	release, err := LockDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = LockDataDir(dir)
	if !errors.Is(err, ErrDataDirInUse) || strings.Contains(err.Error(), "listening") {
		t.Errorf("second lock: %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	lock, err := lockFolder(dir, "127.0.0.1:2379")
	if err != nil {
		t.Fatalf("lock after release: %v", err)
	}
	if err := lock.release(); err != nil {
		t.Fatal(err)
	}
}
