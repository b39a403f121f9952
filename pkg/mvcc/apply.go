package mvcc

import (
	"fmt"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Apply makes committed rows visible that another node's evaluation has made: it
// brings the index to the state that evaluating and publishing them has brought
// that node's to. The rows follow Head (sqllog.ErrGap) and hold whole revisions:
// what cuts one in two is found by the call that brings its second part. Rows that
// break an invariant of the log are sqllog.ErrInvalidRow, those that contradict
// the index ErrDiverged, and while evaluated rows wait for Publish or Rollback no
// row is taken (ErrPending). After an error nothing has changed. The rows must be
// in the log. Apply is called by the goroutine that calls Publish. It keeps the
// values of the rows, which must not be changed any more, but neither their keys
// nor the slice.
func (s *Store) Apply(rows []sqllog.Row) error {
	if len(rows) == 0 {
		return nil
	}
	head := s.Head()
	if err := sqllog.Follows(head, rows); err != nil {
		return fmt.Errorf("apply rows: %w", err)
	}
	b := &s.applying
	if err := s.replay(b, head, rows); err != nil {
		return fmt.Errorf("apply rows: %w", err)
	}
	b.Rows, b.applied = rows, true
	s.Publish(b)
	b.Rows = nil // the caller's: Reset would clear them
	b.Reset()
	return nil
}

// replay does to the index what evaluating the rows has done on their Primary: on
// success all of b but its rows is set.
func (s *Store) replay(b *Batch, head sqllog.Head, rows []sqllog.Row) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nextID != head.ID+1 {
		return fmt.Errorf("%w: next row is %d, the head %d", ErrPending, s.nextID, head.ID)
	}
	b.before = s.compact
	for i := range rows {
		if err := s.replayRow(b, &rows[i]); err != nil {
			s.compact = b.before
			s.undoTo(b, mark{})
			b.Reset()
			return err
		}
	}
	last := &rows[len(rows)-1]
	s.revision, s.nextID, s.epoch = int64(last.Revision), last.ID+1, last.Epoch
	b.last = s.revision
	return nil
}

func (s *Store) replayRow(b *Batch, r *sqllog.Row) error {
	switch r.Kind {
	case sqllog.KindPut, sqllog.KindDelete:
		return s.replayChange(b, r)
	case sqllog.KindLease:
		return s.replayLease(b, r)
	case sqllog.KindCompact:
		return s.replayCompact(b, r)
	case sqllog.KindEpoch, sqllog.KindMember:
	}
	return nil
}

// replayChange puts the record of a put or delete row in front of its entry.
func (s *Store) replayChange(b *Batch, r *sqllog.Row) error {
	e := s.entry(r.Key)
	var replaced int64
	if e != nil {
		if prev := e.head.Load(); !prev.tombstone {
			replaced = prev.mod
		}
	}
	tombstone := r.Kind == sqllog.KindDelete
	if replaced != int64(r.PrevRevision) || replaced == 0 && tombstone {
		return fmt.Errorf("%w: row %d replaces a value of revision %d, the index has one of %d",
			ErrDiverged, r.ID, r.PrevRevision, replaced)
	}
	if e == nil {
		e = s.newEntry(r.Key)
	}
	rec := &record{entry: e, id: r.ID, mod: int64(r.Revision), sub: int32(r.Sub), tombstone: tombstone}
	if !tombstone {
		rec.create, rec.version, rec.lease = int64(r.CreateRevision), r.Version, r.Lease
		rec.size = int32(len(r.Value))
		rec.setValue(r.Value)
	}
	s.push(b, rec)
	s.lessor.attach(rec.lease, e)
	return nil
}

// replayLease grants a lease, or revokes it; the deletes of its keys came before.
func (s *Store) replayLease(b *Batch, r *sqllog.Row) error {
	if r.Version > 0 {
		// Its id may be that of a lease that is revoked by a row before.
		if s.lessor.exists(r.Lease) {
			return fmt.Errorf("%w: row %d grants lease %d, which there is", ErrDiverged, r.ID, r.Lease)
		}
		b.leases = append(b.leases, s.lessor.grant(r.Lease, r.Version, r.ID))
		return nil
	}
	le := s.lessor.startRevoke(r.Lease)
	if le == nil {
		return fmt.Errorf("%w: row %d revokes lease %d, which there is not", ErrDiverged, r.ID, r.Lease)
	}
	b.leases = append(b.leases, leaseChange{lease: le, revoke: true, row: r.ID})
	return nil
}

func (s *Store) replayCompact(b *Batch, r *sqllog.Row) error {
	if int64(r.CreateRevision) <= s.compact {
		return fmt.Errorf("%w: row %d compacts to revision %d, the index is compacted to %d",
			ErrDiverged, r.ID, r.CreateRevision, s.compact)
	}
	deleted, err := sqllog.DecodeDeleted(r.Value)
	if err != nil {
		return fmt.Errorf("row %d: %w", r.ID, err)
	}
	b.compact = &sqllog.Compaction{Revision: r.CreateRevision, Deleted: deleted}
	s.compact = int64(r.CreateRevision)
	return nil
}
