package gateway

import (
	"context"
	"errors"
	"net/http"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/pkg/server"
)

// Error is what a client is told: a status of HTTP and a text. All errors of API
// are of this type.
type Error struct {
	Code    int
	Message string
}

// Error returns the text.
func (e *Error) Error() string { return e.Message }

// The errors of the gateway's own; their texts are AntiEtcd's where it has them.
var (
	errContentType  = &Error{http.StatusBadRequest, "content-type should be application/json"}
	errNotJSON      = &Error{http.StatusBadRequest, "body should be valid JSON"}
	errNotObject    = &Error{http.StatusBadRequest, "body should be JSON object"}
	errTooLarge     = &Error{http.StatusBadRequest, rpctypes.ErrRequestTooLarge.Error()}
	errUnknownLease = &Error{http.StatusBadRequest, "unknown lease"}
	errMethod       = &Error{http.StatusMethodNotAllowed, "Please use POST method"}
	errStopping     = &Error{http.StatusBadGateway, "Server is stopping"}
	errNotLeader    = &Error{http.StatusServiceUnavailable, "Not leader"}
	errNoQuorum     = &Error{http.StatusServiceUnavailable, "Quorum not available"}
	errInternal     = &Error{http.StatusInternalServerError, "internal error"}
	errNoSuchURL    = &Error{http.StatusNotFound, "Supported APIs: /v3/kv/txn, /v3/kv/range, /v3/kv/put, /v3/kv/deleterange, " +
		"/v3/lease/grant, /v3/lease/revoke, /v3/kv/lease/revoke, /v3/lease/keepalive, /v3/maintenance/status"}
)

// httpCodes are the statuses of the engine's errors by what gRPC clients get.
var httpCodes = map[codes.Code]int{
	codes.InvalidArgument:    http.StatusBadRequest,
	codes.NotFound:           http.StatusBadRequest,
	codes.AlreadyExists:      http.StatusBadRequest,
	codes.FailedPrecondition: http.StatusBadRequest,
	codes.OutOfRange:         http.StatusBadRequest,
	codes.PermissionDenied:   http.StatusForbidden,
	codes.Unauthenticated:    http.StatusForbidden,
	codes.Unimplemented:      http.StatusNotImplemented,
	codes.ResourceExhausted:  http.StatusServiceUnavailable,
	codes.Unavailable:        http.StatusServiceUnavailable,
	codes.DeadlineExceeded:   http.StatusServiceUnavailable,
	codes.Aborted:            http.StatusServiceUnavailable,
	codes.Canceled:           http.StatusServiceUnavailable,
}

// toError returns what a client is told of any error.
func toError(err error) *Error {
	var own *Error
	var lease *badLease
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &lease):
		return &Error{http.StatusBadRequest, lease.Error()}
	case errors.Is(err, context.DeadlineExceeded):
		return errNoQuorum
	}
	st := status.Convert(server.StatusError(err))
	switch {
	case st.Message() == rpctypes.ErrorDesc(rpctypes.ErrGRPCStopped):
		return errStopping
	case st.Message() == rpctypes.ErrorDesc(rpctypes.ErrGRPCLeaseNotFound):
		return errUnknownLease
	}
	code, known := httpCodes[st.Code()]
	if !known {
		code = http.StatusInternalServerError
	}
	return &Error{code, st.Message()}
}
