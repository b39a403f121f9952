package s3snap

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

// Pauses between two tries of a request.
const (
	retryFirst = 20 * time.Millisecond
	retryMost  = 2 * time.Second
)

// backoff gives the pauses between tries: each about twice the last one.
type backoff struct{ next time.Duration }

// jitter is a random duration below d; tests make it the same each time.
var jitter = func(d time.Duration) time.Duration { return rand.N(d) }

// pause waits, and returns ctx's error if that ends first.
func (b *backoff) pause(ctx context.Context) error {
	b.next = min(max(2*b.next, retryFirst), retryMost)
	timer := time.NewTimer(b.next/2 + jitter(b.next/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// transient reports whether a request that failed so may succeed later.
func transient(err error) bool {
	return errors.Is(err, object.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
}

// retry calls fn until it succeeds, fails for good, or ctx ends; the error is
// then fn's last one.
func retry(ctx context.Context, fn func() error) error {
	var b backoff
	for {
		err := fn()
		if !transient(err) {
			return err
		}
		if ctx.Err() != nil || b.pause(ctx) != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
}
