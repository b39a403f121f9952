package client

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestOpenOutcomes tells errors that leave the outcome open from those that do not.
func TestOpenOutcomes(t *testing.T) {
	for err, open := range map[error]bool{
		context.DeadlineExceeded:                       true,
		context.Canceled:                               true,
		rpctypes.ErrLeaderChanged:                      true,
		rpctypes.ErrTimeout:                            true,
		status.Error(codes.Unavailable, "some text"):   true,
		rpctypes.ErrNoSpace:                            false,
		rpctypes.ErrCompacted:                          false,
		status.Error(codes.Internal, "some text"):      false,
		errors.New("not from a server"):                false,
		status.Error(codes.DeadlineExceeded, "a text"): true,
	} {
		if OpenOutcome(err) != open {
			t.Errorf("%v: open is %t", err, !open)
		}
	}
}

// TestUntilTellsTheLastError gives up, and does not.
func TestUntilTellsTheLastError(t *testing.T) {
	last := errors.New("not yet")
	if err := Until(5*time.Millisecond, time.Millisecond, func() error { return last }); !errors.Is(err, last) {
		t.Errorf("ended with %v", err)
	}
	calls := 0
	err := Until(time.Minute, time.Millisecond, func() error {
		if calls++; calls < 3 {
			return last
		}
		return nil
	})
	if err != nil || calls != 3 {
		t.Errorf("ended with %v after %d calls", err, calls)
	}
}

// TestWaitEndsWithItsContext names the cause.
func TestWaitEndsWithItsContext(t *testing.T) {
	cause := errors.New("some cause")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := Wait(ctx, time.Minute); !errors.Is(err, cause) {
		t.Errorf("ended with %v", err)
	}
}

// TestEachClientHasOneEndpoint deals three endpoints to five clients; one client may know all of them.
func TestEachClientHasOneEndpoint(t *testing.T) {
	all := []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}
	for i, c := range DialEach(t, 5, all...) {
		if got := c.Endpoints(); len(got) != 1 || got[0] != all[i%3] {
			t.Errorf("client %d knows %v", i, got)
		}
	}
	if got := Dial(t, all...).Endpoints(); len(got) != 3 {
		t.Errorf("a client knows %v", got)
	}
}
