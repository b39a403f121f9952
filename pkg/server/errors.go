package server

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/replicate"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// errorTable maps the engine's sentinels to what etcd answers. The first entry
// that matches wins: an outer sentinel comes before the ones it may wrap.
var errorTable = []struct{ engine, grpc error }{
	{mvcc.ErrCompacted, rpctypes.ErrGRPCCompacted},
	{mvcc.ErrFutureRevision, rpctypes.ErrGRPCFutureRev},
	{mvcc.ErrKeyNotFound, rpctypes.ErrGRPCKeyNotFound},
	{mvcc.ErrLeaseNotFound, rpctypes.ErrGRPCLeaseNotFound},
	{mvcc.ErrLeaseExists, rpctypes.ErrGRPCLeaseExist},
	{mvcc.ErrLeaseTTLTooLarge, rpctypes.ErrGRPCLeaseTTLTooLarge},
	{mvcc.ErrWatchIDInUse, status.Error(codes.InvalidArgument, "etcdserver: "+mvcc.ErrWatchIDInUse.Error())},
	{mvcc.ErrEmptyWatchRange, status.Error(codes.InvalidArgument, "etcdserver: "+mvcc.ErrEmptyWatchRange.Error())},
	{mvcc.ErrWatchNotFound, status.Error(codes.NotFound, "etcdserver: "+mvcc.ErrWatchNotFound.Error())},
	{mvcc.ErrClosed, rpctypes.ErrGRPCStopped},

	{replicate.ErrDeposed, rpctypes.ErrGRPCLeaderChanged},
	{replicate.ErrNoSuccessor, rpctypes.ErrGRPCTimeout},
	{replicate.ErrNoSpace, rpctypes.ErrGRPCNoSpace},
	{replicate.ErrStopped, rpctypes.ErrGRPCStopped},
	{replicate.ErrNotPrimary, rpctypes.ErrGRPCNoLeader},
	{replicate.ErrUnavailable, rpctypes.ErrGRPCUnhealthy},

	// A read of a value, a hash or a defragmentation meets the log itself.
	{sqllog.ErrFull, rpctypes.ErrGRPCNoSpace},
	{sqllog.ErrIO, rpctypes.ErrGRPCUnhealthy},
	{sqllog.ErrCorrupt, rpctypes.ErrGRPCCorrupt},
	{sqllog.ErrMissing, rpctypes.ErrGRPCCorrupt},
	{sqllog.ErrClosed, rpctypes.ErrGRPCStopped},
}

// StatusError is what clients are told of an error of the engine: a gRPC status.
func StatusError(err error) error { return toGRPC(err) }

// toGRPC returns the gRPC error for an error of the engine. Status errors pass
// unchanged, context errors become Canceled and DeadlineExceeded with gRPC's
// texts, and what nobody knows becomes Unknown with its own text, as in etcd.
func toGRPC(err error) error {
	if err == nil {
		return nil
	}
	for _, e := range errorTable {
		if errors.Is(err, e.engine) {
			return e.grpc
		}
	}
	if errors.Is(err, context.Canceled) {
		return status.FromContextError(context.Canceled).Err()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return status.FromContextError(context.DeadlineExceeded).Err()
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Unknown, err.Error())
}
