package replicate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap"
)

// Times of the Elector's lock. Only a node that no majority agrees with waits for it
// to expire, and so only where none is needed (quorum 0) does its holder renew it.
const (
	lockRenewal = 3 * time.Second
	lockExpiry  = 3 * lockRenewal
)

// LockStore is where the Elector's lock is kept.
type LockStore interface {
	Observe(ctx context.Context) (s3snap.Lock, error)
	TakeLock(ctx context.Context, seen s3snap.Lock) (s3snap.Lock, error)
	Renew(ctx context.Context, held s3snap.Lock) (s3snap.Lock, error)
}

// errLocked: another node holds the lock and may be alive.
var errLocked = errors.New("another node is the elector")

// electorLock is the Elector's lock as this node sees it. Its methods may be called
// concurrently.
type electorLock struct {
	store LockStore

	mu    sync.Mutex
	seen  s3snap.Lock
	since time.Time   // when it was first seen so
	held  s3snap.Lock // zero if it is not this node's
}

// take takes the lock: at once if force, else if nobody has changed it for long.
func (l *electorLock) take(ctx context.Context, force bool) error {
	there, err := l.store.Observe(ctx)
	if err != nil {
		return err
	}
	if !force && there.Holder != 0 {
		if age := l.age(there); age < lockExpiry {
			return fmt.Errorf("%w: node %s, not changed for %s", errLocked, there.Holder, age.Round(time.Millisecond))
		}
	}
	held, err := l.store.TakeLock(ctx, there)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held = held; err != nil {
		l.held = s3snap.Lock{}
	}
	return err
}

// age is for how long the lock is seen as it is.
func (l *electorLock) age(there s3snap.Lock) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since.IsZero() || there != l.seen {
		l.seen, l.since = there, time.Now()
	}
	return time.Since(l.since)
}

// renew shows that the holder lives; it does nothing if that is not this node.
// s3snap.ErrConflict: it is another's.
func (l *electorLock) renew(ctx context.Context) error {
	l.mu.Lock()
	held := l.held
	l.mu.Unlock()
	if held.Holder == 0 {
		return nil
	}
	next, err := l.store.Renew(ctx, held)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.held != held:
	case err == nil:
		l.held = next
	case errors.Is(err, s3snap.ErrConflict):
		l.held = s3snap.Lock{}
	}
	return err
}
