package mvcc

import "sync/atomic"

// pins tells when every reader that had begun by some moment has left. Readers
// enter and leave without waiting; wait is called by one goroutine at a time.
// Readers count themselves into one of two generations; wait makes the other
// one current and waits for the old one to empty.
type pins struct {
	current atomic.Uint32
	gens    [2]struct {
		readers atomic.Int64
		waiting atomic.Bool
		empty   chan struct{} // size one
		_       [40]byte      // a cache line each
	}
}

func (p *pins) init() {
	for i := range p.gens {
		p.gens[i].empty = make(chan struct{}, 1)
	}
}

// enter counts the caller in. What it reads from then on stays linked until it
// has called leave with the result.
func (p *pins) enter() uint32 {
	for {
		g := p.current.Load() & 1
		p.gens[g].readers.Add(1)
		if p.current.Load()&1 == g {
			return g
		}
		p.leave(g) // wait has come in between, and may not have seen this reader
	}
}

func (p *pins) leave(g uint32) {
	gen := &p.gens[g]
	if gen.readers.Add(-1) == 0 && gen.waiting.Load() {
		select {
		case gen.empty <- struct{}{}:
		default:
		}
	}
}

// wait returns when all readers that entered before the call have left, or stop
// is closed (false).
func (p *pins) wait(stop <-chan struct{}) bool {
	old := p.current.Load() & 1
	// The other generation is empty, unless the last wait was stopped.
	if !p.drain(1-old, stop) {
		return false
	}
	p.current.Store(1 - old)
	return p.drain(old, stop)
}

func (p *pins) drain(g uint32, stop <-chan struct{}) bool {
	gen := &p.gens[g]
	gen.waiting.Store(true)
	defer gen.waiting.Store(false)
	for gen.readers.Load() != 0 {
		select {
		case <-gen.empty:
		case <-stop:
			return false
		}
	}
	return true
}
