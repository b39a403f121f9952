package s3snap

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// local is the configuration of a node whose commit rule is its own disk.
func (w *world) local(path string) Config {
	cfg := w.config(path)
	cfg.CommitByChunk = false
	cfg.UploadInterval = time.Millisecond
	return cfg
}

// uploaded waits until object storage holds all of a node's rows.
func (n *testNode) uploaded() {
	n.t.Helper()
	stop := make(chan struct{})
	timer := time.AfterFunc(20*time.Second, func() { close(stop) })
	defer timer.Stop()
	if err := n.archive.WaitUploaded(stop, n.log.Head().ID); err != nil {
		n.t.Fatalf("uploaded %d of %d: %v", n.archive.Uploaded(), n.log.Head().ID, err)
	}
}

// outage makes a store fail while it is on.
func (w *world) outage() *atomic.Bool {
	var down atomic.Bool
	w.store.Before = func(object.Op, string) error {
		if down.Load() {
			return object.ErrUnavailable
		}
		return nil
	}
	return &down
}

func TestRowsAreUploadedAfterTheirCommit(t *testing.T) {
	w := newWorld(t)
	n := w.open(w.local(w.disk()))
	n.write(100)
	n.uploaded()
	want := rowsOf(t, n.log)
	n.kill()
	other := w.open(w.local(w.disk()))
	sameRows(t, rowsOf(t, other.log)[:len(want)], want)
	if epoch := other.log.Head().Epoch; epoch != 2 {
		t.Fatalf("the new disk is in epoch %d, want 2: its rows must not be taken for the old one's", epoch)
	}
}

func TestUploadWaitsForAgeOrSize(t *testing.T) {
	w := newWorld(t)
	cfg := w.local(w.disk())
	cfg.UploadInterval, cfg.UploadBytes = time.Hour, 5000
	n := w.open(cfg)
	n.write(2)
	if bySize, byAge, _ := n.archive.term.Load().pending.due(cfg.UploadInterval, cfg.UploadBytes); bySize || byAge {
		t.Fatal("two rows are due")
	}
	n.write(1000)
	stop := make(chan struct{})
	defer close(stop)
	if err := n.archive.WaitUploaded(stop, 500); err != nil {
		t.Fatal(err)
	}
}

func TestStopUploadsTheRest(t *testing.T) {
	w := newWorld(t)
	cfg := w.local(w.disk())
	cfg.UploadInterval = time.Hour
	n := w.open(cfg)
	n.write(20)
	want := rowsOf(t, n.log)
	n.stop()
	other := w.open(w.config(w.disk()))
	sameRows(t, rowsOf(t, other.log)[:len(want)], want)
}

func TestIntactLogStartsWhileTheStoreIsDown(t *testing.T) {
	w := newWorld(t)
	down := w.outage()
	n := w.open(w.local(w.disk()))
	n.write(5)
	n.uploaded()
	n.kill()
	down.Store(true)
	again := w.open(w.local(n.path))
	again.write(5)
	if err := again.archive.Err(); err != nil {
		t.Fatalf("a local commit rule depends on object storage: %v", err)
	}
	down.Store(false)
	again.uploaded()
	want := rowsOf(t, again.log)
	again.kill()
	other := w.open(w.config(w.disk()))
	sameRows(t, rowsOf(t, other.log)[:len(want)], want)
}

func TestLogThatComesBackBehindTheChainStops(t *testing.T) {
	w := newWorld(t)
	down := w.outage()
	first := w.open(w.local(w.disk()))
	first.write(5)
	first.uploaded()
	first.kill()
	second := w.open(w.local(w.disk()))
	second.write(5)
	second.uploaded()
	second.kill()

	down.Store(true)
	first = w.open(w.local(first.path))
	first.write(2)
	down.Store(false)
	if err := <-first.fatal; !errors.Is(err, ErrFenced) {
		t.Fatalf("stops with %v, want ErrFenced", err)
	}
}

