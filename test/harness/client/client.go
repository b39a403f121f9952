// Package client makes etcd clients for tests, and bounds how long they and others wait.
package client

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// WaitLimit bounds every wait for what must come; it is far above what is expected.
	WaitLimit = 30 * time.Second
	// Patience is how long a client waits for an answer that may never come.
	Patience = 3 * time.Second
)

// Dial returns an etcd client that knows some endpoints (host:port), and finds a node that was started again at once. It is
// closed when the test ends.
func Dial(t testing.TB, endpoints ...string) *clientv3.Client {
	t.Helper()
	quick := grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 3 * time.Millisecond, Multiplier: 1.2, MaxDelay: 15 * time.Millisecond},
		MinConnectTimeout: time.Second}
	c, err := clientv3.New(clientv3.Config{
		Endpoints:   endpoints,
		Logger:      zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(quick)},
	})
	if err != nil {
		t.Fatalf("make client: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// DialEach returns clients with a connection each; every one of them knows a single endpoint, in turn.
func DialEach(t testing.TB, count int, endpoints ...string) []*clientv3.Client {
	t.Helper()
	list := make([]*clientv3.Client, count)
	for i := range list {
		list[i] = Dial(t, endpoints[i%len(endpoints)])
	}
	return list
}

// Within is a context for one check: it ends after WaitLimit.
func Within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, WaitLimit)
}

// Wait returns after a time, or with the cause when ctx ends.
func Wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Until calls check, at once and then every interval, until it returns nil. When limit passes first the error is check's
// last one.
func Until(limit, interval time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not so within %s: %w", limit, err)
		case <-ticker.C:
		}
	}
}

// OpenOutcome reports whether an error of a request says no more than that the answer is missing.
func OpenOutcome(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return true
	}
	var known rpctypes.EtcdError // what the etcd client makes of a status whose text it knows
	code := status.Code(err)
	if errors.As(err, &known) {
		code = known.Code()
	}
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded:
		return true
	}
	return false
}
