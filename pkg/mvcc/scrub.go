package mvcc

import (
	"fmt"
	"slices"
	"sync"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// errInterrupted: stop was closed; the rest is done by the next call.
var errInterrupted = fmt.Errorf("scrub: %w", ErrClosed)

// scrubState is what Scrub has to do.
type scrubState struct {
	mu         sync.Mutex
	due        bool
	compaction sqllog.Compaction // newest committed
	rows       []sqllog.ID       // rows of leases gone and of compactions

	garbage []sqllog.ID // unlinked, and not yet removed from the log; Scrub's own
}

// publishLeases takes note of committed revocations: of the rows of the leases and of
// their own.
func (c *scrubState) publishLeases(changes []leaseChange) {
	for _, change := range changes {
		if change.revoke {
			c.addRows(change.lease.row, change.row)
		}
	}
}

func (c *scrubState) addRows(ids ...sqllog.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rows = append(c.rows, ids...)
}

// publish takes note of a committed compaction.
func (c *scrubState) publish(b *Batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range b.Rows {
		if b.Rows[i].Kind == sqllog.KindCompact {
			c.rows = append(c.rows, b.Rows[i].ID)
		}
	}
	c.compaction = *b.compact
	c.due = true
}

// EvaluateCompact adds the row that compacts to rev. ErrCompacted if that was
// done already, ErrFutureRevision above the committed revision. No revision
// moves. A compaction to 0, which a store that was never compacted takes once,
// adds no row.
func (s *Store) EvaluateCompact(b *Batch, rev int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case rev <= s.compact:
		return ErrCompacted
	case rev > s.committed.Load():
		return ErrFutureRevision
	case rev == 0: // frees nothing, so that there is nothing to record
		s.compact = 0
		s.compacted.Store(0)
		return nil
	}
	var deleted []sqllog.DeletedKey
	for _, r := range s.history.from(nil, rev, rev, 1) {
		if r.tombstone {
			deleted = append(deleted, sqllog.DeletedKey{Sub: int64(r.sub), Key: r.entry.key})
		}
	}
	s.addRow(b, sqllog.Row{
		Kind: sqllog.KindCompact, Revision: sqllog.Revision(s.revision),
		CreateRevision: sqllog.Revision(rev), Value: sqllog.EncodeDeleted(deleted),
	})
	if b.compact == nil {
		b.before = s.compact
	}
	b.compact = &sqllog.Compaction{Revision: sqllog.Revision(rev), Deleted: deleted}
	b.last = s.revision
	s.compact = rev
	return nil
}

// removeRows deletes rows from the log and records what compacted them.
type removeRows = func([]sqllog.ID, sqllog.Compaction) error

// Scrub frees what the committed compactions have made unreachable: it unlinks
// it, and calls remove with the ids of its rows, ascending, at most step() at a
// time. It waits for the readers that may still see it. One call at a time; when
// it fails or stop is closed, the next call goes on where it stopped.
func (s *Store) Scrub(stop <-chan struct{}, step func() int, remove removeRows) error {
	c := &s.scrub
	c.mu.Lock()
	compaction := c.compaction
	c.due = false
	c.mu.Unlock()
	if compaction.Revision == 0 {
		return nil
	}
	err := s.scrubTo(compaction, stop, step, remove)
	if len(c.garbage) > 0 || err != nil {
		c.mu.Lock()
		c.due = true
		c.mu.Unlock()
	}
	return err
}

func (s *Store) scrubTo(compaction sqllog.Compaction, stop <-chan struct{}, step func() int, remove removeRows) error {
	c := &s.scrub
	if !s.pins.wait(stop) {
		return errInterrupted
	}
	s.unlinkUpTo(int64(compaction.Revision))
	c.mu.Lock()
	c.garbage = append(c.garbage, c.rowsBefore(compaction)...)
	c.mu.Unlock()
	slices.Sort(c.garbage)
	return s.removeGarbage(stop, step, compaction, remove)
}

// rowsBefore takes the dead rows that are older than any compaction newer than
// c: the row of a newer one must not go before what it says is recorded.
func (c *scrubState) rowsBefore(compaction sqllog.Compaction) []sqllog.ID {
	rows := c.rows
	if c.compaction.Revision != compaction.Revision {
		return nil
	}
	c.rows = nil
	return rows
}

// unlinkUpTo unlinks, in short steps, what is superseded or deleted at rev.
func (s *Store) unlinkUpTo(rev int64) {
	var buf []*record
	for from := int64(0); ; {
		buf = s.history.from(buf[:0], from, rev, s.cfg.limits.scrubRecords)
		if len(buf) == 0 {
			break
		}
		s.unlinkSome(buf)
		from = buf[len(buf)-1].mod + 1
	}
	// Watchers in step must have been offered what is dropped, and those behind
	// must see what was compacted: hub.mu is taken after compacted was set.
	s.hub.dispatch()
	s.history.drop(rev)
}

func (s *Store) unlinkSome(records []*record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range records {
		if prev := r.prev.Load(); prev != nil {
			if !prev.tombstone {
				s.scrub.garbage = append(s.scrub.garbage, prev.id)
				prev.dropped = true
			}
			r.prev.Store(nil)
		}
		if !r.tombstone || r.dropped {
			continue
		}
		s.scrub.garbage = append(s.scrub.garbage, r.id)
		r.dropped = true
		if r.entry.head.Load() == r {
			s.removeEntry(r.entry)
		}
	}
}

func (s *Store) removeGarbage(stop <-chan struct{}, step func() int, compaction sqllog.Compaction, remove removeRows) error {
	c := &s.scrub
	for len(c.garbage) > 0 {
		select {
		case <-stop:
			return errInterrupted
		default:
		}
		n := min(max(step(), 1), len(c.garbage))
		if err := remove(c.garbage[:n], compaction); err != nil {
			return err
		}
		s.rows.Add(-int64(n))
		c.garbage = c.garbage[n:]
	}
	c.garbage = nil
	return nil
}

// ScrubDue reports whether Scrub has something to do.
func (s *Store) ScrubDue() bool {
	s.scrub.mu.Lock()
	defer s.scrub.mu.Unlock()
	return s.scrub.due
}

// Rows is how many rows the log keeps.
func (s *Store) Rows() int64 { return s.rows.Load() }
