package s3snap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// world is one prefix, and the disks of nodes that use it.
type world struct {
	t     *testing.T
	store *object.Memory
	quiet *logrus.Logger
}

func newWorld(t *testing.T) *world {
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	return &world{t: t, store: object.NewMemory(), quiet: quiet}
}

// testNode is a log and its archive.
type testNode struct {
	*world
	path    string
	cfg     Config
	log     *sqllog.Log
	archive *Archive
	fatal   chan error
}

// disk names a new disk.
func (w *world) disk() string { return filepath.Join(w.t.TempDir(), "kinsy.db") }

func (w *world) config(path string) Config {
	return Config{Store: w.store, Path: path, CommitByChunk: true, Logger: w.quiet, SnapshotRetention: 2}
}

// open starts a node, which the test must be able to do.
func (w *world) open(cfg Config) *testNode {
	w.t.Helper()
	n, err := w.tryOpen(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

func (w *world) tryOpen(cfg Config) (*testNode, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	n := &testNode{world: w, path: cfg.Path, fatal: make(chan error, 1)}
	cfg.OnFatal = func(err error) { n.fatal <- err }
	n.cfg = cfg
	var err error
	n.log, n.archive, err = Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	n.archive.Start(n.log.Head)
	w.t.Cleanup(n.kill)
	return n, nil
}

// kill ends a node without uploading anything.
func (n *testNode) kill() {
	n.archive.Interrupt()
	n.stop()
}

// stop ends a node as a shutdown does.
func (n *testNode) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	n.archive.Close(ctx)
	if err := n.log.Close(); err != nil && !errors.Is(err, sqllog.ErrClosed) {
		n.t.Error(err)
	}
}

// put makes the row that follows the log's head.
func (n *testNode) put(key, value string) sqllog.Row {
	head := n.log.Head()
	return sqllog.Row{
		ID: head.ID + 1, Epoch: max(head.Epoch, 1), Revision: head.Revision + 1, Kind: sqllog.KindPut,
		Key: []byte(key), Value: []byte(value), CreateRevision: head.Revision + 1, Version: 1,
		WrittenAt: time.Now().UnixMilli() + 1000*int64(head.ID),
	}
}

// write commits rows one group after the other, as the Primary does.
func (n *testNode) write(count int) {
	n.t.Helper()
	for range count {
		if err := n.tryWrite(); err != nil {
			n.t.Fatal(err)
		}
	}
}

func (n *testNode) tryWrite() error {
	row := n.put(fmt.Sprintf("key-%d", n.log.Head().ID), "value")
	if err := n.log.Append([]sqllog.Row{row}); err != nil {
		return err
	}
	if err := n.archive.Commit([]sqllog.Row{row}); err != nil {
		return err
	}
	n.archive.Committed(row.ID, len(row.Key)+len(row.Value))
	return nil
}

// rows are those that a log keeps.
func rowsOf(t *testing.T, log *sqllog.Log) []sqllog.Row {
	t.Helper()
	var all []sqllog.Row
	err := log.Scan(t.Context(), 0, log.Head().ID, func(r *sqllog.Row) error {
		row := *r
		row.Key, row.Value, row.ValueSize = append([]byte(nil), r.Key...), append([]byte(nil), r.Value...), 0
		all = append(all, row)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// sameRows fails unless two logs hold the same rows up to an id.
func sameRows(t *testing.T, got, want []sqllog.Row) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d rows, want %d", len(got), len(want))
	}
	for i := range got {
		if !sameRow(&got[i], &want[i]) {
			t.Fatalf("row %d is %+v, want %+v", i, got[i], want[i])
		}
	}
}
