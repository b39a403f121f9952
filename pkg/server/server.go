package server

import (
	"context"
	"errors"
	"math"
	"net"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
)

// Server is the gRPC front of one node. Its methods may be called concurrently.
type Server struct {
	cfg     Config
	grpc    *grpc.Server
	health  *healthServer
	leader  *leadership
	metrics *metrics

	snapshots *snapshots

	// draining ends, with the error to answer, when the server stops.
	draining context.Context
	drain    context.CancelCauseFunc

	monitorOnce sync.Once
	// mu orders the start of a goroutine against stopped.
	mu      sync.Mutex
	stopped bool
	wg      sync.WaitGroup
}

// New builds a Server and registers its services. The configuration must have
// passed Validate. Stop or GracefulStop must be called, also without Serve.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg.withDefaults(), leader: newLeadership()}
	s.draining, s.drain = context.WithCancelCause(context.Background())
	s.grpc = grpc.NewServer(s.grpcOptions()...)
	s.health = newHealthServer(s.cfg.Admin)
	s.snapshots = newSnapshots(s.cfg)

	pb.RegisterKVServer(s.grpc, &kvServer{Server: s})
	pb.RegisterWatchServer(s.grpc, &watchServer{Server: s})
	pb.RegisterLeaseServer(s.grpc, &leaseServer{Server: s})
	pb.RegisterClusterServer(s.grpc, &clusterServer{Server: s})
	pb.RegisterMaintenanceServer(s.grpc, &maintenanceServer{Server: s})
	pb.RegisterAuthServer(s.grpc, &authServer{})
	healthpb.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)

	s.metrics = newMetrics(s.grpc.GetServiceInfo(), s.cfg.Profile)
	return s
}

// streamWorkers is how many goroutines run handlers one after the other. A
// goroutine per request grows its stack anew each time, which costs 10-20 % of
// the CPU of a small request. A write keeps its goroutine until it is committed, so
// there are as many as writes that wait for one commit of a busy server. When all
// are busy, with watches for example, gRPC starts a goroutine per request as it
// does by default.
const streamWorkers = 256

// Bytes that a client may send ahead in one stream and on one connection. Fixed
// ones keep gRPC from measuring the connection, which costs a ping and its answer
// for nearly every small request.
const (
	streamWindow     = 1 << 20
	connectionWindow = 4 << 20
)

func (s *Server) grpcOptions() []grpc.ServerOption {
	opts := []grpc.ServerOption{
		grpc.UnaryInterceptor(s.unaryInterceptor),
		grpc.StreamInterceptor(s.streamInterceptor),
		grpc.WaitForHandlers(true),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connectionWindow),
		grpc.MaxRecvMsgSize(s.cfg.MaxRequestBytes + overheadBytes),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.MaxConcurrentStreams(s.cfg.MaxConcurrentStreams),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: s.cfg.KeepaliveMinTime}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time:    s.cfg.KeepaliveInterval,
			Timeout: s.cfg.KeepaliveTimeout,
		}),
	}
	if s.cfg.TransportCredentials != nil {
		opts = append(opts, grpc.Creds(s.cfg.TransportCredentials))
	}
	return opts
}

// Serve answers requests from l until the server stops, and closes l. It
// returns nil after GracefulStop or Stop. It may run for several listeners.
func (s *Server) Serve(l net.Listener) error {
	s.monitorOnce.Do(func() { s.spawn(s.monitor) })
	return s.grpc.Serve(l)
}

// forceWait bounds how long a forced stop waits for handlers that do not end
// although their context has.
const forceWait = time.Second

// errStuck is what a forced stop returns when handlers are still running.
var errStuck = errors.New("server: request handlers did not end")

// GracefulStop refuses new requests, ends watch and keepalive streams, and
// waits for running requests until ctx ends; then it closes what is left and
// returns the cause of ctx. It returns nil when everything ended by itself.
func (s *Server) GracefulStop(ctx context.Context) error {
	s.health.shutdown()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.grpc.GracefulStop()
		s.waitSpawned()
	}()
	s.drain(rpctypes.ErrGRPCStopped)

	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), s.forceStop())
	}
}

// Stop closes every connection at once, and returns when all handlers ended or
// with an error when one is stuck for longer than a second.
func (s *Server) Stop() error {
	s.health.shutdown()
	s.drain(rpctypes.ErrGRPCStopped)
	return s.forceStop()
}

func (s *Server) forceStop() error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.grpc.Stop()
		s.waitSpawned()
	}()
	timer := time.NewTimer(forceWait)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
		return errStuck
	}
}

// spawn runs f in a goroutine that GracefulStop and Stop wait for. After them
// it does nothing.
func (s *Server) spawn(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	s.wg.Go(f)
}

func (s *Server) waitSpawned() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.wg.Wait()
}

// header returns h with the ids of this node, for a response; nil gets a new one.
func (s *Server) header(h *pb.ResponseHeader) *pb.ResponseHeader {
	if h == nil {
		h = &pb.ResponseHeader{}
	}
	h.ClusterId, h.MemberId = s.cfg.ClusterID, s.cfg.MemberID
	return h
}

// headerAt returns a new header for a revision.
func (s *Server) headerAt(revision int64) *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: s.cfg.ClusterID, MemberId: s.cfg.MemberID, Revision: revision}
}

// headerNow is header with the current revision where the engine set none.
func (s *Server) headerNow(h *pb.ResponseHeader) *pb.ResponseHeader {
	h = s.header(h)
	if h.Revision == 0 {
		h.Revision = s.cfg.Watcher.Revision()
	}
	return h
}
