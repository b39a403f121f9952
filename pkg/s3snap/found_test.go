package s3snap

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// remove takes an object away, as an operator may.
func (w *world) remove(key string) {
	w.t.Helper()
	if err := w.store.Delete(w.t.Context(), key); err != nil {
		w.t.Fatal(err)
	}
}

// TestPrefixThatHasLostItsClusterFile: another cluster is not begun on top of it.
func TestPrefixThatHasLostItsClusterFile(t *testing.T) {
	w := newWorld(t)
	n := w.open(w.config(w.disk()))
	n.write(5)
	n.kill()
	w.remove(clusterKey)
	for _, path := range []string{w.disk(), n.path} {
		if _, err := w.tryOpen(w.config(path)); !errors.Is(err, ErrCorruptChain) || !strings.Contains(err.Error(), clusterKey) {
			t.Fatalf("%v, want ErrCorruptChain that names %s", err, clusterKey)
		}
	}
	if _, err := readCluster(t.Context(), w.store); !errors.Is(err, object.ErrNotFound) {
		t.Fatalf("a cluster was begun: %v", err)
	}
}

// TestSnapshotOfAnotherLogIsNotTaken: one that another cluster has left at the same
// id is not this log's.
func TestSnapshotOfAnotherLogIsNotTaken(t *testing.T) {
	w := newWorld(t)
	logs := [2]*sqllog.Log{seedLog(t, w), seedLog(t, w)}
	for i, log := range logs {
		_, err := takeSnapshot(t.Context(), nil, w.store, NewWriter(log.Identity()), log, log.Head)
		if want := map[int]error{1: ErrCorruptChain}[i]; !errors.Is(err, want) {
			t.Fatalf("snapshot of log %d: %v, want %v", i, err, want)
		}
	}
	_, err := found(t.Context(), nil, w.store, NewWriter(logs[1].Identity()), logs[1], "", logs[1].Head)
	if !errors.Is(err, ErrCorruptChain) {
		t.Fatalf("begun beside the snapshot of another cluster: %v", err)
	}
}

