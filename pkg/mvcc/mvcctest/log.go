// Package mvcctest has a log in memory for the tests of those who build on one:
// it keeps what sqllog promises, without a disk, and fails when told to.
package mvcctest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Hooks are called before the log does what they are named after, and without
// its lock, so that they may block. An error is what the caller gets; the log
// has then done nothing, but for Append if it is told to. Nil hooks do nothing.
type Hooks struct {
	// Append may keep the rows in spite of an error, as a disk may that fails
	// after it has written.
	Append   func(rows []sqllog.Row) (keep bool, err error)
	Promise  func(e sqllog.Epoch) error
	Recover  func() error
	Truncate func(to sqllog.Head) error
	Remove   func(ids []sqllog.ID) error
	Values   func(ids []sqllog.ID) error
	Shrink   func(maxPages int) (left int64, err error)
	// FreePages and Size give what they return.
	FreePages func() (free, total int64, err error)
	Size      func() (sqllog.Size, error)
}

// Log is a log in memory. Its methods are those of *sqllog.Log, whose docstrings
// say what each promises, and may be called concurrently.
type Log struct {
	mu         sync.Mutex
	hooks      Hooks
	rows       []sqllog.Row // by id
	head       sqllog.Head  // what Append goes on from
	removed    sqllog.Head
	promise    sqllog.Epoch
	opened     sqllog.Compaction // as it was when the log was opened
	compaction sqllog.Compaction
}

// New gives an empty log.
func New() *Log { return &Log{head: sqllog.Head{Revision: 1}} }

// Reopen gives a log that holds what l holds now, as after a restart. l must not
// be written to any more.
func (l *Log) Reopen() *Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &Log{
		hooks: l.hooks, rows: slices.Clone(l.rows), head: l.lastLocked(), removed: l.removed, promise: l.promise,
		opened: l.compaction, compaction: l.compaction,
	}
}

// Hook sets the hooks.
func (l *Log) Hook(h Hooks) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hooks = h
}

func (l *Log) hook() Hooks {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hooks
}

// Head names the newest row.
func (l *Log) Head() sqllog.Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

// Compaction is what Remove had recorded before the log was opened.
func (l *Log) Compaction() sqllog.Compaction { return l.opened }

// Rows counts the rows kept.
func (l *Log) Rows(context.Context) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(len(l.rows)), nil
}

// Append adds rows that follow the head.
func (l *Log) Append(rows []sqllog.Row) error {
	return l.append(0, rows)
}

