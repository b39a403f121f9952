package s3snap

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/s3snap/rowfile"
)

// lookTimeout bounds one look at the chain's next position.
const lookTimeout = 5 * time.Second

// looks shares looks between the reads that wait for them. Chain.mu guards it.
type looks struct {
	next    *look // begins when the one under way ends; nil if nobody waits
	busy    bool
	started time.Time // of the one under way; zero if there is none
	done    sync.WaitGroup
}

// look is one confirmation.
type look struct {
	done chan struct{}
	err  error // set before done is closed
}

// Confirm returns nil when, at some moment after it was called, nobody else had
// written to the chain: everything acknowledged by then is published here. It is
// ErrFenced if somebody has, and ErrUnavailable if that cannot be told.
func (c *Chain) Confirm(ctx context.Context) error {
	c.mu.Lock()
	if c.fenced != nil {
		err := c.fenced
		c.mu.Unlock()
		return err
	}
	if c.ended != nil {
		err := c.ended
		c.mu.Unlock()
		return err
	}
	if c.ctx.Err() != nil {
		c.mu.Unlock()
		return ErrStopped
	}
	if c.looks.next == nil {
		c.looks.next = &look{done: make(chan struct{})}
	}
	l := c.looks.next
	if !c.looks.busy {
		c.looks.busy = true
		c.looks.done.Go(c.runLooks)
	}
	c.mu.Unlock()
	select {
	case <-l.done:
		return l.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// endLooks waits for the look under way. The Chain's context has ended: no other one
// begins.
func (c *Chain) endLooks() {
	c.mu.Lock() // whoever has seen the context alive has begun its look by now
	busy := c.looks.busy
	c.mu.Unlock()
	if busy {
		c.looks.done.Wait()
	}
}

// runLooks makes looks for as long as reads wait for one.
func (c *Chain) runLooks() {
	for {
		c.mu.Lock()
		l := c.looks.next
		c.looks.next, c.looks.started = nil, time.Now()
		if l == nil {
			c.looks.busy, c.looks.started = false, time.Time{}
			c.mu.Unlock()
			return
		}
		c.stats.looks++
		c.mu.Unlock()
		ctx, cancel := context.WithTimeout(c.ctx, lookTimeout)
		l.err = c.look(ctx)
		cancel()
		close(l.done)
	}
}

// look finds out whether the chain goes on beyond what this node has written.
func (c *Chain) look(ctx context.Context) error {
	var pause backoff
	for {
		sure, err := c.lookOnce(ctx)
		if sure || errors.Is(err, ErrFenced) {
			return err
		}
		if ctx.Err() != nil || pause.pause(ctx) != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, errors.Join(err, ctx.Err()))
		}
	}
}

// lookOnce reports sure if the next position was empty and the PUT before it, if
// there is one in flight, was this node's.
func (c *Chain) lookOnce(ctx context.Context) (sure bool, err error) {
	sent, hasClock := c.clock()
	c.mu.Lock()
	inFlight, next := c.put, c.end.ID+1
	if inFlight != nil {
		next = inFlight.last + 1
	}
	c.mu.Unlock()
	key := chunkKey(next)
	body, _, err := object.ReadAll(ctx, c.store, key, maxChunkBytes)
	switch {
	case err == nil:
		err = c.ownOrForeign(key, body)
	case !errors.Is(err, object.ErrNotFound):
	case inFlight == nil:
		err = c.counts(ctx, next, sent, hasClock)
		sure = err == nil
	default:
		c.heard(nil)
		return c.await(ctx, inFlight)
	}
	c.heard(err)
	return sure, err
}

// await waits for the PUT in flight and tells whether it was this node's.
func (c *Chain) await(ctx context.Context, inFlight *put) (sure bool, err error) {
	select {
	case <-inFlight.done:
		return inFlight.err == nil, inFlight.err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// ownOrForeign is nil if a chunk that a look has found is this node's: then its
// PUT began after the look did, and another look tells.
func (c *Chain) ownOrForeign(key string, body []byte) error {
	h, _, err := rowfile.Decode(body)
	if err == nil && h.Node == c.writer.Node && h.Incarnation == c.writer.Incarnation {
		return nil
	}
	return c.foreign(key, body)
}
