package sqllog

import "fmt"

// Append writes rows as one group: when it returns nil they are durable, and
// after an error none of them is visible. rows[0].ID must follow the head
// (ErrGap), and the rows must keep the invariants in doc.go (ErrInvalidRow). An
// ErrIO leaves open whether the group is on disk: Recover tells, and no write is
// taken before it. Append blocks for one fsync; it is not cancelled once it has
// begun. The rows may be reused after it returns. The promise is not looked at:
// that is AppendIn; but it is raised to the epoch of the newest row.
func (l *Log) Append(rows []Row) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	if len(rows) == 0 {
		return nil
	}
	return l.appendLocked(0, rows)
}

// Follows checks what Append would refuse: rows that do not follow a head
// (ErrGap), and those that break an invariant, by themselves or together
// (ErrInvalidRow). All changes of the head's revision are taken to be in the log.
func Follows(start Head, rows []Row) error {
	o := newOrder(start, false)
	for i := range rows {
		if err := o.next(&rows[i]); err != nil {
			return err
		}
	}
	return nil
}

// order checks each row by itself and against the rows before it.
type order struct {
	holes    bool // ids may be missing
	head     Head
	complete Revision // no change may be added to it
	change   Row      // the newest change: its revision and position
}

func newOrder(start Head, holes bool) order {
	return order{holes: holes, head: start, complete: start.Revision, change: Row{Revision: start.Revision}}
}

// next takes the next row. After an error the order is of no more use.
func (o *order) next(r *Row) error {
	if err := r.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidRow, err)
	}
	switch {
	case r.ID <= o.head.ID, r.ID != o.head.ID+1 && !o.holes:
		return fmt.Errorf("%w: row %d follows %d", ErrGap, r.ID, o.head.ID)
	case r.Epoch < o.head.Epoch || r.Revision < o.head.Revision:
		return fmt.Errorf("%w: row %d has epoch %d and revision %d after epoch %d and revision %d",
			ErrInvalidRow, r.ID, r.Epoch, r.Revision, o.head.Epoch, o.head.Revision)
	}
	o.head = Head{ID: r.ID, Epoch: r.Epoch, Revision: r.Revision}
	if !r.Kind.Changes() {
		return nil
	}
	if r.Revision == o.complete {
		return fmt.Errorf("%w: row %d adds to revision %d, which is complete", ErrInvalidRow, r.ID, r.Revision)
	}
	if r.Revision == o.change.Revision && r.Sub <= o.change.Sub {
		return fmt.Errorf("%w: row %d is change %d of revision %d, after change %d",
			ErrInvalidRow, r.ID, r.Sub, r.Revision, o.change.Sub)
	}
	o.change = Row{Revision: r.Revision, Sub: r.Sub}
	return nil
}

// rowOverhead is about what a row takes on disk beside key and value, in bytes.
const rowOverhead = 48

func rowsSize(rows []Row) int64 {
	var n int64
	for i := range rows {
		n += int64(len(rows[i].Key)+len(rows[i].Value)) + rowOverhead
	}
	return n
}
