package simulate

import (
	"slices"
	"time"

	"github.com/kinsy/kinsy/internal/rules"
	"github.com/kinsy/kinsy/pkg/elect"
)

// fault is something that goes wrong, or that an operator does, at a random moment.
type fault struct {
	name   string
	weight int
	happen func(w *world, n *node)
}

// faults in no order; n is a random node, or the Primary.
var faults = []fault{
	{"crash", 6, func(w *world, n *node) { w.crash(n); w.restartSoon(n) }},
	{"cut", 6, func(w *world, n *node) { w.cutOff(n) }},
	{"freeze", 4, func(w *world, n *node) { w.freeze(n, w.between(10*ms, w.p.freeze)) }},
	{"outage", 2, func(w *world, n *node) { w.loseStore(n) }},
	{"disk", 1, func(w *world, n *node) { w.loseDisk(n) }},
	{"members", 2, func(w *world, n *node) { w.flip(n) }},
	{"rule", 1, func(w *world, _ *node) { w.changeRule() }},
	{"election", 3, func(w *world, _ *node) { w.elect(w.other()) }},
	{"split", 2, func(w *world, _ *node) { w.split(w.other()) }},
	{"partition", 1, func(w *world, _ *node) { w.partition() }},
	{"partition", 1, func(w *world, _ *node) { w.partition(w.other()) }},
	{"pinch", 1, func(w *world, _ *node) { w.pinch(w.other()) }},
	{"slow disk", 1, func(w *world, n *node) { n.slowUntil = w.now + w.between(0, second) }},
	{"upheaval", 1, func(w *world, _ *node) { w.upheaval() }},
	{"hand over", 2, func(w *world, n *node) { w.handOver(n) }},
	{"full disk", 2, func(w *world, n *node) { n.fullUntil = w.now + w.between(0, 3*second) }},
}

// faultSoon has things go wrong until the world is calm.
func (w *world) faultSoon() {
	w.after(w.between(0, 2*w.p.faultEvery), func() {
		if w.calm {
			return
		}
		w.anyFault()
		w.faultSoon()
	})
}

func (w *world) anyFault() {
	sum := 0
	for _, k := range w.p.weights {
		sum += k
	}
	if sum == 0 {
		return
	}
	n := w.nodes[w.r.IntN(len(w.nodes))]
	if w.r.IntN(2) == 0 {
		if p := w.primary(); p != nil {
			n = p.n
		}
	}
	at := w.r.IntN(sum)
	for i, k := range w.p.weights {
		if at -= k; at < 0 {
			w.tracef("-- %s: node %c", faults[i].name, 'a'+n.index)
			faults[i].happen(w, n)
			return
		}
	}
}

// primary is the Primary of the highest epoch, nil for none.
func (w *world) primary() *process {
	var best *process
	for _, n := range w.nodes {
		if p := n.proc; p != nil && p.reign != nil && (best == nil || p.reign.epoch > best.reign.epoch) {
			best = p
		}
	}
	return best
}

// other is a random node, most often not the Primary's.
func (w *world) other() *node {
	n := w.nodes[w.r.IntN(len(w.nodes))]
	if p := w.primary(); p != nil && p.n == n {
		n = w.nodes[w.r.IntN(len(w.nodes))]
	}
	return n
}

// crash ends a process at once.
func (w *world) crash(n *node) {
	p := n.proc
	if p == nil {
		return
	}
	w.tracef("%v dies", p)
	p.loseOperations()
	p.dead, n.proc, p.held = true, nil, nil
	w.truth.stats.Crashes++
}

func (w *world) restartSoon(n *node) {
	w.after(w.between(10*ms, w.p.downFor), func() { w.start(n) })
}

// cutOff cuts a node off the others, or some of them, in one direction or both.
func (w *world) cutOff(n *node) {
	w.truth.stats.Cuts++
	in, out := w.r.IntN(4) != 0, w.r.IntN(4) != 0
	var others []*node
	for _, m := range w.nodes {
		if m != n && (w.r.IntN(3) != 0 || w.p.nodes == 3 && w.r.IntN(2) == 0) {
			others = append(others, m)
		}
	}
	w.isolate(n, in, out, others)
}

