package storage

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/kinsy/kinsy/test/kubernetes/process"
)

// The environment of a run on one store. TestProfiles sets both for its child
// processes; with the first alone the binary is built.
const (
	targetVariable = "KINSY_STORAGE_TARGET"
	binaryVariable = "KINSY_STORAGE_BINARY"
)

// buildTimeout bounds a build with a cold cache.
const buildTimeout = 10 * time.Minute

// binaries holds what the tests of this process have built.
var binaries struct {
	sync.Mutex
	dir  string
	path map[process.Kind]string
}

func TestMain(m *testing.M) {
	code := m.Run()
	if binaries.dir != "" {
		os.RemoveAll(binaries.dir)
	}
	os.Exit(code)
}

// target says which store the cases of this process run on, and skips the test
// when they do not.
func target(t *testing.T) process.Kind {
	t.Helper()
	kind := process.Kind(os.Getenv(targetVariable))
	switch kind {
	case "":
		t.Skipf("run by TestProfiles; %s chooses a store", targetVariable)
	case process.Netsy, process.Etcd, process.Reference:
	default:
		t.Fatalf("unknown store %q in %s", kind, targetVariable)
	}
	return kind
}

// binary returns the server of that kind, built once in a test process.
func binary(t *testing.T, kind process.Kind) string {
	t.Helper()
	if path := os.Getenv(binaryVariable); path != "" {
		return path
	}
	binaries.Lock()
	defer binaries.Unlock()
	if path, ok := binaries.path[kind]; ok {
		return path
	}
	path, err := buildLocked(kind)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func buildLocked(kind process.Kind) (string, error) {
	if binaries.dir == "" {
		dir, err := os.MkdirTemp("", "kinsy-storage-")
		if err != nil {
			return "", fmt.Errorf("make build folder: %w", err)
		}
		binaries.dir, binaries.path = dir, map[process.Kind]string{}
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	build := process.BuildKinsy
	if kind == process.Reference {
		build = process.BuildReference
	}
	path, err := build(ctx, binaries.dir)
	if err == nil {
		binaries.path[kind] = path
	}
	return path, err
}
