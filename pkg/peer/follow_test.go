package peer

import (
	"context"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
)

var (
	testOpen   = FollowOpen{Promised: 4, Last: elect.Position{ID: 10, Epoch: 3}}
	testOpened = FollowOpened{Epoch: 5, TruncateTo: elect.Position{ID: 8, Epoch: 3}}
)

// follow opens a stream from b and has it closed with the test.
func follow(t testing.TB, a *node) *Following {
	t.Helper()
	f, err := a.Follow(within(t), 2, testOpen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// TestFollow: open, frames, receipts, and the end with its reason.
func TestFollow(t *testing.T) {
	a, b := pair(t)
	frames := []*Frame{
		{Prev: elect.Position{ID: 8, Epoch: 3}, Rows: puts(9, 3, 3, []byte("x")), Committed: 7},
		{Committed: 9},
		{Prev: elect.Position{ID: 11, Epoch: 3}, Rows: puts(12, 2, 5, []byte("y")), Committed: 11},
	}
	b.h.follow = func(_ context.Context, s FollowStream) error {
		if s.From() != 1 || s.Name() != "a" || s.Open() != testOpen {
			t.Errorf("%v, %q, %v", s.From(), s.Name(), s.Open())
		}
		if err := s.Opened(testOpened); err != nil {
			return err
		}
		for _, f := range frames {
			if err := s.Send(f); err != nil {
				return err
			}
		}
		for {
			id, err := s.Receipt()
			if err != nil {
				return err
			}
			if id == 13 {
				return status.Error(codes.Aborted, "stepped down")
			}
		}
	}
	f := follow(t, a)
	if f.Opened() != testOpened {
		t.Fatalf("%v", f.Opened())
	}
	for i, want := range frames {
		got, err := f.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.Rows, want.Rows) || got.Committed != want.Committed {
			t.Fatalf("frame %d is %v", i, got)
		}
		f.Receipt(got.Last().ID)
	}
	if _, err := f.Recv(); status.Code(err) != codes.Aborted || status.Convert(err).Message() != "stepped down" {
		t.Fatal(err)
	}
}

// TestFollowEnds: what the Replica is told.
func TestFollowEnds(t *testing.T) {
	a, b := pair(t)
	opened := true
	var end error
	b.h.follow = func(_ context.Context, s FollowStream) error {
		if opened {
			if err := s.Opened(testOpened); err != nil {
				return err
			}
		}
		return end
	}
	if _, err := follow(t, a).Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("no reason: %v", err)
	}
	end = errors.New("plain")
	if _, err := follow(t, a).Recv(); status.Code(err) != codes.Aborted || status.Convert(err).Message() != "plain" {
		t.Errorf("a plain error: %v", err)
	}
	opened, end = false, status.Error(codes.FailedPrecondition, "not the primary")
	if _, err := a.Follow(within(t), 2, testOpen); status.Code(err) != codes.FailedPrecondition || errors.Is(err, ErrRefused) {
		t.Errorf("before it opened: %v", err)
	}
	if _, err := a.Follow(within(t), 3, testOpen); !errors.Is(err, ErrUnknownPeer) {
		t.Errorf("an unknown peer: %v", err)
	}
}

// TestFollowOpened: a Primary whose answer cannot be is not followed.
func TestFollowOpened(t *testing.T) {
	a, b := pair(t)
	var opened FollowOpened
	b.h.follow = func(_ context.Context, s FollowStream) error { return s.Opened(opened) }
	for name, c := range map[string]struct {
		opened FollowOpened
		want   error
	}{
		"old epoch":      {FollowOpened{Epoch: 3, TruncateTo: testOpen.Last}, ErrRefused},
		"no epoch":       {FollowOpened{TruncateTo: testOpen.Last}, ErrRefused},
		"beyond the end": {FollowOpened{Epoch: 5, TruncateTo: elect.Position{ID: 11, Epoch: 3}}, ErrFrame},
		"epoch too high": {FollowOpened{Epoch: 5, TruncateTo: elect.Position{ID: 10, Epoch: 4}}, ErrFrame},
		"negative":       {FollowOpened{Epoch: 5, TruncateTo: elect.Position{ID: -1}}, ErrFrame},
		"same epoch":     {FollowOpened{Epoch: 4, TruncateTo: testOpen.Last}, nil},
		"from the start": {FollowOpened{Epoch: 4}, nil},
	} {
		opened = c.opened
		f, err := a.Follow(within(t), 2, testOpen)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			if f.Opened() != c.opened {
				t.Errorf("%s: %v", name, f.Opened())
			}
			f.Close()
		}
	}
}

