package replicate

import (
	"context"
	"fmt"
	"time"
)

// stuckAfter is how long a write may wait for its commit before its Primary counts as
// one that cannot commit.
const stuckAfter = 4 * time.Second

// stuckErr says that nothing was committed for long although there is something to
// commit.
func (q *quorum) stuckErr() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.pending) == 0 {
		return nil
	}
	if age := time.Since(q.pending[0].closed); age > stuckAfter {
		return fmt.Errorf("%w for %s: too few nodes answer, and object storage takes nothing", ErrUnavailable, age.Round(time.Second))
	}
	return nil
}

// confirmLimit bounds how long a Primary that hears too few voters waits for object
// storage when it is asked for its health.
const confirmLimit = 500 * time.Millisecond

// unconfirmed says why a Primary may be one in its own eyes only: too few voters have
// answered of late, as where it is cut off, and object storage does not tell either.
func (m *Member) unconfirmed(q *quorum) error {
	q.mu.Lock()
	members, need := q.tracker.Quorum()
	q.mu.Unlock()
	if need == 0 {
		return nil // it looks at object storage all the time
	}
	answer := 0
	for _, n := range members {
		if n == m.self || m.control.answers(n, m.cfg.Suspicion) {
			answer++
		}
	}
	if answer >= need {
		return nil
	}
	ctx, cancel := context.WithTimeout(m.ctx, confirmLimit)
	defer cancel()
	if err := m.archive.Confirm(ctx); err != nil {
		return fmt.Errorf("%d of %d voters answer, and object storage does not confirm that this node is primary: %w", answer, len(members), err)
	}
	return nil
}

// fallBack notes that rows need object storage for their commit, until receipts do
// again.
func (q *quorum) fallBack() {
	q.mu.Lock()
	_, need := q.tracker.Quorum()
	begins := need > 0 && !q.fallen
	q.fallen = q.fallen || begins
	q.mu.Unlock()
	if begins && q.cfg.FellBack != nil {
		q.cfg.FellBack()
	}
}

// silence says that the disk gives no answer.
func (m *Member) silence() string {
	return fmt.Sprintf("the disk has not answered for %s", m.room.silent().Round(time.Second))
}

// replicaProblems say why a Replica is not healthy. What is wrong with its disk is
// another matter.
func (m *Member) replicaProblems() []string {
	node, _, _ := m.leader.get()
	behind := m.behind.Load()
	switch {
	case node == 0, m.metrics.silentFor(m.cfg.Clock()) > m.cfg.Suspicion/2:
		return []string{"etcdserver: no leader"}
	case !m.streaming.Load():
		return []string{"this node does not receive rows from the primary"}
	case behind > caughtUp:
		return []string{fmt.Sprintf("this node is %d rows behind the primary", behind)}
	case !m.joined.Load():
		return []string{"this node has not caught up with the primary yet"}
	}
	return nil
}

// caught notes how far the index is behind what the Primary has committed. The node is
// loading until it was not behind for the first time.
func (m *Member) caught(behind int64) {
	m.behind.Store(behind)
	if behind <= 0 {
		m.joined.Store(true)
	}
}
