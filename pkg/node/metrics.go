package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/sirupsen/logrus"
)

// Limits of the metrics listener. Writing has no limit of its own, since a profile may run as long as it was asked to.
const (
	metricsHeaderTimeout = 5 * time.Second
	metricsReadTimeout   = 10 * time.Second
	metricsIdleTimeout   = 2 * time.Minute
	metricsHeaderBytes   = 16 << 10
)

// newRegistry returns a registry with what every Go process tells, and which kinsy this is.
func newRegistry(c Config) *prometheus.Registry {
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "kinsy_build_info",
		Help:        "Always 1; the labels say which kinsy runs.",
		ConstLabels: prometheus.Labels{"version": c.Version, "api": c.API, "etcd_version": c.EmulatedEtcdVersion},
	})
	build.Set(1)
	r := prometheus.NewRegistry()
	r.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// metricsHandler routes the metrics listener.
func (n *Node) metricsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", handleChecks("livez", n.liveness()))
	mux.HandleFunc("GET /readyz", handleChecks("readyz", n.readiness()))
	mux.HandleFunc("GET /health", n.handleHealth)
	mux.HandleFunc("GET /version", n.handleVersion)
	mux.Handle("GET /metrics", promhttp.HandlerFor(n.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	if n.cfg.EnablePprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// startMetrics opens the metrics listener and serves it until stopMetrics.
func (n *Node) startMetrics(ctx context.Context) error {
	if n.cfg.MetricsBindAddress == MetricsOff {
		return nil
	}
	l, err := address{network: networkTCP, addr: n.cfg.MetricsBindAddress}.listen(ctx)
	if err != nil {
		return fmt.Errorf("--metrics-bind-address: %w", err)
	}
	n.metricsAddr = l.Addr().String()
	if n.certs != nil && n.cfg.metricsTLS() {
		l = tls.NewListener(l, n.certs.forHTTP())
	}
	n.metrics = &http.Server{
		Handler:           n.metricsHandler(),
		ReadHeaderTimeout: metricsHeaderTimeout,
		ReadTimeout:       metricsReadTimeout,
		IdleTimeout:       metricsIdleTimeout,
		MaxHeaderBytes:    metricsHeaderBytes,
		ErrorLog:          stdlog.New(httpLog{log: n.log, message: "metrics connection refused"}, "", 0),
	}
	n.attach(func() { n.serveMetrics(l) })
	return nil
}

func (n *Node) serveMetrics(l net.Listener) {
	if err := n.metrics.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		n.fail(fmt.Errorf("serve metrics: %w", err))
	}
}

// stopMetrics lets requests under way finish until ctx ends, then cuts them off.
func (n *Node) stopMetrics(ctx context.Context) error {
	if n.metrics == nil {
		return nil
	}
	if err := n.metrics.Shutdown(ctx); err == nil {
		return nil
	}
	if err := n.metrics.Close(); err != nil {
		return fmt.Errorf("stop metrics: %w", err)
	}
	return nil
}

// httpLog passes the complaints of net/http, such as failed handshakes, to the log.
type httpLog struct {
	log     *logrus.Logger
	message string
}

// Write logs one complaint.
func (h httpLog) Write(p []byte) (int, error) {
	h.log.WithField("error", strings.TrimSpace(string(p))).Debug(h.message)
	return len(p), nil
}
