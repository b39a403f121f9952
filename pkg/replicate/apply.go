package replicate

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// applier brings committed rows of other Primaries into the index. Rows that came by
// a stream wait in memory for their commit, up to a bound; others are read from the
// log. Its methods may be called concurrently.
type applier struct {
	log   rowLog
	note  func(sqllog.Head) // what is committed
	voted func(*sqllog.Row) // a member row was applied; it must not block
	scrub func()            // a compaction was applied; likewise
	store *mvcc.Store

	mu      sync.Mutex
	waiting []sqllog.Row // in the log, above the index, contiguous
	size    int
	reached threshold // rows up to it are applied, or published by this Primary
	heard   threshold // rows up to it are committed by the word of a Primary
}

// rowLog gives rows.
type rowLog interface {
	Scan(ctx context.Context, after, upTo sqllog.ID, fn func(*sqllog.Row) error) error
}

// maxWaiting bounds the bytes of rows that wait in memory for their commit.
const maxWaiting = 64 << 20

// keep remembers rows that the log has just got, at its end.
func (a *applier) keep(rows []sqllog.Row) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.waiting); n > 0 && a.waiting[n-1].ID+1 != rows[0].ID {
		a.forgetLocked()
	}
	a.waiting = append(a.waiting, rows...)
	for i := range rows {
		a.size += len(rows[i].Key) + len(rows[i].Value) + rowOverhead
	}
	if a.size > maxWaiting {
		a.forgetLocked()
	}
}

// forget lets go what is kept: the log is cut, or another role begins.
func (a *applier) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forgetLocked()
}

func (a *applier) forgetLocked() { a.waiting, a.size = nil, 0 }

// applyTo makes rows visible that are committed, up to an id that the log holds.
func (a *applier) applyTo(ctx context.Context, id sqllog.ID) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	head := a.store.Head().ID
	if id <= head {
		a.reached.open(head)
		return nil
	}
	var err error
	if len(a.waiting) > 0 && a.waiting[0].ID <= head+1 {
		err = a.applyKeptLocked(head, id)
	} else {
		err = a.applyLogged(ctx, head, id)
	}
	if err == nil {
		a.published(a.store.Head())
	}
	return err
}

// published notes that rows up to a head are committed and visible here.
func (a *applier) published(h sqllog.Head) {
	a.note(h)
	a.reached.open(h.ID)
}

func (a *applier) apply(rows []sqllog.Row) error {
	if err := a.store.Apply(rows); err != nil {
		return err
	}
	for i := range rows {
		switch rows[i].Kind {
		case sqllog.KindMember:
			a.voted(&rows[i])
		case sqllog.KindCompact:
			a.scrub()
		}
	}
	return nil
}

func (a *applier) applyKeptLocked(head, id sqllog.ID) error {
	first := int(head + 1 - a.waiting[0].ID)
	end := min(int(id-a.waiting[0].ID)+1, len(a.waiting))
	if first >= end {
		return nil
	}
	if err := a.apply(a.waiting[first:end:end]); err != nil {
		return err
	}
	for i := range a.waiting[:end] {
		a.size -= len(a.waiting[i].Key) + len(a.waiting[i].Value) + rowOverhead
	}
	a.waiting = a.waiting[end:]
	if len(a.waiting) == 0 {
		a.forgetLocked()
	}
	return nil
}

// applyRows and applyBytes are about how much is applied at a time from the log.
const (
	applyRows  = 2000
	applyBytes = 4 << 20
)

// applyLogged applies rows from the log, whole revisions at a time.
func (a *applier) applyLogged(ctx context.Context, head, id sqllog.ID) error {
	var rows []sqllog.Row
	size := 0
	err := a.log.Scan(ctx, head, id, func(r *sqllog.Row) error {
		if (len(rows) >= applyRows || size >= applyBytes) && (r.Sub == 0 || !r.Kind.Changes()) {
			if err := a.apply(rows); err != nil {
				return err
			}
			rows, size = rows[:0], 0
		}
		row := *r
		row.Key, row.Value = append([]byte(nil), r.Key...), append([]byte(nil), r.Value...)
		rows = append(rows, row)
		size += len(row.Key) + len(row.Value)
		return nil
	})
	if err == nil {
		err = a.apply(rows)
	}
	if err == nil && a.store.Head().ID < id {
		err = fmt.Errorf("%w: the log ends at %d of %d committed rows", sqllog.ErrGap, a.store.Head().ID, id)
	}
	if err != nil {
		return fmt.Errorf("apply rows %d to %d: %w", head+1, id, err)
	}
	return nil
}

// isDivergence tells of rows that contradict what this node has shown to clients.
func isDivergence(err error) bool {
	return errors.Is(err, ErrDivergence) || errors.Is(err, mvcc.ErrDiverged)
}
