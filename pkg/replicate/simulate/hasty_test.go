package simulate

import (
	"github.com/kinsy/kinsy/internal/rules"
	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// hasty is an Elector in a hurry: it raises the epoch without asking whether anybody
// hears a Primary, audits once, appoints as soon as it may, and again and again. No
// Core does so; but nothing that is promised may depend on when an Elector acts.
type hasty struct {
	p       *process
	c       elect.Cluster
	answers map[elect.NodeID]elect.Position
	chosen  elect.NodeID
}

// elect begins an election that nobody needs.
func (w *world) elect(n *node) {
	p := n.proc
	if p == nil || p.core == nil {
		return
	}
	p.after(0, func() {
		p.raiseWith(p.core.Promise(), true, func(c elect.Cluster, ok bool) {
			if !ok {
				return
			}
			w.truth.stats.Hasty++
			p.hasty = &hasty{p: p, c: c, answers: make(map[elect.NodeID]elect.Position)}
			for _, m := range c.Members {
				p.send(m, elect.Audit{Epoch: c.Epoch})
			}
			p.hasty.choose()
		})
	})
}

// split begins an election whose Elector cannot reach one of the others, and soon
// none of them.
func (w *world) split(n *node) {
	victim := w.nodes[w.r.IntN(len(w.nodes))]
	if p := w.primary(); p != nil && w.r.IntN(2) == 0 {
		victim = p.n
	}
	w.isolate(n, true, true, []*node{victim})
	w.elect(n)
	if w.r.IntN(2) == 0 {
		w.after(w.between(0, 8*w.p.storeTime), func() { w.isolate(n, true, true, w.nodes) })
	}
}

// pinch begins an election whose Elector cannot reach one of the others for long,
// while the disks of those that it can reach are behind.
func (w *world) pinch(n *node) {
	p := w.primary()
	if p == nil || p.n == n {
		return
	}
	victim := pick(w.r, p.n, w.other())
	for _, m := range w.nodes {
		if m != n && m != p.n && m != victim {
			m.slowUntil = w.now + w.between(100*ms, 600*ms)
		}
	}
	w.after(w.between(0, 200*ms), func() {
		w.isolate(n, true, true, []*node{victim})
		w.elect(n)
	})
}

// partition cuts the nodes in two, of which one half has the Primary and some given
// nodes, and begins an election in the other.
func (w *world) partition(with ...*node) {
	side := make([]bool, len(w.nodes))
	for i := range side {
		side[i] = len(with) == 0 && w.r.IntN(2) == 0
	}
	for _, n := range with {
		side[n.index] = true
	}
	if p := w.primary(); p != nil {
		side[p.n.index] = true
	}
	set := func(cut bool) {
		for i := range side {
			for j := range side {
				if side[i] != side[j] {
					w.cut[i][j] = cut
				}
			}
		}
	}
	w.truth.stats.Cuts++
	set(!w.calm)
	w.after(w.between(50*ms, w.p.cutFor), func() { set(false) })
	for i, n := range w.nodes {
		if !side[i] {
			w.elect(n)
			return
		}
	}
}

// upheaval has two nodes begin or cease to be wanted as voters, and soon cuts the
// others off.
func (w *world) upheaval() {
	a, b := w.other(), w.other()
	w.flip(a)
	w.flip(b)
	w.after(w.between(0, 100*ms), func() {
		if !w.calm {
			w.partition(a, b)
		}
	})
}

// answer takes the answer to an audit.
func (h *hasty) answer(from elect.NodeID, m elect.AuditAnswer) {
	if m.Epoch == h.c.Epoch && m.Promise == m.Epoch && h.chosen == 0 && h.c.IsMember(from) {
		h.answers[from] = m.Last
		h.choose()
	}
}

func (h *hasty) choose() {
	need := h.c.AuditNeed()
	if rules.Broken(rules.EnoughAnswers) {
		need--
	}
	if len(h.answers) < need {
		return
	}
	var best elect.NodeID
	if need <= 0 {
		best = h.c.Members[h.p.w.r.IntN(len(h.c.Members))]
	}
	for _, m := range h.c.Members {
		last, there := h.answers[m]
		switch {
		case !there || need <= 0:
		case best == 0, h.answers[best].Less(last), rules.Broken(rules.NewestLogLeads) && h.p.w.r.IntN(2) == 0:
			best = m
		}
	}
	h.chosen = best
	h.appoint(3)
}

func (h *hasty) appoint(times int) {
	h.p.send(h.chosen, elect.Appoint{Cluster: h.c})
	if times > 1 {
		h.p.after(h.p.w.between(0, h.p.w.p.slowness), func() { h.appoint(times - 1) })
	}
}

// raiseWith raises the epoch by compare-and-swap, and tells what came of it. Only a
// hasty one does so when another Elector is at work.
func (p *process) raiseWith(above sqllog.Epoch, hasty bool, done func(elect.Cluster, bool)) {
	s := p.w.store
	var seen elect.Cluster
	var version int
	p.call(func() { seen, version = s.cluster, s.version }, func(err error) {
		if err != nil {
			done(elect.Cluster{}, false)
			return
		}
		if seen.Epoch > above && !hasty {
			done(seen, false)
			return
		}
		want := seen
		want.Epoch = max(seen.Epoch, above) + 1
		if want.RuleBefore == want.Rule {
			want.Rule = p.w.rule
		}
		nonce := p.w.r.Uint64()
		raised := false
		p.call(func() {
			if s.version == version {
				s.cluster, s.nonce, raised = want, nonce, true
				s.version++
			}
		}, func(err error) {
			if err != nil {
				p.whoRaised(want, nonce, done)
				return
			}
			done(want, raised)
		})
	})
}

// whoRaised finds out whose raise it was when an answer was lost.
func (p *process) whoRaised(want elect.Cluster, nonce uint64, done func(elect.Cluster, bool)) {
	var there uint64
	var c elect.Cluster
	p.call(func() { there, c = p.w.store.nonce, p.w.store.cluster }, func(err error) {
		done(c, err == nil && there == nonce && c.Epoch == want.Epoch)
	})
}
