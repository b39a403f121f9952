package s3

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/test/harness/client"
	"github.com/kinsy/kinsy/test/harness/process"
)

// TestSnapshotsAndRetention writes through several snapshots, makes everything in the store look old, and requires that
// retention deletes what the oldest kept snapshot covers, and that what is left is enough to start from.
func TestSnapshotsAndRetention(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.node(quorumStore, "--snapshot-rows", "300", "--snapshot-retention", "2", "--snapshot-retention-time", "1h")
	ok(t, n.Start())
	clients := n.Clients(t, crashClients)
	s := newSquad("retention", crashWriters, clients, *flagSeed)
	s.Start(t.Context())
	store, err := w.open(t.Context(), "")
	ok(t, err)
	ok(t, s.Await(n.Proc.While(t.Context()), 1000))
	ok(t, awaitSnapshots(t.Context(), store, 3))
	ok(t, age(w.dir(), 3*time.Hour))
	old, err := list(t.Context(), store, chunkFolder)
	ok(t, err)
	ok(t, s.Await(n.Proc.While(t.Context()), 1000)) // snapshots to come, after each of which retention looks
	ok(t, awaitDeleted(t.Context(), store, old[0].Key))
	l, err := s.End(1), s.Err()
	ok(t, err)
	ok(t, n.RestartEmpty())
	v, _, err := l.Verify(t.Context(), clients[0])
	ok(t, err)
	c, err := readChain(t.Context(), store)
	ok(t, err)
	if c.first == 1 {
		t.Errorf("the oldest chunk is still there: %+v", c)
	}
	requireManifests(t, store)
	process.RequireNoPanic(t, n.Proc)
	t.Logf("%v; the chain begins at row %d and ends at %d, in %d chunks", v, c.first, c.end.ID, c.chunks)
}

// awaitSnapshots returns when there are so many snapshots with a name.
func awaitSnapshots(ctx context.Context, s object.Store, count int) error {
	return client.Until(client.WaitLimit, 20*time.Millisecond, func() error {
		infos, err := list(ctx, s, snapshotFolder)
		if n := len(named(infos)); err == nil && n < count {
			err = fmt.Errorf("%d snapshots, want %d", n, count)
		}
		return err
	})
}

// named returns the keys of manifests.
func named(infos []object.Info) (keys []string) {
	for _, info := range infos {
		if strings.HasSuffix(info.Key, ".json") {
			keys = append(keys, info.Key)
		}
	}
	return keys
}

// awaitDeleted returns when an object is gone.
func awaitDeleted(ctx context.Context, s object.Store, key string) error {
	return client.Until(client.WaitLimit, 50*time.Millisecond, func() error {
		infos, err := list(ctx, s, key)
		if err == nil && len(infos) > 0 {
			err = fmt.Errorf("%s is still there", key)
		}
		return err
	})
}

// requireManifests requires that each snapshot's data has a manifest, and some are there.
func requireManifests(t *testing.T, s object.Store) {
	t.Helper()
	infos, err := list(t.Context(), s, snapshotFolder)
	ok(t, err)
	if n := len(named(infos)); n == 0 || len(infos) != 2*n {
		t.Errorf("%d manifests for %d objects", n, len(infos)-n)
	}
}

// age makes files as old as a retention needs them.
func age(dir string, by time.Duration) error {
	then := time.Now().Add(-by)
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		return os.Chtimes(path, then, then)
	})
}
