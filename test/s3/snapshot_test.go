package s3

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

const (
	heldRows    = 200_000 // in the log while snapshots are taken
	heldWriters = 4
	heldPace    = 20 * time.Millisecond // of each writer
	heldEvery   = "1000"                // rows between two snapshots: about 5 s
	heldWindows = 4                     // snapshots that are measured
	heldLeast   = 50                    // writes, during them and outside; far fewer come while one holds them up
	// heldMore is how much longer 95 of 100 writes may take during snapshots than the slowest one outside of them.
	heldMore = 10 * time.Millisecond
	// heldShare of the longest snapshot is how much longer any of them may take. A write that a snapshot held up would take
	// most of it; on a small machine other processes may have the processors for some of that.
	heldShare = 4
)

// sample is one write.
type sample struct {
	start time.Time
	took  time.Duration
}

// window is the time of one snapshot.
type window struct{ from, to time.Time }

// TestSnapshotHoldsUpNoWrite lets a few clients write at a steady pace while snapshots of a large log are taken. A snapshot
// reads the log beside the writes and must not keep them waiting.
func TestSnapshotHoldsUpNoWrite(t *testing.T) {
	if testing.Short() {
		t.Skip("it writes many rows first")
	}
	for _, quorum := range []int{quorumLocal, quorumStore} {
		t.Run(fmt.Sprintf("quorum %d", quorum), func(t *testing.T) { holdUp(t, quorum) })
	}
}

func holdUp(t *testing.T, quorum int) {
	url := "file://" + filepath.Join(t.TempDir(), "store")
	n := newNode(t, "--object-store", url, "--quorum", fmt.Sprint(quorum), "--snapshot-rows", heldEvery, "--upload-interval", "100ms")
	ok(t, n.start())
	ok(t, fillRows(t.Context(), n.clients(t, 4), "/held/", heldRows))
	store, err := object.Open(t.Context(), object.Config{URL: url})
	ok(t, err)
	defer object.Close(store)
	begin := time.Now()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	samples := make([][]sample, heldWriters)
	errs := make([]error, heldWriters)
	var done sync.WaitGroup
	for i, c := range n.clients(t, heldWriters) {
		done.Go(func() { samples[i], errs[i] = steadyWrites(ctx, c, fmt.Sprintf("/steady/%d/", i)) })
	}
	windows, err := awaitWindows(t.Context(), store, begin)
	stop()
	done.Wait()
	ok(t, errors.Join(append(errs, err)...))
	requireNoPanic(t, n.proc)
	compareTimes(t, slices.Concat(samples...), windows)
}

// steadyWrites creates keys at a steady pace until ctx ends. A write that is late does not delay those after it.
func steadyWrites(ctx context.Context, c *clientv3.Client, prefix string) (samples []sample, err error) {
	value := strings.Repeat("v", fillValue)
	tick := time.NewTicker(heldPace)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return samples, nil
		}
		start := time.Now()
		if err := create(context.WithoutCancel(ctx), c, fmt.Sprintf("%s%06d", prefix, i), value); err != nil {
			return nil, err
		}
		samples = append(samples, sample{start, time.Since(start)})
	}
}

// awaitWindows returns when enough snapshots that began after a moment are complete, and tells when they were taken.
func awaitWindows(ctx context.Context, s object.Store, begin time.Time) (windows []window, err error) {
	err = until(2*time.Minute, 500*time.Millisecond, func() error {
		windows, err = windowsAfter(ctx, s, begin)
		if err == nil && len(windows) < heldWindows {
			err = fmt.Errorf("%d snapshots, want %d", len(windows), heldWindows)
		}
		return err
	})
	return windows, err
}

// windowsAfter lists the snapshots that began after a moment: from when the manifest says to when it was written.
func windowsAfter(ctx context.Context, s object.Store, begin time.Time) (windows []window, err error) {
	all, err := s3snap.Snapshots(ctx, s)
	if err != nil {
		return nil, err
	}
	infos, err := list(ctx, s, snapshotFolder)
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		key := fmt.Sprintf(snapshotFolder+"%020d.json", m.ID)
		for _, info := range infos {
			if info.Key == key && m.Created().After(begin) {
				windows = append(windows, window{m.Created(), info.Modified})
			}
		}
	}
	return windows, nil
}

// compareTimes requires that writes during snapshots take no longer than others.
func compareTimes(t *testing.T, samples []sample, windows []window) {
	t.Helper()
	var during, outside []time.Duration
	for _, s := range samples {
		meets := func(w window) bool { return s.start.Before(w.to) && s.start.Add(s.took).After(w.from) }
		if slices.ContainsFunc(windows, meets) {
			during = append(during, s.took)
		} else {
			outside = append(outside, s.took)
		}
	}
	var longest time.Duration
	for _, w := range windows {
		longest = max(longest, w.to.Sub(w.from))
	}
	slices.Sort(during)
	slices.Sort(outside)
	if len(during) < heldLeast || len(outside) < heldLeast {
		t.Fatalf("%d writes during snapshots, which took %v, and %d outside: want %d", len(during), during, len(outside), heldLeast)
	}
	usual, slowest := during[len(during)*95/100], outside[len(outside)-1]
	t.Logf("%d snapshots of up to %s; %d writes during them: median %s, 95%% in %s, slowest %s; %d outside: median %s, slowest %s",
		len(windows), longest.Round(time.Millisecond), len(during), during[len(during)/2], usual, during[len(during)-1],
		len(outside), outside[len(outside)/2], slowest)
	if usual > slowest+heldMore && !slow() {
		t.Errorf("1 of 20 writes during a snapshot takes %s and more, the slowest one outside %s", usual, slowest)
	}
	if last := during[len(during)-1]; last > slowest+longest/heldShare && !slow() {
		t.Errorf("a write during a snapshot takes %s, the slowest one outside %s", last, slowest)
	}
}