// TestFramesFollow: a frame that does not follow is not sent, and not taken.
func TestFramesFollow(t *testing.T) {
	a, b := pair(t)
	b.h.follow = func(_ context.Context, s FollowStream) error {
		if err := s.Opened(testOpened); err != nil {
			return err
		}
		for _, prev := range []elect.Position{{ID: 9, Epoch: 3}, {ID: 8, Epoch: 2}} {
			if err := s.Send(&Frame{Prev: prev, Rows: puts(prev.ID+1, 1, 3, nil)}); !errors.Is(err, ErrFrame) {
				t.Errorf("a frame after %v: %v", prev, err)
			}
		}
		// A frame of an epoch above the stream's, past this side's own checks.
		bad := &Frame{Prev: testOpened.TruncateTo, Rows: puts(9, 1, 6, nil)}
		if err := s.Send(bad); err != nil {
			return err
		}
		_, err := s.Receipt()
		return err
	}
	f := follow(t, a)
	if _, err := f.Recv(); !errors.Is(err, ErrFrame) || !strings.Contains(err.Error(), "epoch 6") {
		t.Fatal(err)
	}
}

// TestBadReceipts end the stream, with a reason.
func TestBadReceipts(t *testing.T) {
	a, b := pair(t)
	b.h.follow = func(_ context.Context, s FollowStream) error {
		if err := s.Opened(testOpened); err != nil {
			return err
		}
		for {
			if _, err := s.Receipt(); err != nil {
				return err
			}
		}
	}
	f := follow(t, a)
	f.Receipt(9)
	if _, err := f.Recv(); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "invalid receipt") {
		t.Fatal(err)
	}
	s := &followServer{sent: elect.Position{ID: 10}}
	if err := s.take(&peerpb.Receipt{Id: 5}); err != nil {
		t.Error(err)
	}
	if err := s.take(&peerpb.Receipt{Id: 4}); !errors.Is(err, errBadReceipt) {
		t.Errorf("one that goes back: %v", err)
	}
}

