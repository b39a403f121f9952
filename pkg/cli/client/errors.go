package client

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ErrUsage matches errors of the command line itself.
var ErrUsage = errors.New("wrong usage")

// misuse is an error that ErrUsage matches.
type misuse struct{ error }

// Misuse marks an error as one of the command line itself. Its text stays.
func Misuse(err error) error { return misuse{err} }

// Is reports that ErrUsage matches.
func (m misuse) Is(target error) bool { return target == ErrUsage }

// Unwrap returns the error that was marked.
func (m misuse) Unwrap() error { return m.error }

// usagef makes an error of the command line.
func usagef(format string, args ...any) error { return Misuse(fmt.Errorf(format, args...)) }

// answered is an error that a server has answered, or the connection to it, as a line of text.
type answered struct {
	text string
	err  error
}

// Error returns the line.
func (a answered) Error() string { return a.text }

// Unwrap returns the error of gRPC.
func (a answered) Unwrap() error { return a.err }

// describe makes a line of an error of gRPC: what the server says, or why there is no connection, after what callers have put
// before it. Other errors stay.
func describe(err error) error {
	var noted answered
	var answer interface {
		error
		GRPCStatus() *status.Status
	}
	if errors.As(err, &noted) || !errors.As(err, &answer) {
		return err
	}
	text := answer.GRPCStatus().Message()
	switch code := answer.GRPCStatus().Code(); {
	case code == codes.DeadlineExceeded:
		text = "no answer in time (--command-timeout)"
	case code == codes.Canceled:
		text = context.Canceled.Error()
	case strings.HasPrefix(text, "connection error: "):
		text = connectionText(text)
	}
	return answered{text: oneLine(strings.Replace(err.Error(), answer.Error(), text, 1)), err: err}
}

// connectionText takes out of gRPC's text what has happened to the connection.
func connectionText(text string) string {
	if _, rest, ok := strings.Cut(text, `desc = "`); ok {
		text = strings.TrimSuffix(rest, `"`)
	}
	text = strings.TrimPrefix(text, "transport: ")
	for _, noise := range []string{"Error while dialing: ", "authentication handshake failed: "} {
		text = strings.TrimPrefix(text, noise)
	}
	return strings.ReplaceAll(text, `\"`, `"`)
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// openOutcome says of a write that failed whether it may have been done all the same.
func openOutcome(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable:
		return !notDone(err)
	case codes.DeadlineExceeded, codes.Canceled, codes.Unknown, codes.Internal:
		return true
	}
	return false
}

// notDone reports whether a server says that it has not begun with a request.
func notDone(err error) bool {
	return status.Code(err) == codes.Unavailable && status.Convert(err).Message() == rpctypes.ErrorDesc(rpctypes.ErrGRPCNoLeader)
}

// describeWrite is describe for a request that may have changed something. What was described before stays.
func describeWrite(err error) error {
	var noted answered
	if err == nil || errors.As(err, &noted) || !openOutcome(err) {
		return describe(err)
	}
	return answered{text: describe(err).Error() + "; whether it was done is not known", err: err}
}
