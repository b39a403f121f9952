package faults

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
)

// errBroken is wrapped by what a follower found wrong with its watch.
var errBroken = errors.New("watch broke its promise")

// compactedError says that a watch was cancelled because its revisions are compacted.
type compactedError struct{ revision int64 }

func (e compactedError) Error() string { return fmt.Sprintf("compacted at %d", e.revision) }

// follower collects the events of a key prefix over any number of watches: each goes on where the one before ended. Its
// methods may be called concurrently, follow and catchUp one at a time.
type follower struct {
	prefix string
	prevKV bool

	mu       sync.Mutex
	events   []event
	position int64 // every event up to it was seen
	moved    chan struct{}
}

func newFollower(prefix string, after int64) *follower {
	return &follower{prefix: prefix, position: after, moved: make(chan struct{}, 1)}
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
		if err := f.checkPrevious(ev); err != nil {
			return err
		}
		last = e.revision
		f.events = append(f.events, e)
	}
	f.position = last
	f.signal()
	return nil
}

// checkPrevious checks what prev_kv can be checked for without knowing the history: there is one exactly where the key
// existed before.
func (f *follower) checkPrevious(ev *clientv3.Event) error {
	if !f.prevKV || ev.PrevKv == nil {
		return nil
	}
	if ev.PrevKv.ModRevision >= ev.Kv.ModRevision || !ev.IsModify() && ev.Type == clientv3.EventTypePut || ev.IsModify() && ev.PrevKv.Version != ev.Kv.Version-1 {
		return fmt.Errorf("%w: previous value of %s at %d is of revision %d and version %d", errBroken, ev.Kv.Key, ev.Kv.ModRevision, ev.PrevKv.ModRevision, ev.PrevKv.Version)
	}
	return nil
}

// progress takes the promise that everything up to a revision was delivered.
func (f *follower) progress(revision int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.position = max(f.position, revision)
	f.signal()
}

func (f *follower) signal() {
	select {
	case f.moved <- struct{}{}:
	default:
	}
}

// follow watches until the stream ends or ctx does. It returns an error only for a watch that broke a promise.
func (f *follower) follow(ctx context.Context, c *clientv3.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := f.open(ctx, c)
	for err == nil {
		err = f.receive(stream)
	}
	var compacted compactedError
	if errors.Is(err, errBroken) || errors.As(err, &compacted) {
		return fmt.Errorf("watch of %q: %w", f.prefix, err)
	}
	return nil
}

// catchUp watches until everything up to head is delivered, by the store's own word: a progress response. A connection
// that is not there again yet is tried again.
func (f *follower) catchUp(ctx context.Context, c *clientv3.Client, head int64) error {
	ctx, cancel := within(ctx)
	defer cancel()
	for {
		err := f.askUpTo(ctx, c, head)
		if err == nil {
			return nil
		}
		if status.Code(err) != codes.Unavailable || !c.ActiveConnection().WaitForStateChange(ctx, connectivity.TransientFailure) {
			return fmt.Errorf("watch of %q from %d: %w", f.prefix, f.reached()+1, err)
		}
	}
}

func (f *follower) askUpTo(ctx context.Context, c *clientv3.Client, head int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := f.open(ctx, c)
	if err != nil {
		return err
	}
	go askProgress(ctx, stream)
	for f.reached() < head {
		if err := f.receive(stream); err != nil {
			return err
		}
	}
	return nil
}

// askProgress requests progress until ctx ends.
func askProgress(ctx context.Context, stream pb.Watch_WatchClient) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	ask := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
	for stream.Send(ask) == nil {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// open starts a watch at the revision after the last one seen. The first response must be that it is created: the etcd
// client drops what comes before.
func (f *follower) open(ctx context.Context, c *clientv3.Client) (pb.Watch_WatchClient, error) {
	stream, err := pb.NewWatchClient(c.ActiveConnection()).Watch(ctx)
	if err != nil {
		return nil, err
	}
	end := clientv3.GetPrefixRangeEnd(f.prefix)
	key := f.prefix
	if key == "" {
		key, end = "\x00", "\x00"
	}
	err = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key: []byte(key), RangeEnd: []byte(end), StartRevision: f.reached() + 1, PrevKv: f.prevKV}}})
	if err != nil {
		return nil, err
	}
	first, err := stream.Recv()
	if err == nil && (!first.Created || len(first.Events) > 0) {
		err = fmt.Errorf("%w: the first response is not that the watch is created", errBroken)
	}
	return stream, err
}

func (f *follower) receive(stream pb.Watch_WatchClient) error {
	resp, err := stream.Recv()
	switch {
	case err != nil:
		return err
	case resp.Canceled && resp.CompactRevision > 0:
		return compactedError{resp.CompactRevision}
	case resp.Canceled:
		return fmt.Errorf("%w: cancelled: %s", errBroken, resp.CancelReason)
	case len(resp.Events) == 0:
		f.progress(resp.Header.Revision)
		return nil
	}
	events := make([]*clientv3.Event, len(resp.Events))
	for i, ev := range resp.Events {
		events[i] = (*clientv3.Event)(ev)
	}
	return f.add(events, resp.Header.Revision)
}

// stay watches through the etcd client, which opens a new stream by itself when the store comes back, until ctx ends.
func (f *follower) stay(ctx context.Context, c *clientv3.Client) error {
	for resp := range c.Watch(ctx, f.prefix, clientv3.WithPrefix(), clientv3.WithRev(f.reached()+1)) {
		if err := resp.Err(); err != nil {
			return fmt.Errorf("watch of the etcd client after %d: %w", f.reached(), err)
		}
		if err := f.add(resp.Events, resp.Header.Revision); err != nil {
			return fmt.Errorf("watch of the etcd client: %w", err)
		}
	}
	if ctx.Err() == nil {
		return fmt.Errorf("watch of the etcd client ended after %d", f.reached())
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

// replay reads the history from after base up to head with a watch of its own. Where it is compacted it begins after the
// compacted revision, which is returned; else that is 0.
func replay(ctx context.Context, c *clientv3.Client, base, head int64) (events []event, compacted int64, err error) {
	f := newFollower("", base)
	err = f.catchUp(ctx, c, head)
	var gone compactedError
	if errors.As(err, &gone) {
		f = newFollower("", gone.revision)
		err = f.catchUp(ctx, c, head)
	}
	return f.events, gone.revision, err
}
