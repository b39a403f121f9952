package simulate

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/kinsy/kinsy/internal/rules"
	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// progressIn is how long a cluster may take, once nothing fails any more, to accept
// writes and to have them on all its nodes.
const progressIn = 10 * second

// newWorld makes a cluster whose first epoch is over: all nodes start as Replicas.
func newWorld(seed uint64, p profile, r *rand.Rand, out io.Writer) *world {
	w := &world{seed: seed, r: r, p: p, rule: p.rule, out: out, crashAt: p.crashEvent}
	w.truth = &truth{w: w, ackBy: make(map[sqllog.Epoch]*process)}
	for rule := rules.Rule(1); rule <= rules.Count; rule++ {
		w.truth.mutated = w.truth.mutated || rules.Broken(rule)
	}
	w.store = &store{w: w, chunks: make(map[sqllog.ID]*chunk), names: make([]elect.NodeID, p.nodes)}
	first := []row{{id: 1, epoch: 1}}
	c := elect.Cluster{Epoch: 1, Rule: p.rule, RuleBefore: p.rule}
	for i := range p.nodes {
		w.disks++
		n := &node{index: i, disk: &disk{id: w.disks}, wanted: true}
		w.nodes = append(w.nodes, n)
		w.store.names[i] = n.disk.id
		if i < p.voters {
			c.Members = append(c.Members, n.disk.id)
			n.disk.rows, n.disk.promise = first[:1:1], 1
		}
	}
	w.store.cluster, w.store.version = c, 1
	w.store.put(&chunk{rows: first, node: 1, epoch: 1})
	return w
}

// simulate runs a schedule and returns what went wrong.
func simulate(seed uint64, out io.Writer) (stats, string) {
	r := rand.New(rand.NewPCG(seed, 4))
	return simulateProfile(seed, newProfile(r), r, out)
}

func simulateProfile(seed uint64, p profile, r *rand.Rand, out io.Writer) (stats, string) {
	w := newWorld(seed, p, r, out)
	w.tracef("%+v", p)
	for _, n := range w.nodes {
		w.start(n)
	}
	w.after(20*ms, func() { w.elect(w.nodes[0]) })
	w.writeSoon()
	w.readSoon()
	w.after(w.between(0, second), w.faultSoon)
	w.run(p.length, nil)
	if w.truth.wrong == "" {
		w.finish()
	}
	w.truth.stats.Events = w.count
	return w.truth.stats, w.truth.wrong
}

// finish lets nothing fail any more: then a Primary must accept writes, and all
// nodes must have them.
func (w *world) finish() {
	w.settle()
	acked := sqllog.ID(0)
	probes := 0
	var probe func()
	probe = func() {
		if p := w.primary(); p != nil && acked == 0 && !p.reign.over && !p.reign.full {
			probes++
			p.reign.write(w.payload(), func(id sqllog.ID) { acked = id })
			p.effects()
		}
		w.after(50*ms, probe)
	}
	w.after(0, probe)
	if w.run(w.now+progressIn, func() bool { return acked > 0 && w.allShow(acked) }) || w.truth.wrong != "" {
		return
	}
	if !w.canElect() {
		w.truth.stats.Stuck++
		return
	}
	w.truth.complain("no progress within %v: %d writes, the first was acknowledged as row %d%s", progressIn, probes, acked, w.describe())
}

// canElect reports whether enough voters have their disks: else an operator has to
// decide. Disks are lost with care, but a change of voters or of the rule may be
// under way meanwhile.
func (w *world) canElect() bool {
	left := 0
	for _, m := range w.store.cluster.Members {
		if w.home(m) != nil {
			left++
		}
	}
	return left >= max(1, w.store.cluster.AuditNeed())
}

func (w *world) allShow(id sqllog.ID) bool {
	for _, n := range w.nodes {
		if n.proc == nil || n.proc.committed < id {
			return false
		}
	}
	return true
}

func (w *world) describe() string {
	s := fmt.Sprintf("; %+v, chain ends at row %d", w.store.cluster, len(w.truth.chain))
	for _, n := range w.nodes {
		if n.proc == nil || n.proc.core == nil {
			continue
		}
		role, e := n.proc.core.Role()
		_, stage := n.proc.core.Elector()
		s += fmt.Sprintf("; %v=%x %v %d, %s, promise %d, log %v, shows %d", n.proc, uint64(n.proc.self), role, e, stage, n.proc.core.Promise(), end(n.disk.rows), n.proc.committed)
	}
	return s
}

// writeSoon has clients write to whoever calls itself the Primary.
func (w *world) writeSoon() {
	w.after(w.between(0, 2*w.p.writeEvery), func() {
		if w.calm {
			return
		}
		for _, n := range w.nodes {
			p := n.proc
			if p == nil || p.reign == nil || w.r.IntN(3) == 0 {
				continue
			}
			p.after(w.delay(), func() {
				if role, _ := p.core.Role(); p.reign != nil && role == elect.Primary && !p.reign.full {
					p.reign.write(w.payload(), nil)
				}
			})
		}
		w.writeSoon()
	})
}

// readSoon has clients read anywhere.
func (w *world) readSoon() {
	w.after(w.between(0, 2*w.p.readEvery), func() {
		n := w.nodes[w.r.IntN(len(w.nodes))]
		if p := n.proc; p != nil {
			least := w.truth.readBegins()
			p.after(w.delay(), func() {
				p.read(func(shown sqllog.ID) { w.truth.readEnds(p, least, shown) })
				p.effects()
			})
		}
		w.readSoon()
	})
}

func envInt(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// TestSimulation runs random schedules. KINSY_SIM_SEED replays one and prints what
// happens; KINSY_SIM_SEEDS says how many to run, instead of what a few seconds
// allow, from KINSY_SIM_SEED or 1 on.
func TestSimulation(t *testing.T) {
	first, seeds := envInt("KINSY_SIM_SEED", 0), envInt("KINSY_SIM_SEEDS", 0)
	var out io.Writer
	if first > 0 && seeds == 0 {
		out, seeds = os.Stderr, 1
	}
	first = max(first, 1)
	enough := 2500 * ms
	if testing.Short() {
		enough = 500 * ms
	}
	began := time.Now()
	var all stats
	seed := first
	for ; seed < first+seeds || seeds == 0 && time.Since(began) < enough; seed++ {
		s, wrong := simulate(uint64(seed), out)
		all.add(s)
		if wrong != "" {
			t.Fatalf("KINSY_SIM_SEED=%d: %s", seed, wrong)
		}
	}
	t.Logf("%d schedules, %v each: %+v", seed-first, time.Since(began)/time.Duration(max(seed-first, 1)), all)
}
