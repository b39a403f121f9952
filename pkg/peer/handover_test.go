package peer

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/pkg/elect"
)

func (h *handler) HandOver(ctx context.Context, to elect.NodeID) (elect.NodeID, error) {
	if h.handOver == nil {
		return 0, errors.New("unexpected")
	}
	return h.handOver(ctx, to)
}

// TestHandOver: a client that is no node may ask for it, and is told what came of it.
func TestHandOver(t *testing.T) {
	h := newHandler()
	asked := make(chan elect.NodeID, 1)
	h.handOver = func(_ context.Context, to elect.NodeID) (elect.NodeID, error) {
		asked <- to
		if to == 3 {
			return 0, errors.New("node 3 is not there")
		}
		return to, nil
	}
	server := start(t, config(1, "a"), h)
	cfg := config(0, "client")
	cfg.ListenAddress = ""
	client := start(t, cfg, nil)
	primary, err := client.HandOver(within(t), server.Address(), 2)
	if err != nil || primary != 2 || next(t, "question", asked) != 2 {
		t.Fatalf("node %s, %v", primary, err)
	}
	_, err = client.HandOver(within(t), server.Address(), 3)
	if status.Code(err) != codes.Aborted || !strings.Contains(err.Error(), "node 3 is not there") {
		t.Fatalf("error is %v", err)
	}
	cfg.Cluster++
	stranger := start(t, cfg, nil)
	if _, err := stranger.HandOver(within(t), server.Address(), 2); !errors.Is(err, ErrRefused) {
		t.Errorf("another cluster's: %v", err)
	}
}

// TestHandOverEndsWithItsCaller: a node does not work for those who have gone.
func TestHandOverEndsWithItsCaller(t *testing.T) {
	h := newHandler()
	begun, ended := make(chan struct{}), make(chan struct{})
	h.handOver = func(ctx context.Context, _ elect.NodeID) (elect.NodeID, error) {
		close(begun)
		<-ctx.Done()
		close(ended)
		return 0, ctx.Err()
	}
	a, b := start(t, config(1, "a"), h), start(t, config(2, "b"), newHandler())
	ctx, cancel := context.WithCancel(within(t))
	result := make(chan error, 1)
	go func() {
		_, err := b.HandOver(ctx, a.Address(), 0)
		result <- err
	}()
	next(t, "question", begun)
	cancel()
	if err := next(t, "answer", result); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	next(t, "end", ended)
}
