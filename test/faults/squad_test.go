package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// squad is a number of writers at work.
type squad struct {
	writers []*writer
	stopped atomic.Bool
	left    atomic.Int64
	enough  chan struct{} // closed when the wanted number of writes is acknowledged
	done    sync.WaitGroup
}

// newSquad makes writers whose values begin with a name. They share the clients.
func newSquad(name string, count int, clients []*clientv3.Client, seed uint64, multi bool) *squad {
	s := &squad{enough: make(chan struct{})}
	for i := range count {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		w := newWriter(fmt.Sprintf("%s/%02d", name, i), clients[i%len(clients)], rng, multi)
		w.tell = func() {
			if s.left.Add(-1) == 0 {
				close(s.enough)
			}
		}
		s.writers = append(s.writers, w)
	}
	return s
}

// start lets the writers work; enough is closed after a number of acknowledged writes.
func (s *squad) start(ctx context.Context, writes int64) {
	s.left.Store(writes)
	for _, w := range s.writers {
		s.done.Go(func() { w.run(ctx, &s.stopped) })
	}
}

// await returns when enough is closed, or with the reason why all writers have ended before.
func (s *squad) await() error {
	ended := make(chan struct{})
	go func() {
		s.done.Wait()
		close(ended)
	}()
	select {
	case <-s.enough:
		return nil
	case <-ended:
		return s.fault()
	}
}

// end tells the writers to stop, and waits for them. What they did is checked from base on.
func (s *squad) end(base int64) *ledger {
	s.stopped.Store(true)
	s.done.Wait()
	l := &ledger{base: base}
	for _, w := range s.writers {
		l.take(w)
	}
	return l
}

// fault joins the reasons why writers ended before they were told to.
func (s *squad) fault() error {
	var errs []error
	for _, w := range s.writers {
		errs = append(errs, w.fault)
	}
	return errors.Join(errs...)
}

// verify reads the history above the ledger's base and checks it.
func (l *ledger) verify(ctx context.Context, c *clientv3.Client) (verdict, error) {
	head, err := revision(ctx, c)
	if err != nil {
		return verdict{}, err
	}
	history, _, err := replay(ctx, c, l.base, head)
	if err != nil {
		return verdict{}, err
	}
	for _, w := range l.writes {
		w.applied = 0
	}
	return l.check(history, head)
}
