package node

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// registered is the only registration in object storage.
func registered(t *testing.T, d *directory) s3snap.Registration {
	t.Helper()
	all, err := d.control.Registrations(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	return all[0]
}

// TestRegistrationTellsWhatTheDiskHolds: that an epoch was promised soon, that there are more rows from time to time.
func TestRegistrationTellsWhatTheDiskHolds(t *testing.T) {
	log, _ := logHook()
	d := newTestDirectory(t, object.NewMemory(), log)
	now, promised, last := time.Hour, sqllog.Epoch(1), sqllog.ID(1)
	d.clock.elapsed = func() time.Duration { return now }
	d.holds = func() (sqllog.Epoch, sqllog.ID) { return promised, last }
	if err := d.enrol(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		passes   time.Duration
		promised sqllog.Epoch
		last     sqllog.ID
		want     [2]int64
	}{
		{0, 1, 1, [2]int64{1, 1}},
		{recordEvery / 2, 1, 5, [2]int64{1, 1}},
		{0, 2, 6, [2]int64{2, 6}},
		{recordEvery / 2, 2, 7, [2]int64{2, 6}},
		{recordEvery / 2, 2, 8, [2]int64{2, 8}},
	} {
		now, promised, last = now+step.passes, step.promised, step.last
		if err := d.refreshAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r := registered(t, d); [2]int64{int64(r.Promised), int64(r.Last)} != step.want {
			t.Errorf("with epoch %d promised and row %d: %d and %d are registered, want %v", promised, last, r.Promised, r.Last, step.want)
		}
	}
}

// TestRegistersAgain: a node whose registration was removed, because it was gone for long.
func TestRegistersAgain(t *testing.T) {
	log, _ := logHook()
	d := newTestDirectory(t, object.NewMemory(), log)
	if err := d.enrol(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.control.Deregister(t.Context(), registered(t, d)); err != nil {
		t.Fatal(err)
	}
	if err := d.refreshAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := registered(t, d); r.ID != d.self {
		t.Errorf("registered is %v", r)
	}
}

// TestCloneTakesTheRegistration: a process that could not be reached, and so was taken for gone, ends when it sees that
// another one has its disk. One that has not registered yet does not take its own old registration for a clone's.
func TestCloneTakesTheRegistration(t *testing.T) {
	log, _ := logHook()
	store := object.NewMemory()
	d := newTestDirectory(t, store, log)
	before := s3snap.NewControl(store, d.self, 99, log)
	it := s3snap.Registration{Name: "a", PeerAddress: "elsewhere:1"}
	takes := func() {
		t.Helper()
		if err := before.Register(t.Context(), it, func(s3snap.Registration) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	takes()
	if err := d.refreshAll(t.Context()); err != nil {
		t.Fatalf("before it registered: %v", err)
	}
	d.register = func(ctx context.Context) error {
		return d.control.Register(ctx, s3snap.Registration{Name: "a", PeerAddress: "a:1"}, func(s3snap.Registration) error { return nil })
	}
	if err := d.enrol(t.Context()); err != nil {
		t.Fatal(err)
	}
	takes()
	failed := make(chan error, 1)
	d.fail = func(err error) { failed <- err }
	d.wanted <- struct{}{}
	d.run(t.Context())
	if err := <-failed; !errors.Is(err, ErrCloned) || !strings.Contains(err.Error(), "elsewhere:1") {
		t.Errorf("the node ended for %v", err)
	}
}

// copyDisk copies the log of a node that does not run into the data folder of another configuration.
func copyDisk(t *testing.T, from, to Config) {
	t.Helper()
	if err := os.MkdirAll(to.DataFolder(), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		body, err := os.ReadFile(from.LogPath() + suffix)
		if errors.Is(err, os.ErrNotExist) {
			_ = os.Remove(to.LogPath() + suffix)
			continue
		}
		if err == nil {
			err = os.WriteFile(to.LogPath()+suffix, body, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// runOnce starts a node until it is ready, does something, and closes it.
func runOnce(t *testing.T, c Config, do func(*Node)) {
	t.Helper()
	n, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	awaitReady(t, n)
	if do != nil {
		do(n)
	}
	if err := n.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// TestCopiesOfADiskStartedAtOnce: with one name, exactly one of two runs, and the other one says why it does not.
func TestCopiesOfADiskStartedAtOnce(t *testing.T) {
	store := t.TempDir()
	one, two := memberConfig(t, store, "n1"), memberConfig(t, store, "n1")
	runOnce(t, one, nil)
	copyDisk(t, one, two)
	var nodes [2]*Node
	var errs [2]error
	var both sync.WaitGroup
	for i, c := range []Config{one, two} {
		both.Go(func() { nodes[i], errs[i] = Start(t.Context(), c) })
	}
	both.Wait()
	for _, n := range nodes {
		if n != nil {
			defer func() {
				if err := n.Close(context.Background()); err != nil {
					t.Error(err)
				}
			}()
			awaitReady(t, n)
		}
	}
	if (nodes[0] == nil) == (nodes[1] == nil) {
		t.Fatalf("both or none run: %v, %v", errs[0], errs[1])
	}
	if err := errors.Join(errs[0], errs[1]); !errors.Is(err, ErrCloned) {
		t.Errorf("the other one: %v", err)
	}
}

// TestCopyOfADiskStartedLater: while the node runs from which the copy is, with its name and with another one.
func TestCopyOfADiskStartedLater(t *testing.T) {
	store := t.TempDir()
	first, copied, renamed := memberConfig(t, store, "n1"), memberConfig(t, store, "n1"), memberConfig(t, store, "n2")
	runOnce(t, first, nil)
	copyDisk(t, first, copied)
	copyDisk(t, first, renamed)
	n := startStored(t, first)
	awaitReady(t, n)
	refusedStart(t, copied, ErrCloned, "n1 at "+n.engine.(*clusterParts).transport.Address()+" has the same disk")
	refusedStart(t, renamed, ErrCloned, "n1 at "+n.engine.(*clusterParts).transport.Address()+" has the same disk")
	awaitReady(t, n)
}

// TestRenamedNode: its old name goes.
func TestRenamedNode(t *testing.T) {
	store := t.TempDir()
	was, is := memberConfig(t, store, "n1"), memberConfig(t, store, "n2")
	runOnce(t, was, nil)
	is.DataDir = was.DataDir
	runOnce(t, is, func(n *Node) {
		if r := registered(t, n.engine.(*clusterParts).directory); r.Name != "n2" {
			t.Errorf("registered is %v", r)
		}
	})
}

// TestTwins: of two processes with copies of one disk and names of their own, which found each other too late, one ends.
func TestTwins(t *testing.T) {
	log, _ := logHook()
	store := object.NewMemory()
	d := newTestDirectory(t, store, log)
	if err := d.enrol(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{"B": ErrCloned, "b": nil} {
		twin := s3snap.NewControl(store, d.self, 99, log)
		if err := twin.Register(t.Context(), s3snap.Registration{Name: name, PeerAddress: "b:1"}, nil); err != nil {
			t.Fatal(err)
		}
		if err := d.refreshAll(t.Context()); !errors.Is(err, want) {
			t.Errorf("%s is there: %v, want %v", name, err, want)
		}
		if err := twin.Deregister(t.Context(), s3snap.Registration{Name: name, ID: d.self, Incarnation: 99}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDiskCopiedSinceItsStart: a copy that was made while the node ran for the last time, before it promised the epoch in
// which the cluster is now.
func TestDiskCopiedSinceItsStart(t *testing.T) {
	store := t.TempDir()
	c, spare := memberConfig(t, store, "n1"), memberConfig(t, store, "n1")
	runOnce(t, c, nil)
	copyDisk(t, c, spare)
	runOnce(t, c, func(n *Node) {
		member := n.engine.(*clusterParts)
		member.directory.wanted <- struct{}{}
		deadline := time.Now().Add(20 * time.Second)
		for {
			r, known := member.directory.find(member.self)
			if known && r.Promised >= member.log.Promised() {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%v is registered, epoch %d is promised", r, member.log.Promised())
			}
		}
	})
	copyDisk(t, spare, c)
	refusedStart(t, c, ErrOldDisk, "delete it, so that the node joins with an empty disk")
}
