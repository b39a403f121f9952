package s3

import (
	"context"
	"errors"
	"fmt"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// errBroken is wrapped by what a follower found wrong with its watch.
var errBroken = errors.New("watch broke its promise")

// follower collects the events of all keys. Its methods may be called concurrently.
type follower struct {
	mu       sync.Mutex
	events   []event
	position int64         // every event up to it was seen
	moved    chan struct{} // has an element after a move
}

func newFollower(after int64) *follower {
	return &follower{position: after, moved: make(chan struct{}, 1)}
}

func (f *follower) reached() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.position
}

// since returns the events of revisions above base.
func (f *follower) since(base int64) []event {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]event(nil), above(f.events, base)...)
}

// upTo returns the events of revisions up to head.
func (f *follower) upTo(head int64) []event {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.events[:len(f.events)-len(above(f.events, head))]
}

// forget drops the events up to a revision.
func (f *follower) forget(upTo int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append([]event(nil), above(f.events, upTo)...)
}

// add takes one response: its events must come after all before, since no revision is split over two responses.
func (f *follower) add(events []*clientv3.Event, header int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := f.position
	for _, ev := range events {
		e := eventOf(ev)
		if e.revision <= f.position || e.revision < last || e.revision > header {
			return fmt.Errorf("%w: revision %d after %d, in a response of revision %d", errBroken, e.revision, last, header)
		}
		last = e.revision
		f.events = append(f.events, e)
	}
	f.move(last)
	return nil
}

// progress takes the promise that everything up to a revision was delivered.
func (f *follower) progress(revision int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.move(max(f.position, revision))
}

// move needs the lock.
func (f *follower) move(position int64) {
	f.position = position
	select {
	case f.moved <- struct{}{}:
	default:
	}
}

// stay watches through the etcd client, which opens a new stream by itself when the store comes back, until ctx ends.
func (f *follower) stay(ctx context.Context, c *clientv3.Client) error {
	for resp := range c.Watch(ctx, "", clientv3.WithFromKey(), clientv3.WithRev(f.reached()+1), clientv3.WithProgressNotify()) {
		if ctx.Err() != nil {
			return nil
		}
		if err := resp.Err(); err != nil {
			return fmt.Errorf("watch after %d: %w", f.reached(), err)
		}
		if resp.IsProgressNotify() {
			f.progress(resp.Header.Revision)
			continue
		}
		if err := f.add(resp.Events, resp.Header.Revision); err != nil {
			return err
		}
	}
	if ctx.Err() == nil {
		return fmt.Errorf("watch ended after %d", f.reached())
	}
	return nil
}

// await returns when everything up to head was seen by a watch that runs meanwhile.
func (f *follower) await(ctx context.Context, head int64) error {
	ctx, cancel := within(ctx)
	defer cancel()
	for f.reached() < head {
		select {
		case <-f.moved:
		case <-ctx.Done():
			return fmt.Errorf("watch is at revision %d, want %d: %w", f.reached(), head, ctx.Err())
		}
	}
	return nil
}
