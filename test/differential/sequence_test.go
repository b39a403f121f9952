package differential

import (
	"fmt"
	"testing"
	"time"
)

// roundOps is how many operations share two fresh servers.
const roundOps = 4000

// TestSequences sends random sequences to both servers and compares every answer and event.
func TestSequences(t *testing.T) {
	seed := *flagSeed
	for left := *flagOps; left > 0; left -= roundOps {
		ops := min(left, roundOps)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { runRound(t, seed, ops) })
		if t.Failed() {
			return
		}
		seed++
	}
}

// runRound generates and runs one round. In its middle both servers are restarted, once after they were asked to
// end and once after they were killed.
func runRound(t *testing.T, seed uint64, ops int) {
	start := time.Now()
	r, err := newCompactedRunner(t)
	defer func() { r.close() }()
	if err != nil {
		t.Fatal(err)
	}
	gen := newGenerator(seed, r)
	stats := map[kind]int{}
	var done []op
	for i := range ops {
		o := gen.next()
		switch i {
		case roundOps * 1 / 3:
			o = gen.op(kindStop, nil)
		case roundOps * 2 / 3:
			o = gen.op(kindKill, nil)
		}
		done = append(done, o)
		stats[o.kind]++
		if err := r.do(o); err != nil {
			r.close()
			t.Errorf("operation %d of seed %d: %v\n%v\nreplay: go test -run TestSequences -args -seed=%d -ops=%d",
				i, seed, o, err, seed, i+1)
			t.Log(shrink(t, done, *flagShrink))
			return
		}
	}
	if err := r.reset(); err != nil {
		t.Errorf("after %d operations of seed %d: %v", ops, seed, err)
	}
	t.Logf("%d operations in %s, head at %d: %v\nanswers: %v",
		ops, time.Since(start).Round(time.Millisecond), r.head, stats, r.tally)
}
