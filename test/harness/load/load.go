// Package load runs clients until they are told to stop, counts what they get done, and keeps what must not have happened.
package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kinsy/kinsy/test/harness/client"
)

// afterError is how long a client waits before it goes on after an error.
const afterError = 10 * time.Millisecond

// Load is a number of clients at work, each on a goroutine of its own. The zero value is ready. Start, Stop, GiveUp and Wait
// are called one at a time, the other methods also concurrently.
type Load struct {
	stopped atomic.Bool
	count   atomic.Int64
	last    atomic.Int64 // when count moved, in ns since the epoch of Unix
	cancel  context.CancelFunc
	moved   chan struct{} // has an element after a move of count
	ended   chan struct{} // closed when all clients have ended

	mu   sync.Mutex
	errs []error
}

// Client is one of a load.
type Client struct {
	Name string
	// One sends the next request. It is called until the load is stopped.
	One func(context.Context) error
	// Strict: every error before the load is stopped must not be. Else the client goes on, and only such errors must not be
	// that say more than that an answer is missing (client.OpenOutcome).
	Strict bool
	// Pause is called between two requests; nil: there is none but after an error.
	Pause func(context.Context)
	// Fault is told what must not have been, as it is told to Load.Err; nil for nobody.
	Fault func(error)
}

// Start lets clients work until Stop, or ctx ends. A load that has ended may be started again.
func (l *Load) Start(ctx context.Context, clients ...Client) {
	l.stopped.Store(false)
	l.moved, l.ended = make(chan struct{}, 1), make(chan struct{})
	ctx, l.cancel = context.WithCancel(ctx)
	done := new(sync.WaitGroup)
	for _, c := range clients {
		done.Go(func() { l.run(ctx, c) })
	}
	go func(ended chan struct{}) {
		done.Wait()
		close(ended)
	}(l.ended)
}

func (l *Load) run(ctx context.Context, c Client) {
	for !l.stopped.Load() {
		err := c.One(ctx)
		switch {
		case err == nil:
		case c.Strict && l.stopped.Load():
			return
		case c.Strict || ctx.Err() == nil && !client.OpenOutcome(err):
			l.fail(c, fmt.Errorf("%s: %w", c.Name, err))
			return
		case client.Wait(ctx, afterError) != nil:
			return
		}
		if c.Pause != nil {
			c.Pause(ctx)
		}
	}
}

func (l *Load) fail(c Client, err error) {
	if c.Fault != nil {
		c.Fault(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = append(l.errs, err)
}

// Add counts a request that was done: clients call it.
func (l *Load) Add() {
	l.count.Add(1)
	l.last.Store(time.Now().UnixNano())
	select {
	case l.moved <- struct{}{}:
	default:
	}
}

// Count is how many requests were done since the load was made.
func (l *Load) Count() int64 { return l.count.Load() }

// Last is when the last request was done; long ago if none was.
func (l *Load) Last() time.Time { return time.Unix(0, l.last.Load()) }

// Await returns when so many requests more were done, or with an error when all clients have ended before, or ctx ends, or
// client.WaitLimit passes.
func (l *Load) Await(ctx context.Context, requests int64) error {
	ctx, cancel := client.Within(ctx)
	defer cancel()
	return l.AwaitPatiently(ctx, requests)
}

// AwaitPatiently is Await without a limit of its own.
func (l *Load) AwaitPatiently(ctx context.Context, requests int64) error {
	for want := l.Count() + requests; l.Count() < want; {
		select {
		case <-l.moved:
		case <-l.ended:
			if l.Count() < want {
				return errors.Join(fmt.Errorf("all clients have ended, %d requests early", want-l.Count()), l.Err())
			}
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%d requests are missing: %w", want-l.Count(), context.Cause(ctx)), l.Err())
		}
	}
	return nil
}

// Stop tells the clients that what they do is the last. It does not wait for it.
func (l *Load) Stop() { l.stopped.Store(true) }

// GiveUp stops the clients and ends the requests under way. It does not wait for that.
func (l *Load) GiveUp() {
	l.Stop()
	if l.cancel != nil {
		l.cancel()
	}
}

// Wait returns when all clients have ended.
func (l *Load) Wait() {
	if l.cancel != nil {
		<-l.ended
		l.cancel()
	}
}

// Err joins the first things that must not have happened; nil if there are none.
func (l *Load) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.errs[:min(len(l.errs), 3)]...)
}
