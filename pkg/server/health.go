package server

import (
	"context"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// healthServer is grpc.health.v1 with Admin's opinion. A Check looks at the
// engine; watchers are told by the monitor.
type healthServer struct {
	*health.Server
	admin Admin
}

func newHealthServer(admin Admin) *healthServer {
	h := &healthServer{Server: health.NewServer(), admin: admin}
	h.set(admin.Status())
	return h
}

// Check answers for the whole server; the service name must be empty.
func (h *healthServer) Check(
	ctx context.Context, r *healthpb.HealthCheckRequest,
) (*healthpb.HealthCheckResponse, error) {
	h.set(h.admin.Status())
	return h.Server.Check(ctx, r)
}

func (h *healthServer) set(st Status) {
	serving := healthpb.HealthCheckResponse_NOT_SERVING
	if st.Healthy {
		serving = healthpb.HealthCheckResponse_SERVING
	}
	h.SetServingStatus("", serving)
}

// shutdown answers NOT_SERVING from now on, whatever the engine says.
func (h *healthServer) shutdown() { h.Shutdown() }

// hasLeader tells whether this node can order writes. A full disk refuses
// writes but is no loss of the leader, as in etcd.
func hasLeader(st Status) bool { return st.Healthy || st.NoSpace }

// maxLeaderless is how many looks in a row may find no leader before streams
// that require one are ended. New requests are refused at the first.
const maxLeaderless = 3

// leadership holds a context that ends with ErrGRPCNoLeader when the leader is
// lost for long, and is replaced when it is back.
type leadership struct {
	mu     sync.Mutex
	misses int
	ctx    context.Context
	cancel context.CancelCauseFunc
}

func newLeadership() *leadership {
	l := &leadership{}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	return l
}

func (l *leadership) context() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ctx
}

// present is what the last look found; true before the first.
func (l *leadership) present() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.misses == 0
}

// observe takes one look at whether there is a leader.
func (l *leadership) observe(has bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !has {
		l.misses++
		if l.misses >= maxLeaderless {
			l.cancel(rpctypes.ErrGRPCNoLeader)
		}
		return
	}
	l.misses = 0
	if l.ctx.Err() != nil {
		l.ctx, l.cancel = context.WithCancelCause(context.Background())
	}
}

// monitor looks at the engine until the server stops.
func (s *Server) monitor() {
	ticker := time.NewTicker(s.cfg.HealthInterval)
	defer ticker.Stop()
	for {
		st := s.cfg.Admin.Status()
		s.health.set(st)
		s.leader.observe(hasLeader(st))
		select {
		case <-ticker.C:
		case <-s.draining.Done():
			return
		}
	}
}
