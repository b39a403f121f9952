package s3

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/test/harness/client"
	"github.com/kinsy/kinsy/test/harness/process"
)

const (
	heldRows    = 200_000 // in the log while snapshots are taken
	heldShare   = 50      // a snapshot begins when so much of heldRows is written since the last one began: after about 20 s
	heldWriters = 4
	heldPace    = 20 * time.Millisecond  // of each writer
	heldAfter   = 500 * time.Millisecond // after a snapshot, for the retention that follows it
	heldLeast   = 50                     // writes on each side of a round; far fewer come while a snapshot holds them up
	// heldBar is what a snapshot may add to the time of a write.
	heldBar = 10 * time.Millisecond
	// heldRounds are compared at first. Where other processes blur the comparison as many more are taken, and again up to
	// heldMost; all of them count.
	heldRounds = 5
	heldMost   = 3 * heldRounds
)

// sample is one write.
type sample struct {
	start time.Time
	took  time.Duration
}

// window is the time of one snapshot.
type window struct{ from, to time.Time }

// round is what is compared: the writes during a snapshot, and those of a time just before it that is not longer and
// without a snapshot. Both are sorted.
type round struct{ during, before []time.Duration }

// TestSnapshotHoldsUpNoWrite lets a few clients write at a steady pace while snapshots of a large log are taken. A snapshot
// reads the log beside the writes, and is written to the same disk, and must not keep them waiting. Disks and machines have
// stalls of their own: the slowest writes during each snapshot are compared with the slowest ones of the seconds before it.
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
	rows := int(number(envHeldRows, heldRows)) / fillTxn * fillTxn
	n := newNode(t, "--object-store", url, "--quorum", fmt.Sprint(quorum), "--snapshot-rows", fmt.Sprint(rows/heldShare), "--upload-interval", "100ms")
	ok(t, n.Start())
	ok(t, fillRows(t.Context(), n.Clients(t, 4), "/held/", rows, noise()))
	store, err := object.Open(t.Context(), object.Config{URL: url})
	ok(t, err)
	defer object.Close(store)
	begin := time.Now()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var all samples
	errs := make([]error, heldWriters)
	var done sync.WaitGroup
	for i, c := range n.Clients(t, heldWriters) {
		done.Go(func() { errs[i] = steadyWrites(ctx, c, fmt.Sprintf("/steady/%d/", i), &all) })
	}
	var rounds []round
	for want := heldRounds; err == nil && want <= heldMost; want += heldRounds {
		rounds, err = awaitRounds(t.Context(), store, begin, want, &all)
		if usual, slowest := excess(rounds); usual < heldBar && slowest < heldBar {
			break
		}
	}
	stop()
	done.Wait()
	ok(t, errors.Join(append(errs, err)...))
	process.RequireNoPanic(t, n.Proc)
	compareTimes(t, rounds)
}

// noise returns values that do not compress, so that a snapshot is as large as it can be.
func noise() func(i int) string {
	const values = 4096 // more than are compressed together
	random := rand.NewChaCha8([32]byte{})
	bytes := make([]byte, values*fillValue)
	_, _ = random.Read(bytes) // never fails
	return func(i int) string {
		at := i % values * fillValue
		return string(bytes[at : at+fillValue])
	}
}

// samples are the writes of all clients.
type samples struct {
	mu  sync.Mutex
	all []sample
}

func (s *samples) add(one sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, one)
}

// meeting returns how long those writes took that were under way in a window, sorted.
func (s *samples) meeting(w window) (times []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.all {
		if one.start.Before(w.to) && one.start.Add(one.took).After(w.from) {
			times = append(times, one.took)
		}
	}
	slices.Sort(times)
	return times
}

// steadyWrites creates keys at a steady pace until ctx ends.
func steadyWrites(ctx context.Context, c *clientv3.Client, prefix string, to *samples) error {
	value := strings.Repeat("v", fillValue)
	tick := time.NewTicker(heldPace)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		start := time.Now()
		if err := create(context.WithoutCancel(ctx), c, fmt.Sprintf("%s%06d", prefix, i), value); err != nil {
			return err
		}
		to.add(sample{start, time.Since(start)})
	}
}

// awaitRounds returns when enough snapshots that began after a moment are complete.
func awaitRounds(ctx context.Context, s object.Store, begin time.Time, want int, all *samples) (rounds []round, err error) {
	err = client.Until(10*time.Minute, 500*time.Millisecond, func() error {
		windows, err := windowsAfter(ctx, s, begin)
		if err != nil {
			return err
		}
		if rounds = roundsOf(windows, all); len(rounds) < want {
			return fmt.Errorf("%d snapshots with a pause before them, of %d, want %d", len(rounds), len(windows), want)
		}
		return nil
	})
	return rounds, err
}

