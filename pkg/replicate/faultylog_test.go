package replicate

import (
	"context"
	"errors"
	"sync"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// faultyLog is a log that fails when it is told to: what fails leaves it broken until
// it is recovered, as a disk does that gives no answer.
type faultyLog struct {
	*sqllog.Log

	mu      sync.Mutex
	append  func(rows []sqllog.Row) (keep bool, err error) // nil: nothing fails
	recover func() error
	promise func() error
	broken  error
}

var _ MemberLog = (*faultyLog)(nil)

// failAppends has appends ask fn first.
func (l *faultyLog) failAppends(fn func(rows []sqllog.Row) (keep bool, err error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.append = fn
}

// failRecovery has Recover ask fn first.
func (l *faultyLog) failRecovery(fn func() error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recover = fn
}

// space is how much room a disk has.
type space int

const (
	ample   space = iota
	tight         // for small writes only: no rows
	nothing       // for no write
)

// fill has writes find so much room.
func (l *faultyLog) fill(room space) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.append, l.recover, l.promise = nil, nil, nil
	if room != ample {
		l.append = func([]sqllog.Row) (bool, error) { return false, sqllog.ErrFull }
	}
	if room == nothing {
		refused := func() error { return sqllog.ErrFull }
		l.recover, l.promise = refused, refused
	}
}

// AppendIn implements EpochLog.
func (l *faultyLog) AppendIn(e sqllog.Epoch, rows []sqllog.Row) error {
	l.mu.Lock()
	fn, broken := l.append, l.broken
	l.mu.Unlock()
	if broken != nil {
		return broken
	}
	if fn != nil {
		if keep, err := fn(rows); err != nil {
			if keep {
				if err := l.Log.AppendIn(e, rows); err != nil {
					return err
				}
			}
			if errors.Is(err, sqllog.ErrFull) {
				return err // nothing was written, and the log goes on
			}
			l.mu.Lock()
			l.broken = err
			l.mu.Unlock()
			return err
		}
	}
	return l.Log.AppendIn(e, rows)
}

// Promise implements MemberLog.
func (l *faultyLog) Promise(e sqllog.Epoch) (sqllog.Head, error) {
	l.mu.Lock()
	fn := l.promise
	l.mu.Unlock()
	if err := l.Broken(); err != nil {
		return sqllog.Head{}, err
	}
	if fn != nil {
		if err := fn(); err != nil {
			return sqllog.Head{}, err
		}
	}
	return l.Log.Promise(e)
}

// TruncateIn implements MemberLog.
func (l *faultyLog) TruncateIn(e sqllog.Epoch, to sqllog.Head) error {
	if err := l.Broken(); err != nil {
		return err
	}
	return l.Log.TruncateIn(e, to)
}

// Broken implements MemberLog.
func (l *faultyLog) Broken() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return l.broken
	}
	return l.Log.Broken()
}

// Recover implements Log.
func (l *faultyLog) Recover(ctx context.Context) (sqllog.Head, error) {
	l.mu.Lock()
	fn := l.recover
	l.mu.Unlock()
	if fn != nil {
		if err := fn(); err != nil {
			l.mu.Lock()
			l.broken = err
			l.mu.Unlock()
			return sqllog.Head{}, err
		}
	}
	head, err := l.Log.Recover(ctx)
	if err == nil {
		l.mu.Lock()
		l.broken = nil
		l.mu.Unlock()
	}
	return head, err
}
