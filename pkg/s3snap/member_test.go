package s3snap

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// member is one node of a cluster.
type member struct {
	*testNode
	control  *Control
	epoch    sqllog.Epoch
	deposed  chan error
	uploads  chan sqllog.Head
	lastTerm atomic.Int64 // that OnUploaded was told of
}

// nodeConfig is that of one node of a cluster. Nothing is uploaded for its age.
func (w *world) nodeConfig(path string) Config {
	return Config{
		Store: w.store, Path: path, Logger: w.quiet, Cluster: testCluster, Rule: elect.Majority,
		SnapshotRetention: 2, UploadInterval: time.Hour,
	}
}

// member starts a node of the cluster, as a Replica.
func (w *world) member(path string) *member {
	w.t.Helper()
	n, err := w.tryMember(w.nodeConfig(path))
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

func (w *world) tryMember(cfg Config) (*member, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	n := &member{
		testNode: &testNode{world: w, path: cfg.Path, fatal: make(chan error, 1)},
		deposed:  make(chan error, 9), uploads: make(chan sqllog.Head, 1000),
	}
	cfg.OnFatal = func(err error) { n.fatal <- err }
	cfg.OnDeposed = func(e sqllog.Epoch, err error) { n.deposed <- fmt.Errorf("epoch %d: %w", e, err) }
	cfg.OnUploaded = func(e sqllog.Epoch, end sqllog.Head) {
		n.lastTerm.Store(int64(e))
		n.uploads <- end
	}
	n.cfg = cfg
	var err error
	if n.log, n.archive, err = OpenReplica(ctx, cfg); err != nil {
		return nil, err
	}
	n.control = n.archive.Control()
	w.t.Cleanup(func() {
		n.kill()
		if len(n.fatal) > 0 {
			w.t.Errorf("a node of a cluster must stop: %v", <-n.fatal)
		}
	})
	return n, nil
}

// lead makes a node Primary of the next epoch.
func (n *member) lead() {
	n.t.Helper()
	if err := n.tryLead(); err != nil {
		n.t.Fatal(err)
	}
}

func (n *member) tryLead() error {
	c, err := n.control.Raise(n.t.Context(), n.log.Promised(), elect.Majority)
	if err != nil {
		return err
	}
	return n.leadIn(c.Epoch)
}

func (n *member) leadIn(e sqllog.Epoch) error {
	ctx, cancel := context.WithTimeout(n.t.Context(), 20*time.Second)
	defer cancel()
	head, err := n.archive.Lead(ctx, e)
	if err != nil {
		return err
	}
	if head != n.log.Head() || head.Epoch != e {
		n.t.Fatalf("leads epoch %d at %+v, the log is at %+v", e, head, n.log.Head())
	}
	n.epoch = e
	n.archive.Start(n.log.Head)
	return nil
}

// append writes rows to the log only.
func (n *member) append(count int) []sqllog.Row {
	n.t.Helper()
	rows := testRows(n.log.Head(), n.epoch, count)
	if err := n.log.AppendIn(n.epoch, rows); err != nil {
		n.t.Fatal(err)
	}
	return rows
}

// commit writes rows and brings them to the chain.
func (n *member) commit(count int) []sqllog.Row {
	n.t.Helper()
	rows := n.append(count)
	if err := n.archive.Commit(rows); err != nil {
		n.t.Fatal(err)
	}
	return rows
}

// catchUp brings a Replica to the chain's end.
func (n *member) catchUp() {
	n.t.Helper()
	if err := n.archive.CatchUp(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
}

// holdPut blocks the PUTs of a key until release is called; reached is closed when
// the first one has come.
func (w *world) holdPut(key string) (reached chan struct{}, release func()) {
	reached, gate := make(chan struct{}), make(chan struct{})
	var come, gone atomic.Bool
	w.store.Before = func(op object.Op, k string) error {
		if op == object.OpPut && k == key && !gone.Load() {
			if come.CompareAndSwap(false, true) {
				close(reached)
			}
			<-gate
		}
		return nil
	}
	return reached, func() {
		if gone.CompareAndSwap(false, true) {
			close(gate)
		}
	}
}

// within receives from a channel, or fails.
func within[T any](t *testing.T, ch <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: nothing comes", what)
	}
	return v
}

// sameLogs fails unless two logs hold the same rows.
func sameLogs(t *testing.T, got, want *member) {
	t.Helper()
	sameRows(t, rowsOf(t, got.log), rowsOf(t, want.log))
}

// chunksOf counts the chunks.
func (w *world) chunksOf() int { return len(w.keys(chunkPrefix)) }

// wantErr fails unless an error is of a kind.
func wantErr(t *testing.T, err, want error, what string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: %v, want %v", what, err, want)
	}
}

// hasKey reports whether an error names a text.
func hasText(err error, text string) bool { return err != nil && strings.Contains(err.Error(), text) }
