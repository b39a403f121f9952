package replicate

import (
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
