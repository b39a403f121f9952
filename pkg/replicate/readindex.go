package replicate

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// readIndex asks the Primary up to where it has acknowledged rows, for all reads of
// this node that arrive while the question before is under way.
type readIndex struct {
	mu   sync.Mutex
	next *question // not asked yet; nil if nobody waits
	busy bool
}

// question is one of them.
type question struct {
	done chan struct{}
	id   sqllog.ID
	err  error // both set before done is closed
}

// confirmReplica returns nil when this Replica's index holds everything that was
// acknowledged before it was called.
func (m *Member) confirmReplica(ctx context.Context) error {
	ctx, cancel := m.untilClosed(ctx)
	defer cancel()
	r := &m.reads
	r.mu.Lock()
	if r.next == nil {
		r.next = &question{done: make(chan struct{})}
	}
	q := r.next
	if !r.busy {
		r.busy = m.spawn(m.askPrimary)
	}
	r.mu.Unlock()
	select {
	case <-q.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if q.err != nil {
		return q.err
	}
	if err := m.applier.reached.wait(ctx, q.id); err != nil {
		return err
	}
	// An index that was loaded from object storage may be ahead of what the Primary
	// knows to be committed: another read, there, would go back.
	m.applier.heard.open(q.id)
	return m.applier.heard.wait(ctx, m.store.Head().ID)
}

// askPrimary asks for as long as reads wait.
func (m *Member) askPrimary() {
	r := &m.reads
	for {
		r.mu.Lock()
		q := r.next
		r.next = nil
		r.busy = q != nil
		r.mu.Unlock()
		if q == nil {
			return
		}
		q.id, q.err = m.primaryCommitted(m.ctx)
		close(q.done)
	}
}

// primaryCommitted asks whoever is Primary; the question has no effect, so that
// another one may be asked next.
func (m *Member) primaryCommitted(ctx context.Context) (sqllog.ID, error) {
	ctx, cancel := context.WithTimeout(ctx, leaderPatience)
	defer cancel()
	for {
		node, epoch, err := m.leader.await(ctx, 0)
		if err != nil {
			return 0, m.noPrimary()
		}
		id, err := m.askOne(ctx, node, epoch)
		if err == nil {
			return id, nil
		}
		if ctx.Err() != nil {
			return 0, fmt.Errorf("%w: %w", m.noPrimary(), err)
		}
		if m.ctx.Err() != nil {
			return 0, ErrStopped
		}
		pause(ctx, followFirst)
	}
}

func (m *Member) noPrimary() error {
	if m.ctx.Err() != nil {
		return ErrStopped
	}
	return fmt.Errorf("%w: no primary is known", ErrNotPrimary)
}

func (m *Member) askOne(ctx context.Context, node elect.NodeID, epoch sqllog.Epoch) (sqllog.ID, error) {
	if node != m.self {
		// A frozen Primary is not waited for longer than it takes to suspect it.
		ctx, cancel := context.WithTimeout(ctx, m.cfg.Suspicion)
		defer cancel()
		return m.peers.Committed(ctx, node, epoch)
	}
	if m.primary() == nil {
		return 0, errNotSentYet
	}
	id := m.store.Head().ID
	err := m.confirmPrimary(ctx)
	if errors.Is(err, peer.ErrClosed) {
		err = ErrStopped
	}
	return id, err
}
