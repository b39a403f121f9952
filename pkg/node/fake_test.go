package node

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// fakeEngine greets every connection and closes it.
type fakeEngine struct {
	env   engineEnv
	urls  []string
	gauge prometheus.Gauge

	mu        sync.Mutex
	status    engineStatus
	listeners []net.Listener
	events    []string
}

var _ engine = (*fakeEngine)(nil)

func newFakeEngine() *fakeEngine {
	return &fakeEngine{
		gauge:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "kinsy_fake", Help: "A metric of the engine."}),
		status: engineStatus{healthy: true},
	}
}

// open is an engineOpener that gives out this engine.
func (e *fakeEngine) open(ctx context.Context, env engineEnv) (engine, error) {
	e.env = env
	var err error
	if e.urls, err = env.listen(ctx); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *fakeEngine) Serve(l net.Listener) error {
	e.mu.Lock()
	e.listeners = append(e.listeners, l)
	e.mu.Unlock()
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		_, _ = conn.Write([]byte("hello"))
		_ = conn.Close()
	}
}

func (e *fakeEngine) ServeREST(l net.Listener) error { return e.Serve(l) }

func (e *fakeEngine) Drain(context.Context) {
	e.note("drain")
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.listeners {
		_ = l.Close()
	}
}

func (e *fakeEngine) Status() engineStatus {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.status
}

func (e *fakeEngine) setStatus(s engineStatus) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.status = s
}

func (e *fakeEngine) Collectors() []prometheus.Collector { return []prometheus.Collector{e.gauge} }

func (e *fakeEngine) Close() error {
	e.note("close")
	return nil
}

func (e *fakeEngine) note(event string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.events = append(e.events, event)
}
