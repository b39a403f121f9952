package simulate

import (
	"errors"
	"slices"

	"github.com/kinsy/kinsy/internal/rules"
	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

var (
	errPromised    = errors.New("a higher epoch is promised")
	errGap         = errors.New("rows do not follow the log")
	errUnavailable = errors.New("object storage does not answer")
	errFull        = errors.New("disk is full")
)

// disk is what of a node outlives its processes. Each operation is one transaction.
type disk struct {
	id      elect.NodeID
	promise sqllog.Epoch
	rows    []row // row i has id i+1
}

func end(rows []row) elect.Position {
	if len(rows) == 0 {
		return elect.Position{}
	}
	last := rows[len(rows)-1]
	return elect.Position{ID: last.id, Epoch: last.epoch}
}

// operation is what a process wants of its disk: do is the transaction, done is
// told when it is durable.
type operation struct {
	do   func() error
	done func(error)
}

// operate queues an operation: there is one writer.
func (p *process) operate(do func() error, done func(error)) {
	p.queue = append(p.queue, operation{do, done})
	if len(p.queue) == 1 {
		p.nextOperation()
	}
}

func (p *process) nextOperation() {
	took := p.w.between(p.w.p.fsync/4, p.w.p.fsync)
	if p.w.now < p.n.slowUntil && !p.w.calm {
		took = p.w.between(took, 150*ms)
	}
	p.after(took, func() {
		op := p.queue[0]
		err := op.do()
		p.queue = p.queue[1:]
		if len(p.queue) > 0 {
			p.nextOperation()
		}
		op.done(err)
		p.effects()
	})
}

// loseOperations is a crash: the operation under way is done, or is not.
func (p *process) loseOperations() {
	if len(p.queue) > 0 && p.w.r.IntN(2) == 0 {
		_ = p.queue[0].do()
	}
	p.queue = nil
}

// full reports whether a disk has no room. What that means for rows is left to chance: a
// node that says so may have the newest log, and lead.
func (w *world) full(n *node) bool { return !w.calm && w.now < n.fullUntil }

// makePromise makes a promise durable and tells where the log ended after it.
func (p *process) makePromise(e sqllog.Epoch) {
	d := p.d
	if rules.Broken(rules.PromiseBeforeAnswer) {
		p.core.Promised(e, end(d.rows))
		p.after(p.w.between(0, second), func() {
			p.operate(func() error { d.promise = max(d.promise, e); return nil }, func(error) {})
		})
		return
	}
	var last elect.Position
	p.operate(func() error {
		if e < d.promise {
			return errPromised
		}
		if p.w.full(p.n) && p.w.chance(0.3) {
			return errFull
		}
		d.promise, last = e, end(d.rows)
		return nil
	}, func(err error) {
		if err != nil {
			p.core.PromiseFailed()
			p.core.Raised(d.promise)
			return
		}
		p.w.tracef("%v promises %d, its log ends at %v", p, e, last)
		p.core.Promised(e, last)
	})
}

// write runs a transaction of an epoch that changes the log.
func (p *process) write(e sqllog.Epoch, change func(), done func(error)) {
	d := p.d
	early := rules.Broken(rules.PromiseCheckedInAppend)
	allowed := e >= d.promise
	p.operate(func() error {
		if !early {
			allowed = e >= d.promise
		}
		if !allowed {
			return errPromised
		}
		if !rules.Broken(rules.PromiseCoversRows) {
			d.promise = max(d.promise, e)
		}
		change()
		return nil
	}, done)
}

// appendIn appends rows that follow the log.
func (p *process) appendIn(e sqllog.Epoch, rows []row, done func(error)) {
	d := p.d
	rows = slices.Clone(rows)
	gap := false
	p.write(e, func() {
		if gap = len(rows) > 0 && int(rows[0].id) != len(d.rows)+1; !gap {
			d.rows = append(d.rows, rows...)
		}
	}, func(err error) {
		if gap {
			p.w.truth.impossible("%v appends row %d to a log that ends elsewhere", p, rows[0].id)
			err = errGap
		}
		done(err)
	})
}

// truncateIn cuts the log after a row.
func (p *process) truncateIn(e sqllog.Epoch, to sqllog.ID, done func(error)) {
	d := p.d
	p.write(e, func() { d.rows = slices.Clone(d.rows[:min(int(to), len(d.rows))]) }, done)
}
