package sqllog

import (
	"fmt"
	"time"
)

// A log of a cluster may hold rows at its end of which this node does not know
// whether they are committed. What it knew is recorded with a write that follows, so
// that a start shows no others. What was recorded may be recordEvery older than what
// was known: a record with every group would cost a page of the file each time, and
// a start learns the rest from the Primary.

// recordEvery is the least time between two records.
const recordEvery = 50 * time.Millisecond

// neverRecorded stands for the id of a log in which nothing was ever noted.
const neverRecorded ID = -1

// NoteCommitted notes that rows up to a head are committed; a write after it records
// that, unless one did within the last 50 ms. It does not block.
func (l *Log) NoteCommitted(h Head) {
	for {
		old := l.noted.Load()
		if old != nil && old.ID >= h.ID {
			return
		}
		if l.noted.CompareAndSwap(old, &h) {
			return
		}
	}
}

// Committed is what was recorded of NoteCommitted when the log was opened: rows up to
// there are committed, others may be. Of a log in which nothing was ever noted it is
// the head.
func (l *Log) Committed() Head { return l.opened }

// Broken is why no write is taken before Recover; nil if writes are taken.
func (l *Log) Broken() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken
}

// committedLocked gives what a write has to record, and whether there is something:
// what was noted since, or, where rows are appended on this node's own authority, the
// newest of them, if anything was ever recorded.
func (l *Log) committedLocked(own *Head) (Head, bool) {
	if own != nil {
		return *own, l.recorded >= 0
	}
	if l.recorded >= 0 && time.Since(l.recordedAt) < recordEvery {
		return Head{}, false
	}
	return l.newlyCommittedLocked()
}

// newlyCommittedLocked is what was noted and is not recorded yet. A removal records it
// whenever that was: what it removes is replaced by committed rows, which a start must
// show.
func (l *Log) newlyCommittedLocked() (Head, bool) {
	if h := l.noted.Load(); h != nil && h.ID > l.recorded {
		return *h, true
	}
	return Head{}, false
}

// recordLocked notes what a write has recorded.
func (l *Log) recordLocked(h Head) { l.recorded, l.recordedAt = h.ID, time.Now() }

func (w *writer) putCommitted(h Head) error { return w.putMeta(metaCommitted, encodeHead(h)) }

// openCommitted reads what was recorded.
func (l *Log) openCommitted(head Head) error {
	h, err := l.w.recordedHead(metaCommitted)
	if err != nil {
		return err
	}
	if h == (Head{}) {
		l.opened, l.recorded = head, neverRecorded
		return nil
	}
	if h.ID > head.ID {
		return fmt.Errorf("%w: row %d is committed, the head is %d", ErrCorrupt, h.ID, head.ID)
	}
	l.opened, l.recorded = h, h.ID
	return nil
}
