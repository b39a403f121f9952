package s3snap

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

func (w *world) keys(prefix string) (all []string) {
	w.t.Helper()
	err := w.store.List(w.t.Context(), prefix, "", func(info object.Info) error {
		all = append(all, info.Key)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// snapshot takes one at the chain's end, as the snapshot loop does.
func (n *testNode) snapshot() Manifest {
	n.t.Helper()
	m, err := takeSnapshot(n.t.Context(), nil, n.store, n.archive.writer, n.log, n.archive.chain.Load().End)
	if err != nil {
		n.t.Fatal(err)
	}
	return m
}

func TestRestoreFromSnapshotAfterItsChunksAreGone(t *testing.T) {
	w := newWorld(t)
	now := time.Now()
	w.store.Now = func() time.Time { return now }
	n := w.open(w.config(w.disk()))
	n.write(10)
	n.snapshot()
	n.write(10)
	second := n.snapshot()
	n.write(10)
	if _, err := w.store.Put(t.Context(), object.ProbePrefix+"late", []byte("x"), object.Condition{}); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * MinChunkAge)
	cfg := n.cfg.withDefaults()
	cfg.SnapshotRetention = 1
	if err := applyRetention(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if keys := w.keys(chunkPrefix); len(keys) != 10 || keys[0] <= chunkKey(sqllog.ID(second.ID)) {
		t.Fatalf("chunks left: %v, want the 10 above row %d", keys, second.ID)
	}
	if keys := w.keys(snapshotPrefix); len(keys) != 2 {
		t.Fatalf("snapshots left: %v, want one and its rows", keys)
	}
	if keys := w.keys(object.ProbePrefix); len(keys) != 0 {
		t.Fatalf("left by a probe: %v", keys)
	}
	want := rowsOf(t, n.log)
	n.kill()
	other := w.open(w.config(w.disk()))
	sameRows(t, rowsOf(t, other.log)[:len(want)], want)
	stale := w.open(w.config(n.path))
	sameRows(t, rowsOf(t, stale.log)[:len(want)], want)
}

func TestRetentionLeavesYoungChunks(t *testing.T) {
	w := newWorld(t)
	now := time.Now()
	w.store.Now = func() time.Time { return now }
	n := w.open(w.config(w.disk()))
	n.write(10)
	n.snapshot()
	before := len(w.keys(chunkPrefix))
	now = now.Add(MinChunkAge - time.Minute)
	if err := applyRetention(t.Context(), n.cfg.withDefaults()); err != nil {
		t.Fatal(err)
	}
	if after := len(w.keys(chunkPrefix)); after != before {
		t.Fatalf("%d chunks of %d are left, all are younger than %s", after, before, MinChunkAge)
	}
}

func TestWriterThatSleptBehindTheFloorIsFenced(t *testing.T) {
	w := newWorld(t)
	now := time.Now()
	w.store.Now = func() time.Time { return now }
	asleep := w.open(w.config(w.disk()))
	asleep.write(3)
	clock := time.Duration(0)
	chain := asleep.archive.chain.Load()
	chain.mu.Lock()
	chain.clock = func() (time.Duration, bool) { return clock, true }
	chain.seen, chain.known = 0, true
	chain.mu.Unlock()

	other := w.open(w.config(w.disk()))
	other.write(5)
	other.snapshot()
	now = now.Add(2 * MinChunkAge)
	cfg := other.cfg.withDefaults()
	cfg.SnapshotRetention = 1
	if err := applyRetention(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if keys := w.keys(chunkPrefix); len(keys) != 0 {
		t.Fatalf("chunks left: %v", keys)
	}
	clock = 2 * MinChunkAge
	if err := asleep.archive.Confirm(t.Context()); !errors.Is(err, ErrFenced) {
		t.Fatalf("a read after the sleep: %v, want ErrFenced", err)
	}
	if err := asleep.tryWrite(); !errors.Is(err, ErrFenced) {
		t.Fatalf("a write after the sleep: %v, want ErrFenced", err)
	}
}

func TestWriteAfterSleepReadsTheFloor(t *testing.T) {
	w := newWorld(t)
	n := w.open(w.config(w.disk()))
	chain := n.archive.chain.Load()
	clock := time.Duration(0)
	chain.mu.Lock()
	chain.clock = func() (time.Duration, bool) { return clock, true }
	chain.seen, chain.known = 0, true
	chain.mu.Unlock()
	if _, err := raiseFloor(t.Context(), w.store, 100); err != nil {
		t.Fatal(err)
	}
	n.write(1) // the end was seen just now: the position cannot have been closed and opened again since
	clock = trustSight + time.Second
	if err := n.tryWrite(); !errors.Is(err, ErrFenced) {
		t.Fatalf("%v, want ErrFenced", err)
	}
}

func TestSnapshotIsNamedOnlyWhenItReadsBack(t *testing.T) {
	w := newWorld(t)
	n := w.open(w.config(w.disk()))
	n.write(10)
	damaged := errors.New("damaged on its way back")
	w.store.Before = func(op object.Op, key string) error {
		if op == object.OpGet && strings.HasSuffix(key, rowsSuffix) {
			return damaged
		}
		return nil
	}
	_, err := takeSnapshot(t.Context(), nil, w.store, n.archive.writer, n.log, n.archive.chain.Load().End)
	if !errors.Is(err, damaged) {
		t.Fatalf("%v, want what the read met", err)
	}
	if keys := w.keys(snapshotPrefix); len(keys) != 0 {
		t.Fatalf("left: %v", keys)
	}
}

func TestRestoreToRevisionAndTime(t *testing.T) {
	w := newWorld(t)
	n := w.open(w.config(w.disk()))
	n.write(10)
	n.snapshot()
	n.write(10)
	all := rowsOf(t, n.log)
	for _, target := range []Target{{Revision: 5}, {Revision: 11}, {Revision: 15}, {Time: time.UnixMilli(all[7].WrittenAt)}} {
		path := w.disk()
		out, err := Restore(context.Background(), RestoreConfig{Store: w.store, Path: path, Target: target, NewCluster: true, Logger: w.quiet})
		if err != nil {
			t.Fatalf("%+v: %v", target, err)
		}
		want := 0
		for want < len(all) && !target.ends(&all[want]) {
			want++
		}
		log, err := sqllog.Open(t.Context(), sqllog.Config{Path: path, Logger: w.quiet})
		if err != nil {
			t.Fatal(err)
		}
		sameRows(t, rowsOf(t, log), all[:want])
		if log.Head() != headOf(&all[want-1]) || out.Head != log.Head() || log.Identity().Cluster == n.log.Identity().Cluster {
			t.Fatalf("%+v: head %+v, identity %+v", target, log.Head(), log.Identity())
		}
		_ = log.Close()
	}
	_, err := Restore(context.Background(), RestoreConfig{Store: w.store, Path: w.disk(), Target: Target{Revision: 99}, Logger: w.quiet})
	if !errors.Is(err, ErrNoHistory) {
		t.Fatalf("%v, want ErrNoHistory", err)
	}
}

func TestWhenSnapshotsAreDue(t *testing.T) {
	w := newWorld(t)
	n := w.open(w.config(w.disk()))
	n.write(20)
	chain := n.archive.chain.Load()
	hour := time.Now().Add(-time.Hour)
	for _, c := range []struct {
		name string
		cfg  Config
		k    snapshotKeeper
		want bool
	}{
		{"rows", Config{SnapshotRows: 15}, snapshotKeeper{last: Manifest{ID: 5}}, true},
		{"too few rows", Config{SnapshotRows: 15}, snapshotKeeper{last: Manifest{ID: 10}}, false},
		{"age", Config{SnapshotInterval: time.Minute}, snapshotKeeper{last: Manifest{ID: 20}, since: hour}, true},
		{"young", Config{SnapshotInterval: 2 * time.Hour}, snapshotKeeper{last: Manifest{ID: 20}, since: hour}, false},
		{"no rows", Config{SnapshotInterval: time.Minute}, snapshotKeeper{last: Manifest{ID: 21}, since: hour}, false},
		{"chunks", Config{SnapshotRows: 1 << 40}, snapshotKeeper{chunks: -snapshotChunks}, true},
		{"never", Config{}, snapshotKeeper{chunks: -snapshotChunks}, false},
	} {
		if got := c.cfg.snapshotDue(&c.k, chain); got != c.want {
			t.Errorf("%s: due is %v", c.name, got)
		}
	}
}
