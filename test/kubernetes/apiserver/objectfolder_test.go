package apiserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kinsy/kinsy/test/kubernetes/process"
)

// objectAge is more than what retention asks of an object before it deletes it.
const objectAge = 3 * time.Hour

var (
	errTooFewSnapshots = errors.New("too few snapshots")
	errNotDeleted      = errors.New("not deleted yet")
)

// objectFolder is the folder that a store uses as object storage.
type objectFolder string

// arguments returns the arguments together with those that name the folder.
func (o objectFolder) arguments(args []string) []string {
	return append([]string{"--object-store", "file://" + string(o)}, args...)
}

// files returns the paths that match a pattern under the folder, in order.
func (o objectFolder) files(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(string(o), pattern))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func (o objectFolder) chunks(t *testing.T) []string {
	t.Helper()
	chunks := o.files(t, "chunks/*")
	if len(chunks) == 0 {
		t.Fatal("no chunks")
	}
	return chunks
}

func (o objectFolder) newestChunk(t *testing.T) string {
	t.Helper()
	chunks := o.chunks(t)
	return chunks[len(chunks)-1]
}

// awaitSnapshots waits until there are n more snapshots.
func (o objectFolder) awaitSnapshots(t *testing.T, n int) {
	t.Helper()
	const manifests = "snapshots/*.json"
	want := len(o.files(t, manifests)) + n
	o.await(t, func() error {
		if got := len(o.files(t, manifests)); got < want {
			return fmt.Errorf("%w: %d, want %d", errTooFewSnapshots, got, want)
		}
		return nil
	})
}

// age makes every object so old that retention may delete it, and returns the
// path of the oldest chunk.
func (o objectFolder) age(t *testing.T) string {
	t.Helper()
	oldest := o.chunks(t)[0]
	then := time.Now().Add(-objectAge)
	for _, path := range o.files(t, "*/*") {
		if err := os.Chtimes(path, then, then); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return oldest
}

// awaitDeleted waits until an object is gone.
func (o objectFolder) awaitDeleted(t *testing.T, path string) {
	t.Helper()
	o.await(t, func() error {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %s, %v", errNotDeleted, path, err)
		}
		return nil
	})
}

func (o objectFolder) await(t *testing.T, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), settleTimeout)
	defer cancel()
	if err := process.Until(ctx, pollInterval, func(context.Context) error { return check() }); err != nil {
		t.Fatal(err)
	}
}
