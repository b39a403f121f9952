package simulate

import (
	"time"

	"github.com/kinsy/kinsy/pkg/elect"
)

// find gives the process that runs on a disk, nil for none.
func (w *world) find(id elect.NodeID) *process {
	for _, n := range w.nodes {
		if n.proc != nil && n.proc.self == id {
			return n.proc
		}
	}
	return nil
}

func (w *world) home(id elect.NodeID) *node {
	for _, n := range w.nodes {
		if n.disk.id == id {
			return n
		}
	}
	return nil
}

// message brings something to the process on a disk: perhaps, perhaps late, perhaps
// twice.
func (p *process) message(to elect.NodeID, f func(*process)) {
	w := p.w
	n := w.home(to)
	if n == nil {
		return
	}
	copies := 1
	if w.chance(w.p.twice) {
		copies = 2
	}
	for range copies {
		if w.chance(w.p.lost) {
			continue
		}
		w.after(w.delay(), func() {
			q := n.proc
			if q == nil || q.self != to || w.cut[p.n.index][n.index] {
				return
			}
			q.after(0, func() { f(q); q.effects() })
		})
	}
}

func (w *world) delay() time.Duration {
	if w.chance(w.p.slow) {
		return w.between(0, w.p.slowness)
	}
	return w.between(w.p.latency/4, w.p.latency)
}

// stream is a connection: what is sent on it arrives in order, or not at all.
type stream struct {
	w       *world
	replica *process
	primary *process
	up      pipe    // to the Primary
	down    pipe    // to the Replica
	closed  [2]bool // by the Replica, by the Primary
	deaf    [2]int  // ticks for which a side has heard nothing
}

// pipe is one direction.
type pipe struct {
	queue []func()
	busy  bool
}

func (s *stream) toPrimary(f func()) { s.send(&s.up, s.replica, s.primary, f) }
func (s *stream) toReplica(f func()) { s.send(&s.down, s.primary, s.replica, f) }

func (s *stream) send(p *pipe, from, to *process, f func()) {
	p.queue = append(p.queue, f)
	if !p.busy {
		p.busy = true
		s.deliver(p, from, to, s.w.delay()+s.w.between(0, s.w.p.streamLag))
	}
}

func (s *stream) deliver(p *pipe, from, to *process, d time.Duration) {
	to.after(d, func() {
		if s.w.cut[from.n.index][to.n.index] {
			s.deliver(p, from, to, 20*ms)
			return
		}
		f := p.queue[0]
		p.queue = p.queue[1:]
		if p.busy = len(p.queue) > 0; p.busy {
			s.deliver(p, from, to, s.w.between(0, s.w.p.latency/4))
		}
		f()
		to.effects()
	})
}

// watch is called on each tick of a side, 0 for the Replica's: it closes a stream
// whose other side has not been heard for long.
func (s *stream) watch(side int) (closed bool) {
	me, other := s.replica, s.primary
	if side == 1 {
		me, other = other, me
	}
	a, b := me.n.index, other.n.index
	cut := s.w.cut[a][b] || s.w.cut[b][a]
	gone := other.dead || s.closed[1-side]
	if !cut && !gone && !other.frozen {
		s.deaf[side] = 0
		s.closed[side] = s.w.chance(s.w.p.breaks)
		return s.closed[side]
	}
	s.deaf[side]++
	s.closed[side] = s.deaf[side] >= 20 || gone && !cut
	return s.closed[side]
}
