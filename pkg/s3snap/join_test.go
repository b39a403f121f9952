package s3snap

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// TestIntactLogOpensWithoutObjectStorage, and finds its cluster later.
func TestIntactLogOpensWithoutObjectStorage(t *testing.T) {
	w := newWorld(t)
	a := w.member(w.disk())
	a.lead()
	a.commit(5)
	want := rowsOf(t, a.log)
	a.kill()
	down := w.outage()
	down.Store(true)
	a = w.member(a.path)
	sameRows(t, rowsOf(t, a.log), want)
	wantErr(t, a.archive.Join(t.Context()), object.ErrUnavailable, "joins")
	down.Store(false)
	if err := a.archive.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.lead()
	a.commit(1)
}

// TestReplicaDoesNotCut: opening takes nothing from a log that disagrees; CatchUp
// does.
func TestReplicaDoesNotCut(t *testing.T) {
	w := newWorld(t)
	a, b := w.member(w.disk()), w.member(w.disk())
	a.lead()
	a.commit(3)
	lost := a.append(4)
	a.kill()
	b.lead()
	b.commit(2)
	a = w.member(a.path)
	if head := a.log.Head(); head.ID != lost[3].ID {
		t.Fatalf("%+v", head)
	}
	if _, err := a.log.Promise(2); err != nil {
		t.Fatal(err)
	}
	a.catchUp()
	sameLogs(t, a, b)
	if a.log.Promised() != 2 {
		t.Fatalf("promises %d", a.log.Promised())
	}
	aside, err := filepath.Glob(a.path + ".aside-5-8-*.chunk")
	if err != nil || len(aside) != 1 {
		t.Fatalf("%v, %v", aside, err)
	}
	a.catchUp() // nothing is left to do
	// Rows that the chain does not have yet are no disagreement.
	tail := b.append(2)
	if err := a.log.AppendIn(2, tail); err != nil {
		t.Fatal(err)
	}
	a.catchUp()
	sameLogs(t, a, b)
}

// forget makes the chain begin after its end.
func (n *member) forget() {
	n.t.Helper()
	if _, err := takeSnapshot(n.t.Context(), nil, n.store, n.archive.writer, n.log, n.archive.chain.Load().End); err != nil {
		n.t.Fatal(err)
	}
	cfg := n.archive.cfg
	cfg.minAge, cfg.SnapshotRetention, cfg.RetentionTime = -1, 1, -1
	if err := applyRetention(n.t.Context(), cfg); err != nil {
		n.t.Fatal(err)
	}
	if left := n.chunksOf(); left != 0 {
		n.t.Fatalf("%d chunks are left", left)
	}
}

// TestLogThatIsTooOldIsReplaced: by the next opening, as another voter; what it was
// is set aside.
func TestLogThatIsTooOldIsReplaced(t *testing.T) {
	w := newWorld(t)
	a, b := w.member(w.disk()), w.member(w.disk())
	a.lead()
	a.commit(3)
	b.catchUp()
	a.commit(9)
	a.forget()
	a.commit(2)
	old := b.log.Identity()
	for range 2 {
		wantErr(t, b.archive.CatchUp(t.Context()), ErrReplaced, "catches up")
	}
	if head := b.log.Head(); head.ID != 4 {
		t.Fatalf("the log in use has changed: %+v", head)
	}
	b.kill()
	b = w.member(b.path)
	sameRows(t, rowsOf(t, b.log), rowsOf(t, a.log))
	if b.log.Identity().Node == old.Node {
		t.Fatal("the voter is the old one, whose promises are forgotten")
	}
	if aside, err := filepath.Glob(b.path + ".aside-*"); err != nil || len(aside) == 0 {
		t.Fatalf("%v, %v", aside, err)
	}
	if _, err := os.Stat(b.path + replaceSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("it would be replaced again: %v", err)
	}
	if c := w.mustRead(); !c.IsMember(elect.NodeID(a.log.Identity().Node)) || len(c.Members) != 1 || c.Epoch != 1 {
		t.Fatalf("%+v", c)
	}
}

// TestOnlyVoterThatIsReplaced: nobody else could elect anybody, so the new disk votes
// in its place, also if the start is cut off in between.
func TestOnlyVoterThatIsReplaced(t *testing.T) {
	for _, cut := range []bool{false, true} {
		w := newWorld(t)
		a, b := w.member(w.disk()), w.member(w.disk())
		b.lead() // it is no voter, which only its own caller knows
		b.commit(9)
		b.forget()
		wantErr(t, a.archive.CatchUp(t.Context()), ErrReplaced, "catches up")
		a.kill()
		if cut {
			stopped := errors.New("stopped")
			w.store.Before = func(op object.Op, key string) error {
				if op == object.OpPut && key == clusterKey {
					return stopped
				}
				return nil
			}
			if _, err := w.tryMember(a.cfg); !errors.Is(err, stopped) {
				t.Fatal(err)
			}
			w.store.Before = nil
		}
		again := w.member(a.path)
		c := w.mustRead()
		if len(c.Members) != 1 || !c.IsMember(elect.NodeID(again.log.Identity().Node)) || c.Epoch != 2 {
			t.Fatalf("%+v, the disk is %x", c, again.log.Identity().Node)
		}
		if aside, err := filepath.Glob(a.path + ".aside-*Z"); err != nil || len(aside) != 1 {
			t.Fatalf("replaced as %v, %v", aside, err)
		}
		again.lead()
		again.commit(1)
	}
}

