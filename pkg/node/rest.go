package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kinsy/kinsy/pkg/gateway"
	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/server"
)

// Limits of the REST listener. WebSockets have none of these; the gateway looks after them.
const (
	restHeaderTimeout = 5 * time.Second
	restReadTimeout   = 30 * time.Second
	restWriteTimeout  = 5 * time.Minute
	restIdleTimeout   = 2 * time.Minute
	restHeaderBytes   = 16 << 10
)

// rest is the REST and WebSocket API of a node. A nil one serves nothing.
type rest struct {
	gateway *gateway.Gateway
	http    *http.Server
	tls     *tls.Config // nil: no TLS
}

// newREST builds the API over the engine that gRPC has; nil if no address is set.
func newREST(env engineEnv, c gateway.Config) (*rest, error) {
	if !env.cfg.rest() {
		return nil, nil
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("configure REST: %w", err)
	}
	g := gateway.New(c)
	return &rest{gateway: g, tls: env.restTLS, http: &http.Server{
		Handler:           g,
		ReadHeaderTimeout: restHeaderTimeout,
		ReadTimeout:       restReadTimeout,
		WriteTimeout:      restWriteTimeout,
		IdleTimeout:       restIdleTimeout,
		MaxHeaderBytes:    restHeaderBytes,
		ErrorLog:          stdlog.New(httpLog{log: env.log, message: "REST connection refused"}, "", 0),
	}}, nil
}

// restConfig is what the gateway has in common with the gRPC server.
func restConfig(env engineEnv, s server.Config, store *mvcc.Store) gateway.Config {
	return gateway.Config{
		KV: s.KV, Lessor: s.Lessor, Watcher: s.Watcher, Admin: s.Admin, CompactRevision: store.CompactRevision,
		MemberID: s.MemberID, Leader: s.Leader, Version: env.cfg.Version, MaxRequestBytes: s.MaxRequestBytes,
		Origins: splitList(env.cfg.CORS), Logger: env.log,
	}
}

// collectors returns others and the gateway, if there is one.
func (r *rest) collectors(others ...prometheus.Collector) []prometheus.Collector {
	if r == nil {
		return others
	}
	return append(others, r.gateway)
}

// serve answers clients of l until drain.
func (r *rest) serve(l net.Listener) error {
	if r.tls != nil {
		l = tls.NewListener(l, r.tls)
	}
	if err := r.http.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// drain ends watches, lets calls under way finish until ctx ends, and cuts off what is left.
func (r *rest) drain(ctx context.Context) {
	if r == nil {
		return
	}
	r.gateway.Drain(ctx)
	if err := r.http.Shutdown(ctx); err != nil {
		_ = r.http.Close()
	}
}

// drainFronts drains both APIs at once.
func drainFronts(ctx context.Context, s *server.Server, r *rest) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.drain(ctx)
	}()
	_ = s.GracefulStop(ctx)
	<-done
}
