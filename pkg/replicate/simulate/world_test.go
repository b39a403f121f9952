package simulate

import (
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

const (
	ms     = time.Millisecond
	second = time.Second
)

// world is one schedule: nodes, their network, object storage, and what is true. It
// is driven by events in the order of virtual time, and all that is random comes
// from one generator, so that a seed is a schedule.
type world struct {
	seed   uint64
	r      *rand.Rand
	now    time.Duration
	events heap
	seq    uint64
	count  int
	p      profile
	calm   bool // nothing fails any more
	nodes  []*node
	store  *store
	truth  *truth
	out    io.Writer // of the trace; nil for none

	cut      [maxNodes][maxNodes]bool // messages of one node do not reach another
	rule     elect.Rule               // what the operator wants
	disks    elect.NodeID             // given out
	payloads int
	crashAt  int // the event after which its process dies
}

const maxNodes = 5

// row is a row of the log: equal ones are the same.
type row struct {
	id      sqllog.ID
	epoch   sqllog.Epoch
	payload int // 0 for an epoch row
}

func (r row) String() string { return fmt.Sprintf("%d:%d/%d", r.id, r.epoch, r.payload) }

// event is something that happens at a time, to a process or to the world.
type event struct {
	at  time.Duration
	seq uint64
	p   *process
	f   func()
}

// after has f called after d.
func (w *world) after(d time.Duration, f func()) { w.push(d, nil, f) }

func (w *world) push(d time.Duration, p *process, f func()) {
	w.seq++
	w.events.push(event{at: w.now + max(d, 0), seq: w.seq, p: p, f: f})
}

// run lets everything happen up to a time, or until done.
func (w *world) run(until time.Duration, done func() bool) bool {
	for len(w.events) > 0 && w.events[0].at <= until {
		e := w.events.pop()
		w.now = e.at
		w.count++
		w.happen(e)
		if w.truth.wrong != "" {
			return false
		}
		if done != nil && done() {
			return true
		}
	}
	w.now = until
	return false
}

func (w *world) happen(e event) {
	switch {
	case e.p == nil:
		e.f()
	case e.p.dead:
	case e.p.frozen:
		e.p.held = append(e.p.held, e)
	default:
		e.f()
		if w.crashAt > 0 && w.count >= w.crashAt && !w.calm {
			w.crashAt = 0
			w.tracef("%v dies after this event", e.p)
			w.crash(e.p.n)
			w.restartSoon(e.p.n)
		}
	}
}

// chance reports true with a probability, while things fail at all.
func (w *world) chance(p float64) bool { return !w.calm && p > 0 && w.r.Float64() < p }

// between gives a random time.
func (w *world) between(least, most time.Duration) time.Duration {
	if most <= least {
		return least
	}
	return least + time.Duration(w.r.Int64N(int64(most-least)))
}

func (w *world) tracef(format string, args ...any) {
	if w.out != nil {
		fmt.Fprintf(w.out, "%9.4f  %s\n", w.now.Seconds(), fmt.Sprintf(format, args...))
	}
}

// payload gives a value that no other row has.
func (w *world) payload() int {
	w.payloads++
	return w.payloads
}

// heap orders events by time, and those of one time as they were made.
type heap []event

func (h heap) less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].seq < h[j].seq
}

func (h *heap) push(e event) {
	*h = append(*h, e)
	a := *h
	for i := len(a) - 1; i > 0; {
		up := (i - 1) / 2
		if !a.less(i, up) {
			break
		}
		a[i], a[up] = a[up], a[i]
		i = up
	}
}

func (h *heap) pop() event {
	a := *h
	top := a[0]
	n := len(a) - 1
	a[0] = a[n]
	a[n] = event{}
	a = a[:n]
	for i := 0; ; {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < n; c++ {
			if a.less(c, least) {
				least = c
			}
		}
		if least == i {
			break
		}
		a[i], a[least] = a[least], a[i]
		i = least
	}
	*h = a
	return top
}
