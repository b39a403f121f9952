package mvcc

import (
	"slices"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Batch is what Evaluate calls have changed and the log does not hold yet: the
// rows to append, and what is needed to publish or to undo. Rows is in the order
// of ids. A Batch belongs to one group of the commit pipeline.
type Batch struct {
	Rows  []sqllog.Row
	Bytes int // of keys and values

	records []*record
	leases  []leaseChange
	compact *sqllog.Compaction // of the last compact row
	applied bool               // the rows are another node's
	before  int64              // Store.compact before this batch's first compact row
	last    int64              // revision after the batch
}

// mark is a position in a batch to which a Txn that fails is undone.
type mark struct {
	rows, records, leases, bytes int
}

func (b *Batch) mark() mark {
	return mark{rows: len(b.Rows), records: len(b.records), leases: len(b.leases), bytes: b.Bytes}
}

// Empty reports whether nothing has changed.
func (b *Batch) Empty() bool { return len(b.Rows) == 0 }

// Compacts reports whether the batch holds a compaction: once it is published
// there is something for Scrub to do.
func (b *Batch) Compacts() bool { return b.compact != nil }

// Grants reports whether the batch holds a lease grant: once it is published
// Expired has to be asked anew.
func (b *Batch) Grants() bool {
	return slices.ContainsFunc(b.leases, func(c leaseChange) bool { return !c.revoke })
}

// Reset makes the batch empty for another use. Its rows must not be in use.
func (b *Batch) Reset() {
	clear(b.Rows)
	clear(b.records)
	clear(b.leases)
	*b = Batch{Rows: b.Rows[:0], records: b.records[:0], leases: b.leases[:0]}
}

// addRow appends a row with the next id.
func (s *Store) addRow(b *Batch, row sqllog.Row) sqllog.ID {
	row.ID, row.Epoch = s.nextID, s.epoch
	row.WrittenAt = s.cfg.Now().UnixMilli()
	s.nextID++
	b.Rows = append(b.Rows, row)
	b.Bytes += len(row.Key) + len(row.Value)
	return row.ID
}

// push puts rec in front of its entry. The caller has added its row.
func (s *Store) push(b *Batch, rec *record) {
	rec.prev.Store(rec.entry.head.Load())
	rec.entry.head.Store(rec)
	b.records = append(b.records, rec)
}

// undoTo takes back what the batch holds above m. Store.mu is held.
func (s *Store) undoTo(b *Batch, m mark) {
	for i := len(b.records) - 1; i >= m.records; i-- {
		s.unlink(b.records[i])
	}
	for i := len(b.leases) - 1; i >= m.leases; i-- {
		s.lessor.undo(b.leases[i])
	}
	clear(b.records[m.records:])
	b.records, b.leases = b.records[:m.records], b.leases[:m.leases]
	s.nextID -= sqllog.ID(len(b.Rows) - m.rows)
	b.Rows, b.Bytes = b.Rows[:m.rows], m.bytes
}

// unlink takes a pending record, the head of its entry, away.
func (s *Store) unlink(rec *record) {
	prev := rec.prev.Load()
	rec.entry.head.Store(prev)
	s.lessor.detach(rec.lease, rec.entry, s.committed.Load())
	if prev == nil || prev.dropped {
		s.removeEntry(rec.entry)
	}
}

func (s *Store) removeEntry(e *entry) {
	s.treeMu.Lock()
	s.tree.Delete(treeKey(e.key))
	s.treeMu.Unlock()
}

// Publish makes a batch visible whose rows are durable: it moves the committed
// revision, and wakes the watchers. Batches are published in the order in which
// they were evaluated.
func (s *Store) Publish(b *Batch) {
	if b.Empty() {
		return
	}
	s.history.append(b.records)
	s.rows.Add(int64(len(b.Rows)))
	s.publishEpochs(b.Rows)
	for _, c := range b.leases {
		s.lessor.publish(c, !b.applied)
	}
	last := &b.Rows[len(b.Rows)-1]
	s.head.Store(&sqllog.Head{ID: last.ID, Epoch: last.Epoch, Revision: last.Revision})
	s.committed.Store(b.last)
	s.scrub.publishLeases(b.leases) // after head: what Scrub removes is published
	if b.compact != nil {
		// After committed, which the rows of Apply may compact to. Then in this order:
		// Scrub waits for the readers that saw the old one.
		s.compacted.Store(int64(b.compact.Revision))
		s.scrub.publish(b)
	}
	s.detachReplaced(b.records)
	s.cache.add(b.records)
	s.hub.notify()
}

// detachReplaced takes keys off the leases that their new records no longer
// name.
func (s *Store) detachReplaced(records []*record) {
	committed := s.committed.Load()
	for _, r := range records {
		if prev := r.prev.Load(); prev != nil && prev.lease != 0 && prev.lease != r.lease {
			s.lessor.detach(prev.lease, r.entry, committed)
		}
	}
}

// Rollback undoes batches whose rows are not in the log: all that were evaluated
// since the last published one, in the order of evaluation.
func (s *Store) Rollback(batches ...*Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(batches) - 1; i >= 0; i-- {
		b := batches[i]
		if b.compact != nil {
			s.compact = b.before
		}
		s.undoTo(b, mark{})
		b.compact = nil
	}
	s.revision = s.committed.Load()
	s.nextID = s.Head().ID + 1
}
