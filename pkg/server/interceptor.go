package server

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/sirupsen/logrus"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// errPanic is what a client sees of a panic in a handler.
var errPanic = status.Error(codes.Internal, "etcdserver: internal error")

// unaryInterceptor is the only one: counting, profile, leader and recovery in
// one frame, since it runs for every request.
func (s *Server) unaryInterceptor(
	ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (resp any, err error) {
	m := s.metrics.method(info.FullMethod)
	m.inFlight.Add(1)
	start := time.Now()
	defer func() {
		if p := recover(); p != nil {
			resp, err = nil, s.recovered(info.FullMethod, p)
		}
		s.observe(m, start, err)
	}()
	if m.refusal != nil {
		return nil, m.refusal
	}
	if err := s.checkLeader(ctx); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func (s *Server) streamInterceptor(
	srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) (err error) {
	m := s.metrics.method(info.FullMethod)
	m.inFlight.Add(1)
	start := time.Now()
	defer func() {
		if p := recover(); p != nil {
			err = s.recovered(info.FullMethod, p)
		}
		s.observe(m, start, err)
	}()
	if m.refusal != nil {
		return m.refusal
	}
	if err := s.checkLeader(stream.Context()); err != nil {
		return err
	}
	return handler(srv, stream)
}

// observe counts a request that ended, and logs it at debug level.
func (s *Server) observe(m *method, start time.Time, err error) {
	took := time.Since(start)
	code := status.Code(err)
	m.done(code, took)
	if s.cfg.Logger.IsLevelEnabled(logrus.DebugLevel) {
		s.cfg.Logger.WithFields(logrus.Fields{
			"method": m.name, "code": code.String(), "took": took,
		}).Debug("request ended")
	}
}

// recovered logs a panic of a handler with its stack and returns what the
// client is told.
func (s *Server) recovered(method string, p any) error {
	s.metrics.panics.Add(1)
	s.cfg.Logger.WithFields(logrus.Fields{
		"method": method, "panic": p, "stack": string(debug.Stack()),
	}).Error("request handler panicked")
	return errPanic
}

// requiresLeader tells whether the client asked for a server with a leader.
func requiresLeader(ctx context.Context) bool {
	v := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataRequireLeaderKey)
	return len(v) > 0 && v[0] == rpctypes.MetadataHasLeader
}

// checkLeader asks the engine only when the last look of the monitor found no
// leader: its Status is too dear for every request.
func (s *Server) checkLeader(ctx context.Context) error {
	if requiresLeader(ctx) && !s.leader.present() && !hasLeader(s.cfg.Admin.Status()) {
		return rpctypes.ErrGRPCNoLeader
	}
	return nil
}

// streamContext returns a context for a long stream. It ends with the stream,
// when the server stops, and when a leader was required and is lost; then
// context.Cause is the gRPC error to answer.
func (s *Server) streamContext(parent context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	stops := []func() bool{context.AfterFunc(s.draining, func() { cancel(context.Cause(s.draining)) })}
	if requiresLeader(parent) {
		led := s.leader.context()
		stops = append(stops, context.AfterFunc(led, func() { cancel(context.Cause(led)) }))
	}
	return ctx, func(cause error) {
		for _, stop := range stops {
			stop()
		}
		cancel(cause)
	}
}
