package mvcctest

import (
	"context"
	"fmt"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Promise promises an epoch.
func (l *Log) Promise(e sqllog.Epoch) (sqllog.Head, error) {
	if hook := l.hook().Promise; hook != nil {
		if err := hook(e); err != nil {
			return sqllog.Head{}, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if e < 1 {
		return sqllog.Head{}, fmt.Errorf("%w: epoch %d is out of range", sqllog.ErrInvalidRow, e)
	}
	if err := l.mayWriteLocked(e); err != nil {
		return sqllog.Head{}, err
	}
	l.promise = e
	return l.head, nil
}

// mayWriteLocked refuses an epoch below the promise; 0 is none.
func (l *Log) mayWriteLocked(e sqllog.Epoch) error {
	if promised := l.promisedLocked(); e != 0 && e < promised {
		return fmt.Errorf("%w: epoch %d, and %d is promised", sqllog.ErrPromised, e, promised)
	}
	return nil
}

// Promised is the epoch promised.
func (l *Log) Promised() sqllog.Epoch {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.promisedLocked()
}

func (l *Log) promisedLocked() sqllog.Epoch { return max(l.promise, l.head.Epoch) }

// AppendIn is Append under a promise. The hooks of Append are called.
func (l *Log) AppendIn(e sqllog.Epoch, rows []sqllog.Row) error {
	if n := len(rows); n > 0 && rows[n-1].Epoch > e {
		return fmt.Errorf("%w: a row of epoch %d in epoch %d", sqllog.ErrInvalidRow, rows[n-1].Epoch, e)
	}
	return l.append(e, rows)
}

// TruncateIn is Truncate under a promise. The hooks of Truncate are called.
func (l *Log) TruncateIn(e sqllog.Epoch, to sqllog.Head) error {
	return l.truncate(context.Background(), e, to)
}
