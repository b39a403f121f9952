package sqllog

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Truncate removes every row above to.ID and makes `to` the head, durably. It is
// for rows that were never committed. A head above the present one, or below
// rows that Remove has taken away, is ErrGap; one whose epoch and revision
// contradict the rows that stay is ErrInvalidRow. ctx is looked at before
// Truncate begins.
func (l *Log) Truncate(ctx context.Context, to Head) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return l.truncateLocked(0, to)
}

// truncateLocked truncates in epoch e; 0 if there is none to promise. The caller
// has checked the promise.
func (l *Log) truncateLocked(e Epoch, to Head) error {
	head := l.Head()
	switch {
	case to.ID < 0 || to.ID > head.ID:
		return fmt.Errorf("%w: truncate to %d with the head at %d", ErrGap, to.ID, head.ID)
	case to.ID < l.removed.ID:
		return fmt.Errorf("%w: truncate to %d below row %d, which is compacted", ErrGap, to.ID, l.removed.ID)
	case to == head:
		return l.promiseLocked(e)
	}
	raise := l.raiseTo(e)
	err := l.moveHeadLocked(func(w *writer) error {
		if err := w.mayEndAt(to, head, l.removed); err != nil {
			return err
		}
		if err := w.truncate.bind(int64(to.ID)).exec(); err != nil {
			return err
		}
		err := w.putMeta(metaHead, encodeHead(to))
		if err == nil && raise > 0 {
			err = w.putPromise(raise)
		}
		if err == nil && l.recorded > to.ID {
			err = w.putCommitted(to)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("truncate above row %d: %w", to.ID, err)
	}
	l.raised(raise)
	l.recorded = min(l.recorded, to.ID)
	l.head.Store(&to)
	l.ckpt.wrote(int64(head.ID-to.ID) * rowOverhead)
	return nil
}

// mayEndAt checks that the epoch and revision of a new head are those of the
// row, or, where compaction has removed it, lie between those of its
// neighbours.
func (w *writer) mayEndAt(to, head, removed Head) error {
	low, err := lastRow(w.last, to.ID)
	if err != nil {
		return err
	}
	if removed.ID > low.ID && removed.Epoch > 0 {
		low = removed
	}
	high := head
	if to.ID == low.ID {
		high = low
	}
	if to.ID > 0 && to.Epoch < 1 || to.Epoch < low.Epoch || to.Epoch > high.Epoch ||
		to.Revision < low.Revision || to.Revision > high.Revision {
		return fmt.Errorf("%w: head %d has epoch %d and revision %d, the log there %d and %d",
			ErrInvalidRow, to.ID, to.Epoch, to.Revision, low.Epoch, low.Revision)
	}
	return nil
}

// Remove deletes committed rows by id, once no HoldRemoval is in force. ids must
// ascend (ErrInvalidRow), also over all calls of one compaction (see doc.go);
// absent ones are passed over. If compact rows are among them, c is what the newest of them says; where c has
// a revision it is recorded with the removal. One call is one transaction: the
// caller keeps it small, since writes wait for it. After an error it may be
// called again, with the same ids.
func (l *Log) Remove(ids []ID, c Compaction) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.holds > 0 && !l.closed {
		l.released.Wait()
	}
	if l.closed {
		return ErrClosed
	}
	if len(ids) == 0 {
		return nil
	}
	if !slices.IsSorted(ids) {
		return fmt.Errorf("%w: ids to remove do not ascend", ErrInvalidRow)
	}
	removed := l.removed
	committed, record := l.newlyCommittedLocked()
	err := l.writeLocked(func(w *writer) (err error) {
		if removed, err = w.recordRemoved(ids[len(ids)-1], removed); err != nil {
			return err
		}
		if err = w.deleteRows(ids); err == nil && record {
			err = w.putCommitted(committed)
		}
		if err != nil || c.Revision == 0 {
			return err
		}
		return w.putMeta(metaCompaction, encodeCompaction(c.Revision, EncodeDeleted(c.Deleted)))
	})
	if c.Revision > 0 && (err == nil || errors.Is(err, ErrIO)) {
		// Also where the outcome is unknown: what c says was committed before.
		l.compaction.Store(&Compaction{Revision: c.Revision, Deleted: cloneDeleted(c.Deleted)})
	}
	if err != nil {
		return fmt.Errorf("remove %d rows: %w", len(ids), err)
	}
	l.removed = removed
	if record {
		l.recordLocked(committed)
	}
	l.metrics.removed.Add(int64(len(ids)))
	l.ckpt.wrote(int64(len(ids)) * rowOverhead)
	return nil
}

// recordRemoved notes the newest row, up to last, that compaction has removed or
// passed over as committed: the log cannot be truncated below it, and it is the
// head once no row is left.
func (w *writer) recordRemoved(last ID, removed Head) (Head, error) {
	row, err := lastRow(w.last, last)
	if err != nil || row.ID <= removed.ID {
		return removed, err
	}
	return row, w.putMeta(metaRemovedHead, encodeHead(row))
}