// TestOldLogGetsAChain: a log that was there before object storage, and has let
// rows go, begins its chain with a snapshot.
func TestOldLogGetsAChain(t *testing.T) {
	for _, byChunk := range []bool{false, true} {
		w := newWorld(t)
		path := w.disk()
		log, err := sqllog.Open(t.Context(), sqllog.Config{Path: path, Logger: w.quiet})
		if err != nil {
			t.Fatal(err)
		}
		old := &testNode{world: w, log: log}
		for range 10 {
			if err := log.Append([]sqllog.Row{old.put("key", "value")}); err != nil {
				t.Fatal(err)
			}
		}
		if err := log.Remove([]sqllog.ID{2, 3}, sqllog.Compaction{Revision: 4}); err != nil {
			t.Fatal(err)
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		cfg := w.local(path)
		cfg.CommitByChunk = byChunk
		n := w.open(cfg)
		n.write(3)
		n.uploaded()
		want, compaction := rowsOf(t, n.log), n.log.Compaction()
		n.kill()
		other := w.open(w.config(w.disk()))
		sameRows(t, rowsOf(t, other.log)[:len(want)], want)
		if got := other.log.Compaction(); got.Revision != compaction.Revision || got.Revision != 4 {
			t.Fatalf("compaction is %+v, want %+v", got, compaction)
		}
	}
}

func TestBootstrapSnapshot(t *testing.T) {
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
	first := fresh.open(fresh.config(fresh.disk()))
	sameRows(t, rowsOf(t, first.log)[:len(want)], want)
	if first.log.Identity().Cluster == n.log.Identity().Cluster {
		t.Fatal("a bootstrapped cluster has the id of the one its snapshot is from")
	}
	first.write(5)
	want = rowsOf(t, first.log)
	first.kill()
	second := fresh.open(fresh.config(fresh.disk())) // the object is still there: once is enough
	sameRows(t, rowsOf(t, second.log)[:len(want)], want)
	second.kill()

	if _, err := w.store.Upload(t.Context(), bootstrapKey, bytes.NewReader(file.Bytes())); err != nil {
		t.Fatal(err)
	}
	n.kill()
	if _, err := w.tryOpen(w.config(w.disk())); !errors.Is(err, ErrBootstrap) {
		t.Fatalf("%v on a prefix with a history, want ErrBootstrap", err)
	}
}

// TestLogThatCannotBeCutIsSetAside: rows that disagree are below rows that
// compaction has removed.
func TestLogThatCannotBeCutIsSetAside(t *testing.T) {
	w := newWorld(t)
	first := w.open(w.config(w.disk()))
	first.write(5)
	first.kill()
	second := w.open(w.config(w.disk()))
	second.write(10)
	want := rowsOf(t, second.log)
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
	if err := log.Remove([]sqllog.ID{8, 9}, sqllog.Compaction{Revision: 9}); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	again := w.open(w.config(first.path))
	sameRows(t, rowsOf(t, again.log)[:len(want)], want)
	if aside, err := filepath.Glob(first.path + ".aside-*"); err != nil || len(aside) != 1 {
		t.Fatalf("files set aside: %v, %v", aside, err)
	}
}

func TestAppendsOfOneRevisionStayTogether(t *testing.T) {
	w := newWorld(t)
	cfg := w.local(w.disk())
	cfg.UploadBytes = 1
	n := w.open(cfg)
	n.uploaded()
	var group []sqllog.Row
	for sub := range int64(5) {
		row := n.put("key", "value")
		row.ID += sqllog.ID(sub)
		row.Sub = sub
		group = append(group, row)
	}
	if err := n.log.Append(group); err != nil {
		t.Fatal(err)
	}
	n.archive.Committed(group[4].ID, 100)
	n.uploaded()
	k, err := readChunk(t.Context(), w.store, chunkKey(group[0].ID))
	if err != nil || len(k.rows) != 5 {
		t.Fatalf("the chunk has %d rows of the 5 of one revision: %v", len(k.rows), err)
	}
}

// TestRowsThatAreNowhere: a log that compacted rows while it ran without object
// storage cannot go on with its chain, and says what to do.
func TestRowsThatAreNowhere(t *testing.T) {
	w := newWorld(t)
	n := w.open(w.local(w.disk()))
	n.write(3)
	n.uploaded()
	n.stop()
	log, err := sqllog.Open(t.Context(), sqllog.Config{Path: n.path, Logger: w.quiet})
	if err != nil {
		t.Fatal(err)
	}
	alone := &testNode{world: w, log: log}
	for range 5 {
		if err := log.Append([]sqllog.Row{alone.put("key", "value")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Remove([]sqllog.ID{5, 6}, sqllog.Compaction{Revision: 7}); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.tryOpen(w.config(n.path)); !errors.Is(err, ErrMissingRows) || !strings.Contains(err.Error(), "prefix that is empty") {
		t.Fatalf("%v, want ErrMissingRows and what to do", err)
	}
	again := w.open(w.local(n.path))
	if err := <-again.fatal; !errors.Is(err, ErrMissingRows) {
		t.Fatalf("%v, want ErrMissingRows", err)
	}
	again.kill()
	fresh := newWorld(t)
	moved := fresh.open(fresh.config(n.path))
	want := rowsOf(t, moved.log)
	moved.kill()
	other := fresh.open(fresh.config(fresh.disk()))
	sameRows(t, rowsOf(t, other.log)[:len(want)], want)
}
