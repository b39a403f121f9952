package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// servers are the endpoints and the connection to one of them. It is not safe for concurrent use.
type servers struct {
	all         []endpoint
	tls         *tls.Config
	dialLimit   time.Duration // of a connection
	answerLimit time.Duration // of an answer

	at   int              // index of the one in use, or to try first
	conn *grpc.ClientConn // nil: none
}

// close ends the connection.
func (s *servers) close() {
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn = nil
	}
}

// name is the endpoint in use.
func (s *servers) name() string { return s.all[s.at].name }

// connect returns a connection that is established: the one in use, or else one to the first endpoint that is reached.
func (s *servers) connect(ctx context.Context) (*grpc.ClientConn, error) {
	if s.conn != nil && s.conn.GetState() == connectivity.Ready {
		return s.conn, nil
	}
	var failed []string
	for range s.all {
		s.close()
		conn, err := s.open(ctx, s.all[s.at])
		if err == nil {
			s.conn = conn
			return conn, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		failed = append(failed, s.name()+": "+err.Error())
		s.at = (s.at + 1) % len(s.all)
	}
	if len(failed) == 1 {
		return nil, status.Error(codes.Unavailable, "no server at "+failed[0])
	}
	return nil, status.Error(codes.Unavailable, "no server at any endpoint: "+strings.Join(failed, "; "))
}

// next gives the endpoint in use up for the one after it.
func (s *servers) next() {
	s.close()
	s.at = (s.at + 1) % len(s.all)
}

// open connects to an endpoint. The caller closes the connection.
func (s *servers) open(ctx context.Context, e endpoint) (*grpc.ClientConn, error) {
	conn, err := e.dial(s.tls)
	if err != nil {
		return nil, err
	}
	within, cancel := context.WithTimeout(ctx, s.dialLimit)
	defer cancel()
	if err := established(within, conn); err != nil {
		_ = conn.Close()
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, fmt.Errorf("no connection within %s", s.dialLimit)
		}
		return nil, err
	}
	return conn, nil
}

// established waits until a connection is there, or has failed once.
func established(ctx context.Context, conn *grpc.ClientConn) error {
	conn.Connect()
	for {
		state := conn.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.TransientFailure:
			// A call fails at once now, and says why.
			_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
			if err == nil || status.Code(err) != codes.Unavailable {
				return nil
			}
			return describe(err)
		}
		if !conn.WaitForStateChange(ctx, state) {
			return ctx.Err()
		}
	}
}

// read calls f at one server after the other until one has an answer.
func (s *servers) read(ctx context.Context, f func(context.Context, *grpc.ClientConn) error) error {
	return describe(s.each(ctx, f, func(err error) bool { return status.Code(err) == codes.Unavailable }))
}

// write calls f at the first server that is reached, and at the next one only where the answer says that nothing was done.
func (s *servers) write(ctx context.Context, f func(context.Context, *grpc.ClientConn) error) error {
	return describeWrite(s.each(ctx, f, notDone))
}

// each calls f at one server after the other while again says so of its error.
func (s *servers) each(ctx context.Context, f func(context.Context, *grpc.ClientConn) error, again func(error) bool) error {
	var err error
	for range s.all {
		conn, refused := s.connect(ctx)
		if refused != nil {
			return describe(refused) // nothing was sent
		}
		if err = s.limited(ctx, conn, f); !again(err) || ctx.Err() != nil {
			break
		}
		s.next()
	}
	return err
}

// limited calls f with the limit of an answer.
func (s *servers) limited(ctx context.Context, conn *grpc.ClientConn, f func(context.Context, *grpc.ClientConn) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.answerLimit)
	defer cancel()
	return f(ctx, conn)
}