// isolate cuts a node off some others for a while.
func (w *world) isolate(n *node, in, out bool, others []*node) {
	set := func(cut bool) {
		for _, m := range others {
			if m != n {
				w.cut[n.index][m.index] = cut && out
				w.cut[m.index][n.index] = cut && in
			}
		}
	}
	set(!w.calm)
	w.after(w.between(50*ms, w.p.cutFor), func() { set(false) })
}

// freeze stops a process: time passes, and what arrives waits.
func (w *world) freeze(n *node, d time.Duration) {
	p := n.proc
	if p == nil || p.frozen {
		return
	}
	w.truth.stats.Freezes++
	p.frozen = true
	w.after(d, func() { w.thaw(p) })
}

func (w *world) thaw(p *process) {
	if !p.frozen {
		return
	}
	w.tracef("%v wakes", p)
	p.frozen = false
	held := p.held
	p.held = nil
	for _, e := range held {
		p.after(w.between(0, 3*ms), e.f)
	}
}

// loseStore takes object storage away from a node or from all.
func (w *world) loseStore(n *node) {
	w.truth.stats.Outages++
	if w.r.IntN(2) == 0 {
		n.noStore = true
		w.after(w.between(50*ms, w.p.outage), func() { n.noStore = false })
		return
	}
	w.store.outage = true
	w.after(w.between(50*ms, w.p.outage), func() { w.store.outage = false })
}

// electable reports whether voters that stay, and whose disks are left, can elect
// under a rule without one of them: it is lost, or taken away.
func (w *world) electable(rule elect.Rule, without elect.NodeID, taken bool) bool {
	c := w.store.cluster
	c.Members = slices.Clone(c.Members)
	if taken {
		c.Members = slices.DeleteFunc(c.Members, func(m elect.NodeID) bool { return m == without })
	}
	left := 0
	for _, m := range c.Members {
		if n := w.home(m); m != without && n != nil && n.wanted {
			left++
		}
	}
	c.Changing = true
	need := max(1, c.AuditNeed())
	c.RuleBefore = rule
	return left >= max(need, c.AuditNeed())
}

// loseDisk replaces a disk by an empty one, if the other voters can do without it.
func (w *world) loseDisk(n *node) {
	if !w.electable(w.rule, n.disk.id, false) {
		return
	}
	w.crash(n)
	w.truth.stats.DisksLost++
	id := n.disk.id
	if !rules.Broken(rules.DiskIdentity) {
		w.disks++
		id = w.disks
	}
	n.disk = &disk{id: id}
	w.restartSoon(n)
}

// flip changes whether a node is to vote.
func (w *world) flip(n *node) {
	if !n.wanted || w.electable(w.rule, n.disk.id, true) {
		n.wanted = !n.wanted
	}
}

func (w *world) changeRule() {
	if rule := pick[elect.Rule](w.r, elect.Majority, elect.Majority, elect.ObjectStorage, 1, 2); w.electable(rule, 0, false) {
		w.rule = rule
		w.truth.stats.Rules++
	}
}

// handOver has the Primary stop writes, wait for another node to have all rows, and
// begin the election of another one.
func (w *world) handOver(n *node) {
	p := n.proc
	if p == nil || p.reign == nil || p.reign.full {
		return
	}
	r := p.reign
	r.full = true
	w.truth.stats.HandOvers++
	var try func(left int)
	try = func(left int) {
		if r.over {
			return
		}
		for _, f := range r.streams {
			if int(f.has) == len(r.rows) && r.c.IsMember(f.id) && int(r.tracker.Uploaded()) == len(r.rows) {
				p.core.HandOver(p.local(), f.id)
				p.effects()
				left = 0
				break
			}
		}
		if left > 0 {
			p.after(20*ms, func() { try(left - 1) })
			return
		}
		p.after(second, func() { r.full = false })
	}
	p.after(0, func() { try(20) })
}

// settle ends all that goes wrong.
func (w *world) settle() {
	w.tracef("-- nothing fails any more")
	w.calm = true
	w.store.outage = false
	w.cut = [maxNodes][maxNodes]bool{}
	for _, n := range w.nodes {
		n.noStore = false
		if n.proc == nil {
			w.start(n)
		} else {
			w.thaw(n.proc)
		}
	}
}
