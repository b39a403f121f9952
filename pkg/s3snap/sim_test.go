package s3snap

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

// simulation is one prefix, nodes that use it, and everything that may happen to
// them.
type simulation struct {
	t       *testing.T
	seed    uint64
	net     *simNet
	truth   *simTruth
	quiet   *logrus.Logger
	dir     string
	clock   func() (time.Duration, bool)
	until   time.Time
	local   bool          // the commit rule is the node's disk
	oneDisk bool          // there is one node, and its disk stays
	sleepy  bool          // nodes are cut off for longer than chunks are kept
	drowsy  bool          // nodes sleep for less than clocks notice, with a PUT under way, and others hurry to delete chunks
	dozes   chan struct{} // a node falls asleep; whoever waits for its next life hears it

	mu    sync.Mutex
	disks int
}

func (s *simulation) byChunk() bool { return !s.local }
func (s *simulation) over() bool    { return !time.Now().Before(s.until) }

// TestSimulation runs nodes against object storage that loses, delays and refuses,
// and compares what they say with what is there. KINSY_SIM_SEEDS says how many
// seeds to run, instead of what a few seconds allow; KINSY_SIM_SEED which one to
// begin with.
func TestSimulation(t *testing.T) {
	first, seeds := envInt("KINSY_SIM_SEED", 1), envInt("KINSY_SIM_SEEDS", 0)
	began, enough := time.Now(), 4*time.Second
	if testing.Short() {
		enough = time.Second
	}
	warm(t)
	defer func(was func(time.Duration) time.Duration) { jitter = was }(jitter)
	jitter = func(d time.Duration) time.Duration { return d / 2 }
	var all simStats
	seed := first
	for ; seed < first+seeds || (seeds == 0 && time.Since(began) < enough); seed++ {
		stats, wrong := simulate(t, uint64(seed))
		all.add(stats)
		if len(wrong) > 0 {
			t.Fatalf("KINSY_SIM_SEED=%d KINSY_SIM_SEEDS=1: %d complaints, the first ones: %q", seed, len(wrong), wrong[:min(len(wrong), 5)])
		}
	}
	t.Logf("%d seeds: %+v", seed-first, all)
}

// warm lets the compressor make its channels outside of the simulations' bubbles.
func warm(t *testing.T) {
	w := newWorld(t)
	if err := w.chain(1, start).Append(t.Context(), testRows(start, 1, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := readChunk(t.Context(), w.store, chunkKey(1)); err != nil {
		t.Fatal(err)
	}
}

func envInt(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// simulate runs one seed and returns what went wrong.
func simulate(t *testing.T, seed uint64) (stats simStats, wrong []string) {
	dir, err := os.MkdirTemp("", "kinsy-sim")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	synctest.Test(t, func(t *testing.T) {
		s := newSimulation(t, seed, dir)
		s.run()
		s.finish()
		stats, wrong = s.truth.stats, s.truth.wrong
	})
	return stats, wrong
}

func newSimulation(t *testing.T, seed uint64, dir string) *simulation {
	s := &simulation{t: t, seed: seed, dir: dir, truth: newSimTruth(), quiet: logrus.New(), dozes: make(chan struct{})}
	s.quiet.SetOutput(io.Discard)
	if path := os.Getenv("KINSY_SIM_LOG"); path != "" {
		f, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		s.quiet.SetOutput(f)
		s.quiet.SetLevel(logrus.DebugLevel)
	}
	began := time.Now()
	s.clock = func() (time.Duration, bool) { return time.Since(began) + time.Hour, true }
	s.net = &simNet{seed: seed, mem: object.NewMemory(), truth: s.truth, tries: make(map[string]int)}
	s.net.mem.Now = func() time.Time { return time.Now().Add(-1000 * time.Hour) } // the store's clock is its own
	r := s.net.random("simulation")
	s.net.rate = []float64{0, 0.02, 0.08, 0.2}[r.IntN(4)]
	s.local = r.IntN(4) == 0
	s.oneDisk = s.local && r.IntN(2) == 0
	switch r.IntN(3) {
	case 0:
		s.sleepy = !s.oneDisk
	case 1:
		if s.drowsy = !s.oneDisk; s.drowsy {
			s.net.doze = s.dozes
		}
	}
	s.until = began.Add(2*time.Minute + span(r, 2*time.Minute))
	return s
}

// run lets the nodes live.
func (s *simulation) run() {
	nodes := 3
	if s.oneDisk {
		nodes = 1
	}
	var all sync.WaitGroup
	for i := range nodes {
		name := string(rune('a' + i))
		n := &simNode{sim: s, name: name, r: s.net.random("node", name), disk: s.newDisk()}
		all.Go(n.run)
	}
	all.Wait()
}

// finish lets everything settle without any more trouble: then a node must start,
// with all that was acknowledged, and the chain must be whole.
func (s *simulation) finish() {
	s.net.calm.Store(true)
	s.net.late.Wait()
	s.truth.acknowledged()
	n := &simNode{sim: s, name: "last", r: s.net.random("last"), disk: s.newDisk(), life: 1}
	s.local, s.oneDisk = false, false
	l := &simLife{simNode: n, name: "last", store: s.net.store("last")}
	l.ctx, l.end = context.WithTimeout(context.Background(), 5*time.Minute)
	defer l.end()
	if !l.open(n.config(l.store, true, func(err error) { s.truth.complain("last: %v", err) })) {
		s.truth.complain("no node can start: %v", l.ctx.Err())
		return
	}
	if err := l.archive.Confirm(l.ctx); err != nil {
		s.truth.complain("last: read: %v", err)
	}
	rows := l.group(n.r)
	if err := l.log.Append(rows); err != nil {
		s.truth.complain("last: append: %v", err)
	}
	if err := l.archive.Commit(rows); err != nil {
		s.truth.complain("last: write: %v", err)
	}
	s.truth.ack("last", rows)
	s.truth.acknowledged()
	for range 3 {
		s.restore(l.ctx, "last", s.net.mem, n.r)
	}
	if _, err := Verify(l.ctx, s.net.mem, nil); err != nil {
		s.truth.complain("verify: %v", err)
	}
	floor, _, err := readFloor(l.ctx, s.net.mem)
	if err != nil {
		s.truth.complain("floor: %v", err)
	}
	s.chunksAbove(floor)
	l.stop()
}

func (a *simStats) add(b simStats) {
	a.chunks += b.chunks
	a.zombies += b.zombies
	a.acked += b.acked
	a.confirmed += b.confirmed
	a.opened += b.opened
	a.failedOpens += b.failedOpens
	a.fenced += b.fenced
	a.snapshots += b.snapshots
	a.retentions += b.retentions
	a.restores += b.restores
	a.removed += b.removed
	a.aside += b.aside
	a.oldDisks += b.oldDisks
	a.naps += b.naps
}