// TestLargeFrames: 16 MiB, and a revision of more, in frames that two Replicas share.
func TestLargeFrames(t *testing.T) {
	a, b := pair(t)
	c := start(t, config(3, "c"), newHandler())
	meet(a, b, c)
	value := make([]byte, 1<<20)
	rows := puts(9, 15, 5, value)
	revision := puts(24, 40, 5, value)
	for i := range revision {
		revision[i].Revision, revision[i].CreateRevision, revision[i].Sub = 25, 25, int64(i)
	}
	frames := []*Frame{
		{Prev: testOpened.TruncateTo, Rows: rows},
		{Prev: elect.Position{ID: 23, Epoch: 5}, Rows: revision, Committed: 23},
	}
	b.h.follow = func(ctx context.Context, s FollowStream) error {
		if err := s.Opened(testOpened); err != nil {
			return err
		}
		for _, f := range frames {
			if err := s.Send(f); err != nil {
				return err
			}
		}
		return nil
	}
	done := make(chan error, 2)
	for _, n := range []*node{a, c} {
		f := follow(t, n)
		go func() {
			for _, want := range frames {
				got, err := f.Recv()
				if err == nil && (len(got.Rows) != len(want.Rows) || got.Last() != want.Last() || len(got.Rows[0].Value) != len(value)) {
					err = errors.New("another frame")
				}
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 2 {
		if err := next(t, "all frames", done); err != nil {
			t.Error(err)
		}
	}
}

// TestSlowReplica: one that takes no frames keeps its sender waiting, and nobody else,
// and its connection stays; when it goes on it has missed nothing.
func TestSlowReplica(t *testing.T) {
	a, b := pair(t)
	c := start(t, config(3, "c"), newHandler())
	meet(a, b, c)
	const frames = 40 // of 1 MiB: more than fits between the two
	b.h.follow = func(_ context.Context, s FollowStream) error {
		if err := s.Opened(testOpened); err != nil {
			return err
		}
		prev := testOpened.TruncateTo
		for range frames {
			f := &Frame{Prev: prev, Rows: puts(prev.ID+1, 1, 5, make([]byte, 1<<20))}
			if err := s.Send(f); err != nil {
				return err
			}
			prev = f.Last()
		}
		return nil
	}
	slow, fast := follow(t, a), follow(t, c)
	for range frames {
		if _, err := fast.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Forward(within(t), 2, grant(1)); err != nil {
		t.Error(err)
	}
	sendUntil(t, a, b)
	for range 3 {
		waitHeard(t, a)
		waitHeard(t, b)
	}
	for i := range frames {
		if _, err := slow.Recv(); err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
	}
	if _, err := slow.Recv(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// waitHeard waits until each connection of a node has heard something anew.
func waitHeard(t *testing.T, n *node) {
	t.Helper()
	n.dog.tick()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	deadline := time.Now().Add(patience)
	for quiet := true; quiet; <-ticker.C {
		quiet = false
		n.dog.mu.Lock()
		for c := range n.dog.conns {
			quiet = quiet || c.quiet.Load() > 0
		}
		n.dog.mu.Unlock()
		if time.Now().After(deadline) {
			t.Fatal("a connection stays quiet")
		}
	}
}

// TestFollowIsEnded: by the Replica, by its context, by either Transport.
func TestFollowIsEnded(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(a, b *node, f *Following, cancel context.CancelFunc)
		want error
	}{
		"closed":           {func(_, _ *node, f *Following, _ context.CancelFunc) { f.Close() }, ErrClosed},
		"context":          {func(_, _ *node, _ *Following, cancel context.CancelFunc) { cancel() }, context.Canceled},
		"replica stops":    {func(a, _ *node, _ *Following, _ context.CancelFunc) { a.stop() }, ErrClosed},
		"primary stops":    {func(_, b *node, _ *Following, _ context.CancelFunc) { b.stop() }, errStops},
		"peer is left out": {func(a, _ *node, _ *Following, _ context.CancelFunc) { a.SetPeers(nil) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			ended := make(chan error, 1)
			b.h.follow = func(ctx context.Context, s FollowStream) error {
				if err := s.Opened(testOpened); err != nil {
					return err
				}
				go func() { _, err := s.Receipt(); ended <- err }()
				<-ctx.Done()
				return context.Cause(ctx)
			}
			ctx, cancel := context.WithCancel(within(t))
			defer cancel()
			f, err := a.Follow(ctx, 2, testOpen)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			received := make(chan error, 1)
			go func() { _, err := f.Recv(); received <- err }()
			c.end(a, b, f, cancel)
			if c.want == nil { // the stream goes on
				f.Close()
				c.want = ErrClosed
			}
			err = next(t, "the Replica's end", received)
			if !errors.Is(err, c.want) && status.Convert(err).Message() != status.Convert(c.want).Message() {
				t.Errorf("%v", err)
			}
			next(t, "the Primary's end", ended)
		})
	}
}

func BenchmarkFollow(b *testing.B) {
	x, y := pair(b)
	const group = 50
	value := make([]byte, 256)
	y.h.follow = func(_ context.Context, s FollowStream) error {
		if err := s.Opened(testOpened); err != nil {
			return err
		}
		prev := testOpened.TruncateTo
		for range b.N/group + 1 {
			f := &Frame{Prev: prev, Rows: puts(prev.ID+1, group, 5, value)}
			if err := s.Send(f); err != nil {
				return err
			}
			prev = f.Last()
		}
		return nil
	}
	b.ReportAllocs()
	b.ResetTimer()
	f := follow(b, x)
	for {
		frame, err := f.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			b.Fatal(err)
		}
		f.Receipt(frame.Last().ID)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
