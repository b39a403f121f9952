package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/pkg/peer/peerpb"
)

// errStops ends what this node serves when it stops.
var errStops = status.Error(codes.Unavailable, "the node stops")

// ending is the status of a stream that was served, whose Recv or handler returned
// err.
func ending(ctx context.Context, err error) error {
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return nil
	case errors.Is(context.Cause(ctx), ErrClosed):
		return errStops
	}
	return toStatus(err)
}

// toStatus makes a gRPC status of an error of a Handler: Aborted where it is none.
func toStatus(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.Aborted, err.Error())
}

// malformed refuses what a peer sent.
func malformed(err error) error { return status.Error(codes.InvalidArgument, err.Error()) }

// encodeStatus and decodeStatus carry an error in a message.
func encodeStatus(err error) *peerpb.Status {
	s := status.Convert(toStatus(err))
	return &peerpb.Status{Code: uint32(s.Code()), Message: s.Message()}
}

func decodeStatus(s *peerpb.Status) error {
	code := codes.Code(s.GetCode())
	if code == codes.OK { // an error is never OK
		code = codes.Unknown
	}
	return status.Error(code, s.GetMessage())
}

// recovered logs a panic of a handler and returns what the peer is told.
func (t *Transport) recovered(method string, p any) error {
	t.cfg.Logger.WithField("method", method).WithField("stack", string(debug.Stack())).Error("panic in a peer's request")
	return status.Error(codes.Internal, fmt.Sprintf("panic: %v", p))
}
