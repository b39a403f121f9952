package simulate

import (
	"slices"
	"time"

	"github.com/kinsy/kinsy/internal/rules"
	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// wait is a read of a Replica that waits until rows up to an id are shown.
type wait struct {
	id    sqllog.ID
	until time.Duration
	done  func(sqllog.ID)
}

// roundWait is a read of the Primary that waits for a round of pings.
type roundWait struct {
	round uint64
	shown sqllog.ID
	until time.Duration
	done  func(shown sqllog.ID, ok bool)
}

// read begins a linearizable read: done is told up to which row it shows. It is not
// called if the read fails.
func (p *process) read(done func(sqllog.ID)) {
	if p.core == nil {
		return
	}
	if role, _ := p.core.Role(); role == elect.Primary {
		p.confirm(func(shown sqllog.ID, ok bool) {
			if ok {
				done(shown)
			}
		})
		return
	}
	primary, _ := p.core.Heard()
	if primary == 0 || primary == p.self {
		return
	}
	p.message(primary, func(q *process) {
		if q.core == nil {
			return
		}
		q.confirm(func(shown sqllog.ID, ok bool) {
			if !ok {
				return
			}
			q.message(p.self, func(here *process) {
				if here == p {
					p.await(shown, done)
				}
			})
		})
	})
}

// await waits until rows up to an id are shown here, and nothing that no Primary has
// called committed: the chain may have rows of which the Primary does not know yet.
func (p *process) await(id sqllog.ID, done func(sqllog.ID)) {
	if s := p.session; s != nil && rules.Broken(rules.CommittedFromStream) {
		p.show(s.f.Committed(id))
	}
	p.heard(id)
	p.waits = append(p.waits, wait{id: id, until: p.local() + second, done: done})
	p.wake()
}

// heard notes what a Primary calls committed.
func (p *process) heard(id sqllog.ID) {
	if id > p.told {
		p.told = id
		p.wake()
	}
}

func (p *process) wake() {
	waits := p.waits
	p.waits = nil
	for _, w := range waits {
		if p.committed < w.id || p.told < p.committed {
			p.waits = append(p.waits, w)
			continue
		}
		p.w.truth.stats.ReplicaReads++
		w.done(p.committed)
	}
}

// confirm finds out whether this process was the Primary after it was called, and
// what was committed then.
func (p *process) confirm(done func(sqllog.ID, bool)) {
	r := p.reign
	if role, _ := p.core.Role(); r == nil || role != elect.Primary {
		done(0, false)
		return
	}
	shown := r.tracker.Committed()
	if r.c.Rule == elect.ObjectStorage {
		p.look(shown, done)
		return
	}
	round, ok := p.core.Read(p.local())
	if !ok {
		done(0, false)
		return
	}
	p.rounds = append(p.rounds, roundWait{round: round, shown: shown, until: p.local() + p.w.p.suspicion/4, done: done})
	p.effects()
}

// confirmed answers the reads that wait for a round up to one.
func (p *process) confirmed(upTo uint64, ok bool) {
	rounds := p.rounds
	p.rounds = nil
	for _, w := range rounds {
		if w.round <= upTo {
			w.done(w.shown, ok)
		} else {
			p.rounds = append(p.rounds, w)
		}
	}
}

// expire gives reads up; those of the Primary look at the chain instead.
func (p *process) expire() {
	now := p.local()
	p.waits = slices.DeleteFunc(p.waits, func(w wait) bool { return w.until < now })
	rounds := p.rounds
	p.rounds = nil
	for _, w := range rounds {
		if w.until >= now {
			p.rounds = append(p.rounds, w)
		} else {
			p.look(w.shown, w.done)
		}
	}
}

// look confirms a read by the chain: nothing follows what this Primary has written.
func (p *process) look(shown sqllog.ID, done func(sqllog.ID, bool)) {
	r := p.reign
	at := r.tracker.Uploaded() + 1
	seen, began := r.seen, p.local()
	var there *chunk
	p.call(func() { there = p.w.store.chunks[at] }, func(err error) {
		switch {
		case err != nil:
			done(0, false)
		case there != nil:
			if there.node != p.self || there.inc != p.inc {
				p.core.Deposed(r.epoch)
			}
			done(0, false) // or its own, which is on its way
		default:
			p.stillThere(r, at, began, seen, func(ok bool) { done(shown, ok) })
		}
	})
}

// stillThere finds out whether a position was found free because nobody has taken
// it, and not because retention has deleted what was there.
func (p *process) stillThere(r *reign, at sqllog.ID, began, seen time.Duration, done func(bool)) {
	fresh := func() {
		r.seen = max(r.seen, began)
		p.w.truth.stats.Looks++
		done(true)
	}
	if p.local()-seen < p.w.p.minAge/4 {
		fresh()
		return
	}
	var floor sqllog.ID
	p.call(func() { floor = p.w.store.floor }, func(err error) {
		if err != nil || floor >= at {
			done(false)
			return
		}
		fresh()
	})
}
