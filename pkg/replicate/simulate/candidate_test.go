package simulate

import (
	"slices"
	"time"

	"github.com/kinsy/kinsy/internal/rules"
	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// candidate is a process on its way to be the Primary of an epoch.
type candidate struct {
	p     *process
	c     elect.Cluster
	steps *Candidacy
	end   elect.Position // of the chain, as known
	seen  time.Duration  // when nothing followed it, by the process's clock
	over  bool
}

func (p *process) lead(c elect.Cluster) {
	p.w.tracef("%v is appointed for %d", p, c.Epoch)
	p.endSession()
	p.follows = follows{}
	k := &candidate{p: p, c: c, steps: NewCandidacy(c.Epoch)}
	p.candidacy = k
	if rules.Broken(rules.NothingBeforeFence) { // streams of an unwritten fence
		p.reign = newReign(p, c, p.d.rows, 0)
	}
	k.next()
}

func (k *candidate) next() {
	if k.over {
		return
	}
	switch k.steps.Step() {
	case ReadChain:
		k.read()
	case Upload:
		rows := k.p.d.rows[k.end.ID:]
		k.put(rows[:min(len(rows), 1+k.p.w.r.IntN(30))])
	case WriteFence:
		k.writeFence()
	case AppendFence:
		k.appendFence()
	case Lead:
		k.become()
	case GiveUp:
		k.giveUp()
	}
}

func (k *candidate) fence() row { return row{id: k.steps.Fence(), epoch: k.c.Epoch} }

// read reads the chain and brings the log to it.
func (k *candidate) read() {
	p := k.p
	if rules.Broken(rules.ChainReadToEnd) {
		p.operate(func() error { return nil }, func(error) {
			if !k.over {
				k.end, k.seen = end(p.d.rows), p.local()
				k.steps.Read(head(k.end), k.end.ID)
				k.next()
			}
		})
		return
	}
	p.readChain(func(chain []row, seen time.Duration, err error) {
		switch {
		case k.over:
		case err != nil:
			p.after(p.w.between(10*ms, 50*ms), func() { k.next() })
		default:
			k.end, k.seen = end(chain), seen
			k.meet(chain)
		}
	})
}

// head is a position as the log gives it.
func head(at elect.Position) sqllog.Head { return sqllog.Head{ID: at.ID, Epoch: at.Epoch} }

func (k *candidate) meet(chain []row) {
	p := k.p
	if k.end.Epoch >= k.c.Epoch && !rules.Broken(rules.HigherEpochEnds) {
		k.steps.Read(head(k.end), k.end.ID)
		k.next()
		return
	}
	live := func() bool { return !k.over }
	p.takeOver(k.c.Epoch, chain, rules.Broken(rules.FenceAfterBacklog), live, func(err error) {
		switch {
		case k.over:
		case err != nil:
			k.giveUp()
		default:
			k.steps.Read(head(k.end), sqllog.ID(len(p.d.rows)))
			k.next()
		}
	})
}

// takeOver makes the log hold the chain's rows: what disagrees is cut, and with all
// what is beyond the chain, too. It stops when the role has ended for which it is.
func (p *process) takeOver(e sqllog.Epoch, chain []row, all bool, live func() bool, done func(error)) {
	p.operate(func() error { return nil }, func(error) {
		if !live() {
			return
		}
		log := p.d.rows
		n := 0
		for n < len(log) && n < len(chain) && log[n] == chain[n] {
			n++
		}
		if n == len(log) || n == len(chain) && !all {
			p.takeRows(e, chain, done)
			return
		}
		if n < int(p.committed) {
			p.w.truth.complain("%v cuts its log to row %d by the chain, and shows rows up to %d", p, n, p.committed)
		}
		p.w.tracef("%v cuts its log to row %d by the chain", p, n)
		p.truncateIn(e, sqllog.ID(n), func(err error) {
			switch {
			case !live():
			case err != nil:
				done(err)
			default:
				p.takeRows(e, chain, done)
			}
		})
	})
}

func (p *process) takeRows(e sqllog.Epoch, chain []row, done func(error)) {
	if len(chain) <= len(p.d.rows) {
		done(nil)
		return
	}
	p.appendIn(e, chain[len(p.d.rows):], done)
}

// put writes rows as the next chunk.
func (k *candidate) put(rows []row) {
	p := k.p
	c := &chunk{rows: slices.Clone(rows), node: p.self, inc: p.inc, epoch: k.c.Epoch}
	p.put(c, k.seen, func() bool { return !k.over }, func(at time.Duration, ok bool) {
		switch {
		case k.over:
		case ok:
			k.end, k.seen = end(c.rows), at
			k.steps.Created(c.last())
			k.next()
		default:
			k.steps.Taken()
			k.next()
		}
	})
}

func (k *candidate) writeFence() {
	p := k.p
	if !rules.Broken(rules.EpochRowAfterChunk) || end(p.d.rows).Epoch == k.c.Epoch {
		k.put([]row{k.fence()})
		return
	}
	fence := k.fence()
	p.appendIn(k.c.Epoch, []row{fence}, func(err error) {
		if err != nil || k.over {
			k.giveUp()
			return
		}
		k.put([]row{fence})
	})
}

func (k *candidate) appendFence() {
	p := k.p
	if end(p.d.rows).Epoch == k.c.Epoch { // it is there already: rule 17 is broken
		k.steps.Appended()
		k.next()
		return
	}
	fence := row{id: k.end.ID, epoch: k.c.Epoch}
	p.appendIn(k.c.Epoch, []row{fence}, func(err error) {
		switch {
		case k.over:
		case err != nil:
			k.giveUp()
		default:
			k.steps.Appended()
			k.next()
		}
	})
}

func (k *candidate) become() {
	p := k.p
	p.w.tracef("%v leads epoch %d from row %d", p, k.c.Epoch, len(p.d.rows))
	p.w.truth.lead(p, k.c.Epoch, p.d.rows)
	p.w.truth.stats.Fences++
	k.over, p.candidacy = true, nil
	p.reign = newReign(p, k.c, p.d.rows, k.seen)
	p.show(sqllog.ID(len(p.d.rows)))
	p.core.Led(p.local(), k.c.Epoch, true)
	p.reign.settle()
}

func (k *candidate) giveUp() {
	if k.over {
		return
	}
	p := k.p
	p.w.tracef("%v gives epoch %d up", p, k.c.Epoch)
	p.w.truth.stats.GaveUp++
	k.over, p.candidacy = true, nil
	p.core.Led(p.local(), k.c.Epoch, false)
}

// put creates a chunk, and finds out whose its position is; done is told that once
// it is known. While live says so a request without an answer is sent again.
func (p *process) put(c *chunk, seen time.Duration, live func() bool, done func(time.Duration, bool)) {
	created := false
	began := p.local()
	p.call(func() { created = p.w.store.put(c) }, func(err error) {
		switch {
		case err != nil && live():
			p.after(p.w.between(5*ms, 40*ms), func() {
				if live() {
					p.put(c, seen, live, done)
				}
			})
		case err != nil:
		case created || rules.Broken(rules.RefusedPutIsRead):
			p.counts(c, began, seen, live, done)
		default:
			p.whose(c, began, seen, live, done)
		}
	})
}

// whose reads the object at a position that is taken.
func (p *process) whose(c *chunk, began, seen time.Duration, live func() bool, done func(time.Duration, bool)) {
	var there *chunk
	p.call(func() { there = p.w.store.chunks[c.first()] }, func(err error) {
		switch {
		case err != nil && live():
			p.after(p.w.between(5*ms, 40*ms), func() {
				if live() {
					p.whose(c, began, seen, live, done)
				}
			})
		case err != nil:
		case there != nil && there.same(c):
			p.counts(c, began, seen, live, done)
		default:
			done(began, false)
		}
	})
}

// counts finds out whether a chunk that was created is one of the chain: a writer
// that slept may have created one where retention has deleted another's.
func (p *process) counts(c *chunk, began, seen time.Duration, live func() bool, done func(time.Duration, bool)) {
	if p.local()-seen < p.w.p.minAge/4 {
		done(began, true)
		return
	}
	var floor sqllog.ID
	p.call(func() { floor = p.w.store.floor }, func(err error) {
		switch {
		case err != nil && live():
			p.after(p.w.between(5*ms, 40*ms), func() {
				if live() {
					p.counts(c, began, seen, live, done)
				}
			})
		case err != nil:
		default:
			done(began, floor < c.first())
		}
	})
}
