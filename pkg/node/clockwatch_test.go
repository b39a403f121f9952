package node

import (
	"context"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"

	"github.com/kinsy/kinsy/internal/wallclock"
	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer"
	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// logHook keeps what is logged, and prints nothing.
func logHook() (*logrus.Logger, *test.Hook) {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log, test.NewLocal(log)
}

// saysBy returns by how much the newest line says that a clock is off; 0 if none with that message is new.
func saysBy(t *testing.T, hook *test.Hook, message string) time.Duration {
	t.Helper()
	defer hook.Reset()
	for _, e := range hook.AllEntries() {
		if e.Message == message {
			return e.Data["by"].(time.Duration)
		}
	}
	return 0
}

// TestClockThatJumpsIsNamed: with how much; one that is slow to be looked at, or is moved a little, is not.
func TestClockThatJumpsIsNamed(t *testing.T) {
	log, hook := logHook()
	start := time.Now()
	var passed, off time.Duration
	c := newClockWatch(log)
	c.elapsed = func() time.Duration { return time.Hour + passed }
	c.wall = func() time.Time { return start.Add(passed + off) }
	for _, step := range []struct{ passed, off, want time.Duration }{
		{0, 0, 0},
		{10 * time.Second, 0, 0},
		{5 * time.Minute, 0, 0}, // suspended
		{10 * time.Second, 500 * time.Millisecond, 0},
		{10 * time.Second, time.Hour, time.Hour - 500*time.Millisecond},
		{10 * time.Second, time.Hour, 0},
		{10 * time.Second, -time.Hour, -2 * time.Hour},
	} {
		passed, off = passed+step.passed, step.off
		c.look()
		if got := saysBy(t, hook, "wall clock has jumped"); got != step.want {
			t.Errorf("off by %s: %s is logged, want %s", step.off, got, step.want)
		}
	}
}

// newTestDirectory is the directory of a node called a, with a disk of its own and object storage that has its cluster.
func newTestDirectory(t *testing.T, store object.Store, log *logrus.Logger) *directory {
	t.Helper()
	disk, archive, err := s3snap.OpenReplica(t.Context(), s3snap.Config{
		Store: store, Path: filepath.Join(t.TempDir(), "kinsy.db"), Cluster: 7, Rule: elect.Majority, Logger: log, OnFatal: func(err error) { t.Error(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		archive.Interrupt()
		archive.Close(t.Context())
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	d := newDirectory(archive.Control(), elect.NodeID(disk.Identity().Node), t.TempDir(), func([]peer.Peer) {}, log)
	d.called = "a"
	d.holds = func() (sqllog.Epoch, sqllog.ID) { return 1, 1 }
	d.register = func(ctx context.Context) error {
		promised, last := d.holds()
		return d.control.Register(ctx, s3snap.Registration{Name: "a", PeerAddress: "a:1", Promised: promised, Last: last}, nil)
	}
	return d
}

// TestClockIsComparedWithObjectStorage: when a node registers.
func TestClockIsComparedWithObjectStorage(t *testing.T) {
	for _, by := range []time.Duration{0, time.Hour, -time.Hour} {
		log, hook := logHook()
		d := newTestDirectory(t, object.NewMemory(), log)
		var clock wallclock.Clock
		clock.Set(by)
		d.clock.wall = clock.Now
		if err := d.enrol(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := saysBy(t, hook, "wall clock is off, compared with that of object storage"); (got - by).Abs() > 2*time.Second {
			t.Errorf("off by %s: %s is logged", by, got)
		}
	}
}
