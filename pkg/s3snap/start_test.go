package s3snap

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

func TestEmptyDiskGetsEveryCommittedRow(t *testing.T) {
	w := newWorld(t)
	first := w.open(w.config(w.disk()))
	first.write(50)
	want := rowsOf(t, first.log)
	first.kill()

	second := w.open(w.config(w.disk()))
	got := rowsOf(t, second.log)
	sameRows(t, got[:len(want)], want)
	if last := got[len(got)-1]; len(got) != len(want)+1 || last.Kind != sqllog.KindEpoch || last.Epoch != 2 {
		t.Fatalf("after the rows of the chain comes %+v, want the row of epoch 2", last)
	}
	if a, b := first.log.Identity(), second.log.Identity(); a.Cluster != b.Cluster || a.Node == b.Node {
		t.Fatalf("identities %+v and %+v, want one cluster and two nodes", a, b)
	}
	second.write(5)
}

func TestIntactDiskUploadsWhatIsMissing(t *testing.T) {
	w := newWorld(t)
	first := w.open(w.config(w.disk()))
	first.write(5)
	row := first.put("late", "appended, and killed before its chunk")
	if err := first.log.Append([]sqllog.Row{row}); err != nil {
		t.Fatal(err)
	}
	first.kill()
	again := w.open(w.config(first.path))
	want := rowsOf(t, again.log)
	again.kill()
	other := w.open(w.config(w.disk()))
	sameRows(t, rowsOf(t, other.log)[:len(want)], want)
}

func TestStaleDiskCatchesUp(t *testing.T) {
	w := newWorld(t)
	first := w.open(w.config(w.disk()))
	first.write(5)
	first.kill()
	second := w.open(w.config(w.disk()))
	second.write(7)
	want := rowsOf(t, second.log)
	second.kill()
	first = w.open(w.config(first.path))
	sameRows(t, rowsOf(t, first.log)[:len(want)], want)
}

func TestOlderPrimaryIsFenced(t *testing.T) {
	w := newWorld(t)
	first := w.open(w.config(w.disk()))
	first.write(3)
	second := w.open(w.config(w.disk()))
	if err := first.tryWrite(); !errors.Is(err, ErrFenced) {
		t.Fatalf("the older node's write: %v, want ErrFenced", err)
	}
	if err := <-first.fatal; !errors.Is(err, ErrFenced) {
		t.Fatalf("the older node stops with %v", err)
	}
	if err := first.archive.Err(); !errors.Is(err, ErrFenced) {
		t.Fatalf("the older node's health is %v", err)
	}
	second.write(3)
}

func TestRowsThatDisagreeAreSetAside(t *testing.T) {
	w := newWorld(t)
	first := w.open(w.config(w.disk()))
	first.write(5)
	first.kill()
	second := w.open(w.config(w.disk()))
	second.write(5)
	want := rowsOf(t, second.log)
	second.kill()

	lone, err := sqllog.Open(t.Context(), sqllog.Config{Path: first.path, Logger: w.quiet})
	if err != nil {
		t.Fatal(err)
	}
	n := &testNode{world: w, log: lone}
	for range 9 {
		if err := lone.Append([]sqllog.Row{n.put("lost", "written while cut off")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := lone.Close(); err != nil {
		t.Fatal(err)
	}
	again := w.open(w.config(first.path))
	sameRows(t, rowsOf(t, again.log)[:len(want)], want)
	aside, err := filepath.Glob(first.path + ".aside-*.chunk")
	if err != nil || len(aside) != 1 {
		t.Fatalf("files set aside: %v, %v", aside, err)
	}
	body, err := os.ReadFile(aside[0])
	if err != nil || !strings.Contains(aside[0], "-7-15-") || len(body) == 0 {
		t.Fatalf("set aside as %s with %d bytes: %v", aside[0], len(body), err)
	}
}

func TestLogOfAnotherClusterIsRefused(t *testing.T) {
	w := newWorld(t)
	w.open(w.config(w.disk())).kill()
	other := newWorld(t)
	stranger := other.open(other.config(other.disk()))
	stranger.write(1)
	stranger.kill()
	if _, err := w.tryOpen(w.config(stranger.path)); !errors.Is(err, ErrOtherCluster) {
		t.Fatalf("%v, want ErrOtherCluster", err)
	}
}

// TestSilentStoreIsToldAtOnce: nobody waits for the first request's timeout to be told what the start waits for.
func TestSilentStoreIsToldAtOnce(t *testing.T) {
	w := newWorld(t)
	told := make(chan error, 1)
	release := make(chan struct{})
	w.store.Before = func(object.Op, string) error {
		<-release
		return nil
	}
	cfg := w.config(w.disk())
	cfg.Waiting = func(err error) {
		if err != nil {
			close(release) // the request is answered only after it was told
		}
		told <- err
	}
	opened := make(chan error, 1)
	go func() {
		_, err := w.tryOpen(cfg)
		opened <- err
	}()
	for _, want := range []error{ErrUnavailable, nil} {
		select {
		case err := <-told:
			if !errors.Is(err, want) {
				t.Errorf("told %v, want %v", err, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("nothing is told")
		}
	}
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
}

// TestTakeoverThatStoppedIsFinished: a log that got another Primary's rows may not
// go on in that one's epoch, whatever the commit rule is.
func TestTakeoverThatStoppedIsFinished(t *testing.T) {
	w := newWorld(t)
	first := w.open(w.local(w.disk()))
	first.write(5)
	first.uploaded()
	first.kill()
	second := w.open(w.local(w.disk())) // epoch 2
	second.write(5)
	second.uploaded()

	stopped := errors.New("stopped")
	w.store.Before = func(op object.Op, key string) error {
		if op == object.OpPut && strings.HasPrefix(key, clusterKey) {
			return stopped // an epoch is asked for when the rows are taken over
		}
		return nil
	}
	if _, err := w.tryOpen(w.local(first.path)); !errors.Is(err, stopped) {
		t.Fatalf("%v, want what the request met", err)
	}
	w.store.Before = nil
	first = w.open(w.local(first.path))
	if head := first.log.Head(); head.Epoch != 3 {
		t.Fatalf("goes on in epoch %d, which is that of another node", head.Epoch)
	}
}
