package sqllog

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Promise promises an epoch: no row of a lower one is appended any more by
// AppendIn, and TruncateIn takes no lower one. It is durable when Promise returns,
// and survives Truncate, which may take the rows of its epoch away. A promise is
// never lowered: of the epoch promised now nothing is written, a lower one is
// ErrPromised. The Head was read after, and no AppendIn of a lower epoch moves it
// any more. An ErrIO leaves open whether the promise is on disk: no write is taken
// until Recover has told. Promise waits for a write under way and blocks for one
// fsync.
func (l *Log) Promise(e Epoch) (Head, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return Head{}, ErrClosed
	}
	if err := l.mayWriteLocked(e); err != nil {
		return Head{}, err
	}
	if err := l.promiseLocked(e); err != nil {
		return Head{}, fmt.Errorf("promise epoch %d: %w", e, err)
	}
	return l.Head(), nil
}

// Promised is the epoch promised: what Promise, AppendIn and TruncateIn have
// recorded, or the epoch of the newest row where that is higher. It never goes
// back, but after an ErrIO it may be too low until Recover.
func (l *Log) Promised() Epoch {
	head := l.Head() // first: Truncate records a promise before it lowers the head
	return max(Epoch(l.promise.Load()), head.Epoch)
}

// AppendIn is Append for rows that the Primary of epoch e has written or sent:
// none of them is of a higher one (ErrInvalidRow). In the transaction that appends
// them it is checked that nothing above e is promised (ErrPromised; nothing is
// written, and the log stays usable), and e is promised with them. Without rows e
// is promised all the same.
func (l *Log) AppendIn(e Epoch, rows []Row) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	if err := l.mayWriteLocked(e); err != nil {
		return err
	}
	if len(rows) == 0 {
		return l.promiseLocked(e)
	}
	if last := rows[len(rows)-1].Epoch; last > e {
		return fmt.Errorf("%w: a row of epoch %d in epoch %d", ErrInvalidRow, last, e)
	}
	return l.appendLocked(e, rows)
}

// TruncateIn is Truncate at the word of the Primary of epoch e: in the transaction
// that removes the rows it is checked that nothing above e is promised
// (ErrPromised; nothing is removed, and the log stays usable), and e is promised.
// It is promised also where there is nothing to remove.
func (l *Log) TruncateIn(e Epoch, to Head) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	if err := l.mayWriteLocked(e); err != nil {
		return err
	}
	return l.truncateLocked(e, to)
}

// mayWriteLocked refuses an epoch below the promise. With SQLite one connection
// writes, and under mu: what is checked here holds in the transaction too.
func (l *Log) mayWriteLocked(e Epoch) error {
	switch promised := l.Promised(); {
	case e < 1 || e > maxID:
		return fmt.Errorf("%w: epoch %d is out of range", ErrInvalidRow, e)
	case e < promised:
		return fmt.Errorf("%w: epoch %d, and %d is promised", ErrPromised, e, promised)
	}
	return nil
}

// promiseLocked records e where it is above the promise, in a transaction of its
// own.
func (l *Log) promiseLocked(e Epoch) error {
	if l.broken == nil && e <= l.Promised() {
		return nil
	}
	err := l.moveHeadLocked(func(w *writer) error { return w.putPromise(e) })
	if err != nil {
		return err
	}
	l.promise.Store(int64(e))
	l.ckpt.wrote(0)
	return nil
}

// raiseTo gives the promise that a write in epoch e must record, 0 for none: that
// of the head included, which may go with its row.
func (l *Log) raiseTo(e Epoch) Epoch {
	if e = max(e, l.Promised()); int64(e) > l.promise.Load() {
		return e
	}
	return 0
}

// appendLocked appends rows in epoch e. The caller has checked the promise.
func (l *Log) appendLocked(e Epoch, rows []Row) error {
	if err := Follows(l.Head(), rows); err != nil {
		return err
	}
	last := &rows[len(rows)-1]
	head := Head{ID: last.ID, Epoch: last.Epoch, Revision: last.Revision}
	raise := l.raiseTo(max(e, last.Epoch))
	var own *Head
	if e == 0 {
		own = &head
	}
	committed, record := l.committedLocked(own)
	start := time.Now()
	err := l.moveHeadLocked(func(w *writer) error {
		err := w.insert(rows)
		if err == nil && raise > 0 {
			err = w.putPromise(raise)
		}
		if err == nil && record {
			err = w.putCommitted(committed)
		}
		return err
	})
	l.metrics.commit(len(rows), time.Since(start), err)
	if err != nil {
		return fmt.Errorf("append rows %d to %d: %w", rows[0].ID, last.ID, err)
	}
	l.raised(raise)
	if record {
		l.recordLocked(committed)
	}
	l.head.Store(&head)
	l.ckpt.wrote(rowsSize(rows))
	return nil
}

// raised takes note of a promise that is durable; 0 is none.
func (l *Log) raised(e Epoch) {
	if e > 0 {
		l.promise.Store(int64(e))
	}
}

func (w *writer) putPromise(e Epoch) error {
	return w.putMeta(metaPromise, binary.BigEndian.AppendUint64(nil, uint64(e)))
}

// readPromise gives the recorded promise, 0 if there is none.
func (w *writer) readPromise() (Epoch, error) {
	value, err := w.readMeta(metaPromise)
	if err != nil || value == nil {
		return 0, err
	}
	return decodePromise(value)
}

func decodePromise(value []byte) (Epoch, error) {
	if len(value) != 8 {
		return 0, fmt.Errorf("%w: a promise of %d bytes", ErrCorrupt, len(value))
	}
	e := binary.BigEndian.Uint64(value)
	if e < 1 || e > maxID {
		return 0, fmt.Errorf("%w: epoch %d is promised", ErrCorrupt, e)
	}
	return Epoch(e), nil
}
