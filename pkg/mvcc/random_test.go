package mvcc

import (
	"flag"
	"fmt"
	"testing"
	"time"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run the random tests with this seed alone")
	stepsFlag = flag.Int("steps", 0, "steps of a random test; 0 means its own number")
)

// steps of the world, with their weights.
var worldSteps = []struct {
	name   string
	weight int
	do     func(*world)
}{
	{"txn", 200, (*world).stepTxn},
	{"commit", 120, (*world).stepCommit},
	{"range", 60, (*world).stepRange},
	{"read txn", 20, (*world).stepReadTxn},
	{"rollback", 8, (*world).stepRollback},
	{"compact", 12, (*world).stepCompact},
	{"scrub", 12, (*world).stepScrub},
	{"restart", 2, (*world).stepRestart},
	{"check", 2, (*world).checkAll},
	{"grant", 25, (*world).stepGrant},
	{"revoke", 12, (*world).stepRevoke},
	{"keep alive", 10, (*world).stepKeepAlive},
	{"clock", 10, (*world).stepClock},
	{"expire", 10, (*world).stepExpire},
	{"watch", 25, (*world).stepWatch},
	{"cancel", 8, (*world).stepCancel},
	{"close stream", 4, (*world).stepCloseStream},
	{"dispatch", 80, (*world).stepDispatch},
	{"next", 150, (*world).stepNext},
	{"progress", 20, (*world).stepProgress},
	{"tick", 8, (*world).stepTick},
	{"drain", 4, (*world).drain},
	{"ship", 40, (*world).stepShip},
	{"apply", 40, (*world).stepApply},
	{"twin evaluates", 4, (*world).stepTwinEvaluate},
	{"twin scrubs", 12, (*world).stepTwinScrub},
	{"twin restarts", 2, (*world).stepTwinRestart},
	{"compare", 3, (*world).stepCompare},
	{"swap", 2, (*world).stepSwap},
}

func (w *world) run(steps int) {
	total := 0
	for _, s := range worldSteps {
		total += s.weight
	}
	for i := range steps {
		w.reseed(uint64(i)) // so that a step does the same whatever was drawn before
		n := w.IntN(total)
		for _, s := range worldSteps {
			if n -= s.weight; n < 0 {
				w.counts[s.name]++
				s.do(w)
				break
			}
		}
	}
	w.drain()
	w.stepRollback()
	w.stepExpireAll()
	w.checkAll()
	w.stepCompare()
	w.stepRestart()
	w.stepCompare()
}

// TestRandom runs a Store and a naive model side by side: Txns in groups,
// rollbacks, reads at any revision, compaction, interrupted scrubs, restarts,
// leases and watches. A second Store applies the rows of the first, and takes its
// place now and then.
func TestRandom(t *testing.T) {
	seeds, steps := 12, 3000
	if testing.Short() {
		seeds = 3
	}
	runSeeds(t, seeds, steps, false)
}

// TestRandomOnDisk is TestRandom on SQLite.
func TestRandomOnDisk(t *testing.T) { runSeeds(t, 2, 1000, true) }

func runSeeds(t *testing.T, seeds, steps int, onDisk bool) {
	if *stepsFlag > 0 {
		steps = *stepsFlag
	}
	base := uint64(time.Now().UnixNano()) % 1_000_000_000
	if *seedFlag != 0 {
		seeds, base = 1, *seedFlag
	}
	for i := range uint64(seeds) {
		t.Run(fmt.Sprintf("seed=%d", base+i), func(t *testing.T) {
			w := newWorld(t, base+i, onDisk)
			w.run(steps)
			if t.Failed() || testing.Verbose() {
				t.Log(w.counts)
			}
		})
	}
}