// TestClusterOnASingleNodesPrefix: the first node of a cluster takes it over, in a new
// epoch, and a single node stays away once there are several.
func TestClusterOnASingleNodesPrefix(t *testing.T) {
	w := newWorld(t)
	first, err := sqllog.Open(t.Context(), sqllog.Config{Path: w.disk(), Cluster: testCluster, Logger: w.quiet})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Append(testRows(start, 1, 3)); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	single := w.open(w.local(first.Path()))
	single.uploaded()
	single.kill()
	a := w.member(single.path)
	a.lead()
	if head := a.log.Head(); head.Epoch != 2 || head.ID != 4 {
		t.Fatalf("%+v", head)
	}
	a.commit(2)
	a.kill()
	single = w.open(w.config(a.path)) // a cluster of one may be a single node again
	single.write(2)
	single.kill()
	a = w.member(a.path)
	a.lead()
	if _, err := a.control.ChangeMembers(t.Context(), a.epoch, add(99)); err != nil {
		t.Fatal(err)
	}
	a.kill()
	for _, cfg := range []Config{w.config(a.path), w.local(a.path), w.config(w.disk()), w.local(w.disk())} {
		if _, err := w.tryOpen(cfg); !errors.Is(err, ErrCluster) {
			t.Fatalf("a single node on a cluster's prefix: %v", err)
		}
	}
}

// TestWrongPrefix: neither another cluster's, nor an empty one where the cluster had
// another.
func TestWrongPrefix(t *testing.T) {
	w := newWorld(t)
	a := w.member(w.disk())
	a.lead()
	a.commit(2)
	a.archive.Resign()
	a.lead()
	a.kill()
	for _, path := range []string{a.path, w.disk()} {
		cfg := w.nodeConfig(path)
		cfg.Cluster++
		if n, err := w.tryMember(cfg); err == nil || !errors.Is(err, ErrOtherCluster) && !errors.Is(err, sqllog.ErrOtherCluster) {
			t.Fatalf("%v, %v", n, err)
		}
	}
	empty := newWorld(t)
	_, err := empty.tryMember(empty.nodeConfig(a.path))
	wantErr(t, err, ErrNoHistory, "an empty prefix")
	if _, err := readCluster(t.Context(), empty.store); !errors.Is(err, object.ErrNotFound) {
		t.Fatalf("a cluster was begun: %v", err)
	}
	if _, _, err := OpenReplica(t.Context(), w.config(a.path)); err == nil {
		t.Fatal("opens without a cluster id")
	}
}

// TestClusterFromBootstrap: also where the first start is cut off, and for the second
// node.
func TestClusterFromBootstrap(t *testing.T) {
	source := newWorld(t)
	n := source.member(source.disk())
	n.lead()
	n.archive.Resign()
	n.lead()
	n.commit(5)
	want := rowsOf(t, n.log)
	var file bytes.Buffer
	if _, err := WriteSnapshot(t.Context(), &file, n.archive.writer, n.log); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	if _, err := w.store.Upload(t.Context(), bootstrapKey, bytes.NewReader(file.Bytes())); err != nil {
		t.Fatal(err)
	}
	stopped := errors.New("stopped")
	w.store.Before = func(op object.Op, key string) error {
		if op == object.OpPut && key == clusterKey {
			return stopped
		}
		return nil
	}
	path := w.disk()
	_, err := w.tryMember(w.nodeConfig(path))
	wantErr(t, err, stopped, "the first start")
	w.store.Before = nil
	a := w.member(path)
	a.lead()
	b := w.member(w.disk())
	sameLogs(t, b, a)
	sameRows(t, rowsOf(t, b.log)[:len(want)], want)
	if head := a.log.Head(); head.Epoch != 3 {
		t.Fatalf("%+v", head)
	}
}

// TestTwoNodesBeginAtOnce: one of them votes, and the other one finds that.
func TestTwoNodesBeginAtOnce(t *testing.T) {
	w := newWorld(t)
	var a *member
	w.between(clusterKey, func() { a = w.member(w.disk()) })
	b := w.member(w.disk())
	c := w.mustRead()
	if len(c.Members) != 1 || !c.IsMember(elect.NodeID(a.log.Identity().Node)) {
		t.Fatalf("%+v; nodes %x and %x", c, a.log.Identity().Node, b.log.Identity().Node)
	}
	a.lead()
	a.commit(2)
	b.catchUp()
	sameLogs(t, b, a)
}

// TestHalfAMark: a file that was not written to its end replaces no log.
func TestHalfAMark(t *testing.T) {
	w := newWorld(t)
	a := w.member(w.disk())
	a.lead()
	a.kill()
	if err := os.WriteFile(a.path+replaceSuffix, []byte(`{"node":"00`), 0o600); err != nil {
		t.Fatal(err)
	}
	if again := w.member(a.path); again.log.Identity() != a.log.Identity() {
		t.Fatal("the log is another one")
	}
	if found, _ := filepath.Glob(a.path + ".*"); strings.Contains(strings.Join(found, " "), replaceSuffix) {
		t.Fatalf("%v", found)
	}
}
