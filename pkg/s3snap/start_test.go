package s3snap

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