// append is Append, in epoch e unless that is 0.
func (l *Log) append(e sqllog.Epoch, rows []sqllog.Row) error {
	var failure error
	if hook := l.hook().Append; hook != nil {
		keep, err := hook(rows)
		if err != nil && !keep {
			return err
		}
		failure = err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.mayWriteLocked(e); err != nil {
		return err
	}
	head := l.head
	for i := range rows {
		r := &rows[i]
		if r.ID != head.ID+1 {
			return fmt.Errorf("%w: row %d follows %d", sqllog.ErrGap, r.ID, head.ID)
		}
		if r.Epoch < max(head.Epoch, 1) || r.Revision < head.Revision || (r.Kind.Changes() && r.Revision == l.head.Revision) {
			return fmt.Errorf("%w: row %+v after %+v", sqllog.ErrInvalidRow, r, head)
		}
		head = sqllog.Head{ID: r.ID, Epoch: r.Epoch, Revision: r.Revision}
	}
	l.promise = max(l.promise, e)
	for i := range rows {
		r := rows[i]
		r.Key, r.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
		l.rows = append(l.rows, r)
	}
	if failure != nil {
		return failure // the rows are there; the head is found out by Recover
	}
	l.head = head
	return nil
}

// Recover tells the head that is really there.
func (l *Log) Recover(context.Context) (sqllog.Head, error) {
	if hook := l.hook().Recover; hook != nil {
		if err := hook(); err != nil {
			return sqllog.Head{}, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head = l.lastLocked()
	return l.head, nil
}

func (l *Log) lastLocked() sqllog.Head {
	head := l.head
	if l.removed.ID > head.ID {
		head = l.removed
	}
	if n := len(l.rows); n > 0 && l.rows[n-1].ID > head.ID {
		r := &l.rows[n-1]
		head = sqllog.Head{ID: r.ID, Epoch: r.Epoch, Revision: r.Revision}
	}
	return head
}

// Truncate removes the rows above a head.
func (l *Log) Truncate(ctx context.Context, to sqllog.Head) error {
	return l.truncate(ctx, 0, to)
}

// truncate is Truncate, in epoch e unless that is 0.
func (l *Log) truncate(_ context.Context, e sqllog.Epoch, to sqllog.Head) error {
	if hook := l.hook().Truncate; hook != nil {
		if err := hook(to); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.mayWriteLocked(e); err != nil {
		return err
	}
	if to.ID > l.head.ID || to.ID < l.removed.ID {
		return fmt.Errorf("%w: truncate to %d", sqllog.ErrGap, to.ID)
	}
	at, found := l.findLocked(to.ID)
	if found {
		at++
	}
	if at > 0 {
		if r := &l.rows[at-1]; found && (r.Epoch != to.Epoch || r.Revision != to.Revision) {
			return fmt.Errorf("%w: truncate to %+v, row is %+v", sqllog.ErrInvalidRow, to, r)
		}
	}
	if to.ID == 0 && to != (sqllog.Head{Revision: 1}) {
		return fmt.Errorf("%w: truncate to %+v", sqllog.ErrInvalidRow, to)
	}
	l.promise = max(l.promisedLocked(), e)
	l.rows, l.head = l.rows[:at], to
	return nil
}

// Remove deletes rows by id.
func (l *Log) Remove(ids []sqllog.ID, c sqllog.Compaction) error {
	if hook := l.hook().Remove; hook != nil {
		if err := hook(ids); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.IsSorted(ids) {
		return fmt.Errorf("%w: ids do not ascend", sqllog.ErrInvalidRow)
	}
	gone := make(map[sqllog.ID]bool, len(ids))
	for _, id := range ids {
		gone[id] = true
	}
	l.rows = slices.DeleteFunc(l.rows, func(r sqllog.Row) bool {
		if gone[r.ID] && r.ID > l.removed.ID {
			l.removed = sqllog.Head{ID: r.ID, Epoch: r.Epoch, Revision: r.Revision}
		}
		return gone[r.ID]
	})
	if c.Revision > 0 {
		l.compaction = c
	}
	return nil
}

// findLocked gives the place of a row, or where it would stand.
func (l *Log) findLocked(id sqllog.ID) (int, bool) {
	return slices.BinarySearchFunc(l.rows, id, func(r sqllog.Row, id sqllog.ID) int { return cmp.Compare(r.ID, id) })
}

// Scan gives the rows in (after, upTo].
func (l *Log) Scan(ctx context.Context, after, upTo sqllog.ID, fn func(*sqllog.Row) error) error {
	l.mu.Lock()
	rows := slices.Clone(l.rows)
	l.mu.Unlock()
	for i := range rows {
		if rows[i].ID <= after || rows[i].ID > upTo {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rows[i].ValueSize = int64(len(rows[i].Value))
		if err := fn(&rows[i]); err != nil {
			return err
		}
	}
	return nil
}

// ScanKeys is Scan without the values.
func (l *Log) ScanKeys(ctx context.Context, after, upTo sqllog.ID, fn func(*sqllog.Row) error) error {
	return l.Scan(ctx, after, upTo, func(r *sqllog.Row) error {
		r.Value = nil
		return fn(r)
	})
}

// Values fetches values by id.
func (l *Log) Values(ctx context.Context, ids []sqllog.ID) ([][]byte, error) {
	if hook := l.hook().Values; hook != nil {
		if err := hook(ids); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([][]byte, len(ids))
	for i, id := range ids {
		at, found := l.findLocked(id)
		if !found {
			return nil, fmt.Errorf("row %d: %w", id, sqllog.ErrMissing)
		}
		out[i] = append([]byte{}, l.rows[at].Value...)
	}
	return out, nil
}

// Size is a page a row, unless its hook says something else.
func (l *Log) Size(ctx context.Context) (sqllog.Size, error) {
	if hook := l.hook().Size; hook != nil {
		return hook()
	}
	n, err := l.Rows(ctx)
	return sqllog.Size{File: n * 4096, InUse: n * 4096}, err
}

// FreePages is none, unless its hook says something else.
func (l *Log) FreePages(ctx context.Context) (free, total int64, err error) {
	if hook := l.hook().FreePages; hook != nil {
		return hook()
	}
	n, err := l.Rows(ctx)
	return 0, n, err
}

// Shrink has nothing to give back, unless its hook says so.
func (l *Log) Shrink(maxPages int) (int64, error) {
	if hook := l.hook().Shrink; hook != nil {
		return hook(maxPages)
	}
	return 0, nil
}

// Close does nothing.
func (l *Log) Close() error { return nil }
