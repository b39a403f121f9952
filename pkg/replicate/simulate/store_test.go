package simulate

import (
	"slices"
	"time"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// store is object storage.
type store struct {
	w       *world
	cluster elect.Cluster
	version int    // of cluster.json
	nonce   uint64 // who raised the epoch last
	lock    lock
	chunks  map[sqllog.ID]*chunk
	floor   sqllog.ID // chunks that begin at or below it may be gone
	snaps   []snapshot
	names   []elect.NodeID // registrations, by node
	outage  bool
}

// lock is elector.json.
type lock struct {
	holder  elect.NodeID
	version int
}

// chunk is an object of the chain: its bytes name its writer.
type chunk struct {
	rows  []row
	node  elect.NodeID
	inc   int
	epoch sqllog.Epoch // of the Primary that wrote it
	at    time.Duration
}

func (c *chunk) first() sqllog.ID { return c.rows[0].id }
func (c *chunk) last() sqllog.ID  { return c.rows[len(c.rows)-1].id }

// same reports whether two objects have the same bytes.
func (c *chunk) same(d *chunk) bool {
	return c.node == d.node && c.inc == d.inc && slices.Equal(c.rows, d.rows)
}

type snapshot struct {
	rows []row
}

// call is one request: effect is what it does there, if it gets there; done is told
// what is known of it.
func (p *process) call(effect func(), done func(error)) {
	w := p.w
	reach, back := w.storeDelay(), w.storeDelay()
	answer := func(err error) func() {
		return func() { done(err); p.effects() }
	}
	switch {
	case !w.calm && (w.store.outage || p.n.noStore) || w.chance(w.p.storeFails):
		p.after(reach+back, answer(errUnavailable))
	case w.chance(w.p.storeLoses): // it takes effect, soon or late, and nobody is told
		w.after(reach+w.between(0, w.p.storeLate), effect)
		p.after(reach+back+w.between(0, 50*ms), answer(errUnavailable))
	default:
		w.after(reach, func() {
			effect()
			p.after(back, answer(nil))
		})
	}
}

func (w *world) storeDelay() time.Duration { return w.between(w.p.storeTime/4, w.p.storeTime) }

// put creates a chunk if its name is free.
func (s *store) put(c *chunk) bool {
	if s.chunks[c.first()] != nil {
		return false
	}
	c = &chunk{rows: c.rows, node: c.node, inc: c.inc, epoch: c.epoch, at: s.w.now}
	s.chunks[c.first()] = c
	s.w.tracef("chunk %v..%d is created by %x", c.rows[0], c.last(), uint64(c.node))
	for {
		next := s.chunks[sqllog.ID(len(s.w.truth.chain))+1]
		if next == nil {
			return true
		}
		s.w.truth.extend(next)
	}
}

// chain is what can be read: the newest snapshot and the chunks after it.
func (s *store) chain() []row {
	var rows []row
	if n := len(s.snaps); n > 0 {
		rows = s.snaps[n-1].rows
	}
	return s.after(rows)
}

// after adds the chunks that follow some rows.
func (s *store) after(rows []row) []row {
	rows = rows[:len(rows):len(rows)]
	for {
		c := s.chunks[sqllog.ID(len(rows))+1]
		if c == nil {
			return rows
		}
		rows = append(rows, c.rows...)
	}
}

// readChain reads the chain to where nothing follows. done is told the rows, and
// when it was that nothing followed, by the process's clock.
func (p *process) readChain(done func([]row, time.Duration, error)) {
	var rows []row
	p.call(func() { rows = p.w.store.chain() }, func(err error) {
		if err != nil {
			done(nil, 0, err)
			return
		}
		p.readOn(rows, done)
	})
}

func (p *process) readOn(rows []row, done func([]row, time.Duration, error)) {
	began := p.local()
	var more []row
	p.call(func() { more = p.w.store.after(rows) }, func(err error) {
		switch {
		case err != nil:
			done(nil, 0, err)
		case len(more) > len(rows):
			p.readOn(more, done)
		default:
			done(more, began, nil)
		}
	})
}