// TestLogWithAHoleIsNotWhole: rows that are appended and not committed yet do not
// make up for those that are compacted.
func TestLogWithAHoleIsNotWhole(t *testing.T) {
	w := newWorld(t)
	log := seedLog(t, w)
	n := &testNode{world: w, log: log}
	for range 9 {
		if err := log.Append([]sqllog.Row{n.put("key", "value")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Remove([]sqllog.ID{3}, sqllog.Compaction{Revision: 5}); err != nil {
		t.Fatal(err)
	}
	rows := rowsOf(t, log)
	committed := headOf(&rows[len(rows)-2])
	base, err := found(t.Context(), nil, w.store, NewWriter(log.Identity()), log, "", func() sqllog.Head { return committed })
	if err != nil || base != committed {
		t.Fatalf("the chain begins after %+v, %v; want %+v", base, err, committed)
	}
}

// TestBootstrapWhereTheDiskIsTheCommitRule: the second start must know that the
// first one used the object.
func TestBootstrapWhereTheDiskIsTheCommitRule(t *testing.T) {
	w := newWorld(t)
	n := w.open(w.config(w.disk()))
	n.write(10)
	want := rowsOf(t, n.log)
	var file bytes.Buffer
	if _, err := WriteSnapshot(t.Context(), &file, n.archive.writer, n.log); err != nil {
		t.Fatal(err)
	}
	fresh := newWorld(t)
	if _, err := fresh.store.Upload(t.Context(), bootstrapKey, bytes.NewReader(file.Bytes())); err != nil {
		t.Fatal(err)
	}
	// The first start is cut off when it has loaded the log.
	path, stopped := fresh.disk(), errors.New("stopped")
	fresh.store.Before = func(op object.Op, key string) error {
		if op == object.OpPut && key == clusterKey {
			return stopped
		}
		return nil
	}
	if _, err := fresh.tryOpen(fresh.local(path)); !errors.Is(err, stopped) {
		t.Fatal(err)
	}
	fresh.store.Before = nil
	for range 3 {
		n := fresh.open(fresh.local(path))
		sameRows(t, rowsOf(t, n.log)[:len(want)], want)
		n.uploaded()
		n.kill()
	}
}

// TestReplacedLogLeadsOnce: a log that had to be replaced is settled by then.
func TestReplacedLogLeadsOnce(t *testing.T) {
	w := newWorld(t)
	first := w.open(w.config(w.disk()))
	first.write(5)
	first.kill()
	second := w.open(w.config(w.disk()))
	second.write(10)
	second.kill()
	log, err := sqllog.Open(t.Context(), sqllog.Config{Path: first.path, Logger: w.quiet})
	if err != nil {
		t.Fatal(err)
	}
	lone := &testNode{world: w, log: log}
	for range 5 {
		if err := log.Append([]sqllog.Row{lone.put("lost", "written while cut off")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(log.Remove([]sqllog.ID{8, 9}, sqllog.Compaction{Revision: 9}), log.Close()); err != nil {
		t.Fatal(err)
	}
	again := w.open(w.config(first.path))
	if head := again.log.Head(); head.Epoch != 3 || head.ID != second.log.Head().ID+1 {
		t.Fatalf("head %+v after %+v: want one more row, of epoch 3", head, second.log.Head())
	}
}

// TestRestoreEndsWhereRowsAreMissing: a name without its rows is damage, not
// retention that has moved on.
func TestRestoreEndsWhereRowsAreMissing(t *testing.T) {
	w := newWorld(t)
	n := w.open(w.config(w.disk()))
	n.write(5)
	m := n.snapshot()
	n.kill()
	w.remove(m.Object)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := Restore(ctx, RestoreConfig{Store: w.store, Path: w.disk(), Logger: w.quiet}); !errors.Is(err, ErrCorruptChain) {
		t.Fatalf("%v, want ErrCorruptChain", err)
	}
}

// TestSnapshotBelowTheFloorIsNotUsed: retention may leave a young snapshot and
// delete chunks after it.
func TestSnapshotBelowTheFloorIsNotUsed(t *testing.T) {
	w := newWorld(t)
	now := time.Now()
	w.store.Now = func() time.Time { return now }
	n := w.open(w.config(w.disk()))
	n.write(10)
	at := n.log.Head()
	n.write(10)
	now = now.Add(2 * MinChunkAge) // the first snapshot takes long
	if _, err := takeSnapshot(t.Context(), nil, w.store, n.archive.writer, n.log, func() sqllog.Head { return at }); err != nil {
		t.Fatal(err)
	}
	n.snapshot()
	n.write(5)
	cfg := n.cfg.withDefaults()
	cfg.SnapshotRetention = 1
	if err := applyRetention(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if keys := w.keys(snapshotPrefix); len(keys) != 4 {
		t.Fatalf("snapshots left: %v; the older one is too young to go", keys)
	}
	if _, err := Verify(t.Context(), w.store, nil); err != nil {
		t.Fatalf("verify: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := Restore(ctx, RestoreConfig{Store: w.store, Path: w.disk(), Target: Target{Revision: at.Revision + 2}, Logger: w.quiet})
	if !errors.Is(err, ErrNoHistory) {
		t.Fatalf("restore to where chunks are deleted: %v, want ErrNoHistory", err)
	}
}

// TestLooksEndWithTheArchive: nothing goes on asking object storage after Close.
func TestLooksEndWithTheArchive(t *testing.T) {
	warm(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		down := w.outage()
		n := w.open(w.config(w.disk()))
		down.Store(true)
		var read sync.WaitGroup
		read.Go(func() { _ = n.archive.Confirm(t.Context()) })
		time.Sleep(time.Second)
		n.kill()
		asked := time.Now()
		read.Wait()
		if took := time.Since(asked); took > time.Second {
			t.Fatalf("a read is answered %s after the stop", took)
		}
	})
}

// TestStopDoesNotWaitForASnapshot that object storage does not take.
func TestStopDoesNotWaitForASnapshot(t *testing.T) {
	warm(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		cfg := w.config(w.disk())
		cfg.SnapshotRows = 5
		uploading := make(chan struct{}, 1)
		cfg.Store = stuckStore{w.store, uploading}
		n := w.open(cfg)
		n.write(10)
		<-uploading
		asked := time.Now()
		n.archive.Quiesce()
		n.kill()
		if took := time.Since(asked); took > 2*time.Second {
			t.Fatalf("the stop took %s", took)
		}
	})
}

// stuckStore takes no snapshots and deletes nothing: both wait for their context.
type stuckStore struct {
	object.Store
	uploading chan struct{}
}

func (s stuckStore) Delete(ctx context.Context, keys ...string) error {
	if strings.HasPrefix(keys[0], snapshotPrefix) {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.Store.Delete(ctx, keys...)
}

func (s stuckStore) Upload(ctx context.Context, _ string, _ io.Reader) (object.Info, error) {
	select {
	case s.uploading <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return object.Info{}, ctx.Err()
}

// TestStartListsLittle: however many chunks there are, those far below the log's
// head are not listed.
func TestStartListsLittle(t *testing.T) {
	w := newWorld(t)
	n := w.open(w.config(w.disk()))
	n.write(2*int(nearWindow) + farNames)
	behind := w.open(w.config(w.disk()))
	behind.kill()
	other := w.open(w.config(w.disk()))
	other.write(300)
	listed := &listing{Store: w.store}
	rel, err := compare(t.Context(), listed, behind.reopened())
	if err != nil || rel.cut || !rel.more {
		t.Fatalf("%+v, %v; want that the chain goes on", rel, err)
	}
	if n := listed.n.Load(); n > int64(nearWindow)+1+farNames {
		t.Fatalf("%d objects were listed", n)
	}
}

// reopened is the log of a node that was stopped.
func (n *testNode) reopened() *sqllog.Log {
	n.t.Helper()
	log, err := sqllog.Open(n.t.Context(), sqllog.Config{Path: n.path, Logger: n.quiet})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = log.Close() })
	return log
}

// listing counts the objects that were listed.
type listing struct {
	object.Store
	n atomic.Int64
}

func (l *listing) List(ctx context.Context, prefix, after string, fn func(object.Info) error) error {
	return l.Store.List(ctx, prefix, after, func(info object.Info) error {
		l.n.Add(1)
		return fn(info)
	})
}