// windowsAfter lists the snapshots that began after a moment and are complete: from when the manifest says to when it was
// written, and a little more.
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
			to := info.Modified.Add(heldAfter)
			if info.Key == key && m.Created().After(begin) && time.Now().After(to) {
				windows = append(windows, window{m.Created(), to})
			}
		}
	}
	return windows, nil
}

// roundsOf pairs snapshots with as long a time before them, or what there is of it after the snapshot before. If that is
// less than half there is no round: among fewer writes the slowest is faster. Of the time before the first nothing is known.
func roundsOf(windows []window, all *samples) (rounds []round) {
	for i := 1; i < len(windows); i++ {
		w := windows[i]
		before := window{w.from.Add(-w.to.Sub(w.from)), w.from}
		if end := windows[i-1].to; before.from.Before(end) {
			before.from = end
		}
		r := round{during: all.meeting(w), before: all.meeting(before)}
		if len(r.before) >= max(heldLeast, len(r.during)/2) {
			rounds = append(rounds, r)
		}
	}
	return rounds
}

// excess says by how much the slowest 1 of 100 writes and the slowest write of all take longer during a snapshot than before
// it, in half of the rounds at least.
func excess(rounds []round) (usual, slowest time.Duration) {
	var of100, of1 []time.Duration
	for _, r := range rounds {
		of100 = append(of100, share(r.during, 99)-share(r.before, 99))
		of1 = append(of1, share(r.during, 100)-share(r.before, 100))
	}
	slices.Sort(of100)
	slices.Sort(of1)
	return share(of100, 50), share(of1, 50)
}

// share returns the time in which so many of 100 are, of a sorted list; 0 if it is empty.
func share(times []time.Duration, percent int) time.Duration {
	if len(times) == 0 {
		return 0
	}
	return times[min(len(times)*percent/100, len(times)-1)]
}

// compareTimes requires that writes during snapshots take no longer than others.
func compareTimes(t *testing.T, rounds []round) {
	t.Helper()
	var during, before []time.Duration
	for _, r := range rounds {
		t.Logf("snapshot: %s; before it: %s", shares(r.during), shares(r.before))
		during, before = append(during, r.during...), append(before, r.before...)
		if len(r.during) < heldLeast {
			t.Errorf("%d writes during a snapshot, want %d", len(r.during), heldLeast)
		}
	}
	slices.Sort(during)
	slices.Sort(before)
	usual, slowest := excess(rounds)
	t.Logf("%d snapshots: %s; before them: %s; in half of the rounds 99%% take %s longer at most, the slowest %s",
		len(rounds), shares(during), shares(before), usual, slowest)
	if (usual >= heldBar || slowest >= heldBar) && !slow() {
		t.Errorf("writes take longer during a snapshot: 1 of 100 by %s, the slowest by %s; less than %s is wanted", usual, slowest, heldBar)
	}
}

// shares describes a sorted list.
func shares(times []time.Duration) string {
	of := func(percent int) time.Duration { return share(times, percent).Round(10 * time.Microsecond) }
	return fmt.Sprintf("%d writes, median %s, 95%% in %s, 99%% in %s, slowest %s", len(times), of(50), of(95), of(99), of(100))
}

// TestExcessFindsStalls gives the comparison snapshots that hold writes up, and machines that do.
func TestExcessFindsStalls(t *testing.T) {
	side := func(usual time.Duration, stalls ...time.Duration) []time.Duration {
		return slices.Concat(slices.Repeat([]time.Duration{usual}, 1000), stalls)
	}
	quiet := round{during: side(3 * time.Millisecond), before: side(2 * time.Millisecond)}
	stalled := round{during: side(2*time.Millisecond, 2*time.Millisecond+heldBar), before: side(2 * time.Millisecond)}
	slower := round{during: side(2*time.Millisecond + heldBar), before: side(2*time.Millisecond, time.Second)}
	noisy := round{during: side(2*time.Millisecond, time.Second), before: side(2 * time.Millisecond)}
	for name, test := range map[string]struct {
		rounds []round
		want   bool // that it is within the bar
	}{
		"nothing":                   {[]round{quiet, quiet, quiet}, true},
		"a machine that stalls":     {[]round{quiet, noisy, quiet, noisy, quiet}, true},
		"snapshots that stall once": {[]round{stalled, quiet, stalled}, false},
		"snapshots that slow down":  {[]round{slower, slower, quiet}, false},
	} {
		usual, slowest := excess(test.rounds)
		if got := usual < heldBar && slowest < heldBar; got != test.want {
			t.Errorf("%s: 1 of 100 %s longer, the slowest %s: within the bar is %t", name, usual, slowest, got)
		}
	}
}
