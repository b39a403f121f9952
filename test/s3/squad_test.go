package s3

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// squad is a number of writers at work. They go on whatever happens to the store.
type squad struct {
	writers []*writer
	acks    atomic.Int64
	lastAck atomic.Int64 // when, in ns since the epoch of Unix
	stopped atomic.Bool
	done    sync.WaitGroup
	cancel  context.CancelFunc
	moved   chan struct{} // has an element after an acknowledgement
	faults
}

// faults collects what must not happen. Its methods may be called concurrently.
type faults struct {
	mu   sync.Mutex
	errs []error
}

// fail adds an error; nil is none.
func (f *faults) fail(err error) {
	if err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, err)
}

// found joins the first of them.
func (f *faults) found() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.errs[:min(len(f.errs), 3)]...)
}

// newSquad makes writers whose values begin with a name. They share the clients.
func newSquad(name string, count int, clients []*clientv3.Client, seed uint64) *squad {
	s := &squad{moved: make(chan struct{}, 1), cancel: func() {}}
	for i := range count {
		w := newWriter(fmt.Sprintf("%s/%02d", name, i), clients[i%len(clients)], rand.New(rand.NewPCG(seed, uint64(i))))
		w.tell = s.acknowledged
		s.writers = append(s.writers, w)
	}
	return s
}

func (s *squad) acknowledged() {
	s.acks.Add(1)
	s.lastAck.Store(time.Now().UnixNano())
	select {
	case s.moved <- struct{}{}:
	default:
	}
}

// start lets the writers work.
func (s *squad) start(ctx context.Context) {
	ctx, s.cancel = context.WithCancel(ctx)
	for _, w := range s.writers {
		s.done.Go(func() { s.fail(w.run(ctx, &s.stopped)) })
	}
}

// await returns when a node has acknowledged so many writes more.
func (s *squad) await(ctx context.Context, n *node, writes int64) error {
	ctx, cancel := within(ctx)
	defer cancel()
	for want := s.acks.Load() + writes; s.acks.Load() < want; {
		select {
		case <-s.moved:
		case <-n.proc.ended:
			return fmt.Errorf("%w by itself\n%s", errEnded, n.proc.out.tail())
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%d writes are missing: %w", want-s.acks.Load(), ctx.Err()), s.found())
		}
	}
	return nil
}

// end tells the writers to stop, and waits for them; requests under way are given up where it is said. What they did is
// checked from base on.
func (s *squad) end(base int64, giveUp bool) (*ledger, error) {
	s.stopped.Store(true)
	if giveUp {
		s.cancel()
	}
	s.done.Wait()
	s.cancel()
	l := &ledger{base: base}
	for _, w := range s.writers {
		l.writes = append(l.writes, w.writes...)
		l.sights = append(l.sights, w.sights...)
		l.newest = max(l.newest, w.newest)
	}
	return l, s.found()
}

// verify reads the history above the ledger's base and checks it.
func (l *ledger) verify(ctx context.Context, c *clientv3.Client) (verdict, []event, error) {
	head, err := revision(ctx, c)
	if err != nil {
		return verdict{}, nil, err
	}
	history, err := replay(ctx, c, l.base, head)
	if err != nil {
		return verdict{}, nil, err
	}
	for _, w := range l.writes {
		w.applied = 0
	}
	v, err := l.check(history, head)
	return v, history, err
}
