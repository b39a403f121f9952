package mvcc

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

func newPins() *pins {
	p := &pins{}
	p.init()
	return p
}

// waitFor starts a wait and gives its result when it is over.
func waitFor(p *pins, stop chan struct{}) <-chan bool {
	over := make(chan bool, 1)
	go func() { over <- p.wait(stop) }()
	return over
}

// flipped blocks until a wait has made gen's successor current.
func flipped(p *pins, from uint32) {
	for p.current.Load()&1 == from {
		runtime.Gosched()
	}
}

func TestPinsWaitForEarlierReaders(t *testing.T) {
	p := newPins()
	first := p.enter()
	over := waitFor(p, nil)
	flipped(p, first)
	later := p.enter() // does not hold the wait up
	select {
	case <-over:
		t.Fatal("the wait is over while a reader is in")
	default:
	}
	p.leave(first)
	if !<-over {
		t.Fatal("the wait was stopped")
	}
	p.leave(later)
}

func TestPinsStoppedWaitForgetsNobody(t *testing.T) {
	p := newPins()
	first := p.enter()
	stop := make(chan struct{})
	over := waitFor(p, stop)
	flipped(p, first)
	close(stop)
	if <-over {
		t.Fatal("a stopped wait was through")
	}
	over = waitFor(p, nil)
	for !p.gens[first].waiting.Load() { // until it waits for the reader
		runtime.Gosched()
	}
	select {
	case <-over:
		t.Fatal("the second wait did not wait for a reader from before the first")
	default:
	}
	p.leave(first)
	if !<-over {
		t.Fatal("the wait was stopped")
	}
}

// TestPinsConcurrently takes things away behind a wait: no reader that holds a
// pin may see one that is gone.
func TestPinsConcurrently(t *testing.T) {
	p := newPins()
	type thing struct{ gone atomic.Bool }
	var current atomic.Pointer[thing]
	current.Store(&thing{})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				pin := p.enter()
				x := current.Load()
				for range 20 {
					if x.gone.Load() {
						t.Error("a pinned reader sees what is gone")
					}
				}
				p.leave(pin)
				runtime.Gosched()
			}
		})
	}
	for range 2000 {
		old := current.Swap(&thing{})
		p.wait(nil)
		old.gone.Store(true)
	}
	close(stop)
	wg.Wait()
}
