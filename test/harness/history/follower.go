package history

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

	"github.com/kinsy/kinsy/test/harness/client"
)

// askEvery is how often progress is asked for, and how soon a refused watch is tried again.
const askEvery = 5 * time.Millisecond

// ErrBroken is wrapped by what a follower found wrong with its watch.
var ErrBroken = errors.New("watch broke its promise")

// CompactedError says that a watch was cancelled because its revisions are compacted.
type CompactedError struct{ Revision int64 }

// Error implements error.
func (e CompactedError) Error() string { return fmt.Sprintf("compacted at %d", e.Revision) }

// Follower collects the events of a key prefix over any number of watches: each goes on where the one before ended. Its
// methods may be called concurrently, Follow and CatchUp one at a time.
type Follower struct {
	// PrevKV asks for previous values too and checks them. Stay does not ask.
	PrevKV bool

	prefix string

	mu       sync.Mutex
	events   []Event
	position int64 // every event up to it was seen
	moved    chan struct{}
}

// NewFollower collects the events of keys with a prefix ("": of all keys), above a revision.
func NewFollower(prefix string, after int64) *Follower {
	return &Follower{prefix: prefix, position: after, moved: make(chan struct{}, 1)}
}

// Reached is the revision up to which every event was seen.
func (f *Follower) Reached() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.position
}

// Since returns the events of revisions above base.
func (f *Follower) Since(base int64) []Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Event(nil), Above(f.events, base)...)
}

// UpTo returns the events of revisions up to head.
func (f *Follower) UpTo(head int64) []Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Event(nil), f.events[:len(f.events)-len(Above(f.events, head))]...)
}

// Forget drops the events up to a revision.
func (f *Follower) Forget(upTo int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append([]Event(nil), Above(f.events, upTo)...)
}

// add takes one response: its events must come after all before, since no revision is split over two responses.
func (f *Follower) add(events []*clientv3.Event, header int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := f.position
	for _, ev := range events {
		e := EventOf(ev)
		if e.Revision <= f.position || e.Revision < last || e.Revision > header {
			return fmt.Errorf("%w: revision %d after %d, in a response of revision %d", ErrBroken, e.Revision, last, header)
		}
		if err := f.checkPrevious(ev); err != nil {
			return err
		}
		last = e.Revision
		f.events = append(f.events, e)
	}
	f.position = last
	f.signal()
	return nil
}

// checkPrevious checks what prev_kv can be checked for without knowing the history: there is one exactly where the key
// existed before.
func (f *Follower) checkPrevious(ev *clientv3.Event) error {
	if !f.PrevKV || ev.PrevKv == nil {
		return nil
	}
	if ev.PrevKv.ModRevision >= ev.Kv.ModRevision || !ev.IsModify() && ev.Type == clientv3.EventTypePut || ev.IsModify() && ev.PrevKv.Version != ev.Kv.Version-1 {
		return fmt.Errorf("%w: previous value of %s at %d is of revision %d and version %d", ErrBroken, ev.Kv.Key, ev.Kv.ModRevision, ev.PrevKv.ModRevision, ev.PrevKv.Version)
	}
	return nil
}

// progress takes the promise that everything up to a revision was delivered.
func (f *Follower) progress(revision int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.position = max(f.position, revision)
	f.signal()
}

func (f *Follower) signal() {
	select {
	case f.moved <- struct{}{}:
	default:
	}
}

// Follow watches until the stream ends or ctx does. It returns an error only for a watch that broke a promise.
func (f *Follower) Follow(ctx context.Context, c *clientv3.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := f.Open(ctx, c)
	for err == nil {
		err = f.Receive(stream)
	}
	var compacted CompactedError
	if errors.Is(err, ErrBroken) || errors.As(err, &compacted) {
		return fmt.Errorf("watch of %q: %w", f.prefix, err)
	}
	return nil
}

// CatchUp watches until everything up to head is delivered, by the store's own word: a progress response. A connection
// that is not there again yet is tried again.
func (f *Follower) CatchUp(ctx context.Context, c *clientv3.Client, head int64) error {
	ctx, cancel := client.Within(ctx)
	defer cancel()
	for {
		err := f.askUpTo(ctx, c, head)
		if err == nil {
			return nil
		}
		if status.Code(err) != codes.Unavailable || !c.ActiveConnection().WaitForStateChange(ctx, connectivity.TransientFailure) ||
			client.Wait(ctx, askEvery) != nil {
			return fmt.Errorf("watch of %q from %d: %w", f.prefix, f.Reached()+1, err)
		}
	}
}

func (f *Follower) askUpTo(ctx context.Context, c *clientv3.Client, head int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := f.Open(ctx, c)
	if err != nil {
		return err
	}
	go askProgress(ctx, stream)
	for f.Reached() < head {
		if err := f.Receive(stream); err != nil {
			return err
		}
	}
	return nil
}

// askProgress requests progress until ctx ends.
func askProgress(ctx context.Context, stream pb.Watch_WatchClient) {
	tick := time.NewTicker(askEvery)
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

// Open starts a watch at the revision after the last one seen. The first response must be that it is created: the etcd
// client drops what comes before.
func (f *Follower) Open(ctx context.Context, c *clientv3.Client) (pb.Watch_WatchClient, error) {
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
		Key: []byte(key), RangeEnd: []byte(end), StartRevision: f.Reached() + 1, PrevKv: f.PrevKV}}})
	if err != nil {
		return nil, err
	}
	first, err := stream.Recv()
	if err == nil && (!first.Created || len(first.Events) > 0) {
		err = fmt.Errorf("%w: the first response is not that the watch is created", ErrBroken)
	}
	return stream, err
}

// Receive takes one response of a watch that Open has started. It ends with the stream, or with an error that wraps ErrBroken
// or is a CompactedError.
func (f *Follower) Receive(stream pb.Watch_WatchClient) error {
	resp, err := stream.Recv()
	switch {
	case err != nil:
		return err
	case resp.Canceled && resp.CompactRevision > 0:
		return CompactedError{Revision: resp.CompactRevision}
	case resp.Canceled:
		return fmt.Errorf("%w: cancelled: %s", ErrBroken, resp.CancelReason)
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

// Stay watches through the etcd client, which opens a new stream by itself when the store comes back, until ctx ends.
func (f *Follower) Stay(ctx context.Context, c *clientv3.Client) error {
	for resp := range c.Watch(ctx, f.prefix, clientv3.WithPrefix(), clientv3.WithRev(f.Reached()+1), clientv3.WithProgressNotify()) {
		if ctx.Err() != nil {
			return nil
		}
		if err := resp.Err(); err != nil {
			return fmt.Errorf("watch of the etcd client after %d: %w", f.Reached(), err)
		}
		if resp.IsProgressNotify() {
			f.progress(resp.Header.Revision)
			continue
		}
		if err := f.add(resp.Events, resp.Header.Revision); err != nil {
			return fmt.Errorf("watch of the etcd client: %w", err)
		}
	}
	if ctx.Err() == nil {
		return fmt.Errorf("watch of the etcd client ended after %d", f.Reached())
	}
	return nil
}

// Await returns when everything up to head was seen by a watch that runs meanwhile.
func (f *Follower) Await(ctx context.Context, head int64) error {
	ctx, cancel := client.Within(ctx)
	defer cancel()
	for f.Reached() < head {
		select {
		case <-f.moved:
		case <-ctx.Done():
			return fmt.Errorf("watch is at revision %d, want %d: %w", f.Reached(), head, ctx.Err())
		}
	}
	return nil
}
