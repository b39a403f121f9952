package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
)

// drainLimit is the part of the time given to Close that requests under way may take; the rest is for the engine, whose
// last group of rows must reach the disk.
const drainLimit = 3 * time.Second

// Node is a running node. Its methods may be called concurrently.
type Node struct {
	cfg      Config
	log      *logrus.Logger
	registry *prometheus.Registry
	restore  restoreMetrics
	phase    atomic.Int32
	waiting  atomic.Pointer[error] // what the start waits for; nil or an error that is nil: nothing

	lock        *folderLock
	certs       *certSource // nil without TLS
	metrics     *http.Server
	metricsAddr string
	engine      engine
	listeners   []net.Listener
	addrs       []string
	urls        []string
	rest        listening

	wg        sync.WaitGroup // every goroutine of the node
	done      chan struct{}
	failOnce  sync.Once
	err       error // set before done is closed
	closeOnce sync.Once
	closeErr  error
}

// Start runs a node. It returns once clients are served, which with a large log takes as long as reading it; ctx bounds
// that time and nothing after it. The errors are Validate's, ErrDataDirInUse, ErrAddressInUse, those of package sqllog
// (ErrForeign for a database that is not kinsy's), and those of the disk and the network. After an error nothing is left running.
func Start(ctx context.Context, cfg Config) (*Node, error) {
	return start(ctx, cfg, openEngine)
}

func start(ctx context.Context, cfg Config, open engineOpener) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, log: cfg.logger(), registry: newRegistry(cfg), done: make(chan struct{})}
	n.registry.MustRegister(&n.restore)
	err := n.bringUp(ctx, open)
	if err == nil {
		err = n.Err()
	}
	if err != nil {
		_ = n.Close(ctx)
		return nil, err
	}
	return n, nil
}

// bringUp starts the parts in order and leaves what it started to Close.
func (n *Node) bringUp(ctx context.Context, open engineOpener) error {
	var err error
	if n.lock, err = lockFolder(n.cfg.DataFolder(), n.cfg.ListenAddress); err != nil {
		return err
	}
	if n.cfg.TLS() {
		if n.certs, err = newCertSource(n.cfg, time.Now); err != nil {
			return err
		}
	}
	if err := n.startMetrics(ctx); err != nil {
		return err
	}
	n.warnIgnoredParameters()
	env := engineEnv{cfg: n.cfg, log: n.log, listen: n.listen, fail: n.fail}
	env.waiting = func(err error) { n.waiting.Store(&err) }
	env.progress = n.restoring
	if n.certs != nil {
		env.tls, env.restTLS = n.certs.forGRPC(), n.certs.forHTTP()
	}
	if n.engine, err = open(ctx, env); err != nil {
		return err
	}
	if err := n.register(); err != nil {
		return err
	}
	n.serve()
	n.phase.Store(int32(phaseServing))
	n.log.WithFields(logrus.Fields{
		"listen": n.addrs, "http": n.rest.addrs, "metrics": n.metricsAddr, "data": n.cfg.LogPath(), "api": n.cfg.API,
	}).Info("node is serving")
	return nil
}

func (n *Node) warnIgnoredParameters() {
	if store, err := parseEndpoint(n.cfg.Endpoint); err == nil && len(store.ignored) > 0 {
		n.log.WithField("parameters", store.ignored).Warn("endpoint parameters are without effect, kinsy sets its own")
	}
}

func (n *Node) register() error {
	for _, c := range n.engine.Collectors() {
		if err := n.registry.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

// listen opens every client listener and returns the URLs to advertise. Nothing is served yet.
func (n *Node) listen(ctx context.Context) ([]string, error) {
	addresses, err := parseAddresses(n.cfg.ListenAddress)
	if err != nil {
		return nil, fmt.Errorf("--listen-address: %w", err)
	}
	var urls []string
	for _, a := range addresses {
		l, err := a.listen(ctx)
		if err != nil {
			return nil, fmt.Errorf("--listen-address: %w", err)
		}
		n.listeners = append(n.listeners, l)
		bound := address{network: a.network, addr: l.Addr().String()}
		n.addrs = append(n.addrs, bound.String())
		n.urls = append(n.urls, bound.url(n.cfg.TLS()))
		urls = append(urls, bound.reachable(n.cfg.Name).url(n.cfg.TLS()))
	}
	if err := n.listenREST(ctx); err != nil {
		return nil, err
	}
	if advertised := splitList(n.cfg.AdvertiseClientURLs); len(advertised) > 0 {
		return advertised, nil
	}
	return urls, nil
}

// serve lets clients in at every listener.
func (n *Node) serve() {
	for _, l := range n.listeners {
		n.attach(func() {
			if err := n.engine.Serve(l); err != nil {
				n.fail(fmt.Errorf("serve clients: %w", err))
			}
		})
	}
	for _, l := range n.rest.listeners {
		n.attach(func() {
			if err := n.engine.ServeREST(l); err != nil {
				n.fail(fmt.Errorf("serve REST clients: %w", err))
			}
		})
	}
}

// listening is the listeners of an API.
type listening struct {
	listeners   []net.Listener
	addrs, urls []string
}

// listenREST opens every REST listener. Nothing is served yet.
func (n *Node) listenREST(ctx context.Context) error {
	if !n.cfg.rest() {
		return nil
	}
	addresses, err := parseAddresses(n.cfg.HTTPAddress)
	if err != nil {
		return fmt.Errorf("--http-address: %w", err)
	}
	for _, a := range addresses {
		l, err := a.listen(ctx)
		if err != nil {
			return fmt.Errorf("--http-address: %w", err)
		}
		bound := address{network: a.network, addr: l.Addr().String()}
		n.rest.listeners = append(n.rest.listeners, l)
		n.rest.addrs = append(n.rest.addrs, bound.String())
		n.rest.urls = append(n.rest.urls, bound.url(n.cfg.TLS()))
	}
	return nil
}

// attach runs f in a goroutine that Close waits for.
func (n *Node) attach(f func()) {
	n.wg.Add(1)
	go func() {
		defer n.wg.Done()
		f()
	}()
}

// fail ends the node's service for good. The first reason is kept; a node that is being closed does not fail.
func (n *Node) fail(err error) {
	if phase(n.phase.Load()) == phaseStopping {
		return
	}
	n.failOnce.Do(func() {
		n.err = err
		close(n.done)
	})
}

// Done returns a channel that is closed when the node has failed by itself. Close does not close it.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err returns why the node failed, or nil while it has not.
func (n *Node) Err() error {
	select {
	case <-n.done:
		return n.err
	default:
		return nil
	}
}

// Addrs returns where clients connect, HOST:PORT or unix://PATH, in the order of Config.ListenAddress and with the ports
// that were given for port 0.
func (n *Node) Addrs() []string { return append([]string(nil), n.addrs...) }

// URLs returns Addrs as URLs: http, https, unix or unixs.
func (n *Node) URLs() []string { return append([]string(nil), n.urls...) }

// HTTPAddrs returns where REST and WebSocket clients connect, as Addrs does; none without Config.HTTPAddress.
func (n *Node) HTTPAddrs() []string { return append([]string(nil), n.rest.addrs...) }

// HTTPURLs returns HTTPAddrs as URLs.
func (n *Node) HTTPURLs() []string { return append([]string(nil), n.rest.urls...) }

// MetricsAddr returns HOST:PORT of the metrics listener, or "" when there is none.
func (n *Node) MetricsAddr() string { return n.metricsAddr }

// Close ends the node: requests under way get up to 3 s or until ctx ends, then they are cut off; what was acknowledged
// is on disk. It returns when everything has stopped, and every call returns the same error.
func (n *Node) Close(ctx context.Context) error {
	n.closeOnce.Do(func() { n.closeErr = n.shutdown(ctx) })
	return n.closeErr
}

func (n *Node) shutdown(ctx context.Context) error {
	n.phase.Store(int32(phaseStopping))
	var errs []error
	if n.engine != nil {
		drain, cancel := context.WithTimeout(ctx, drainLimit)
		n.engine.Drain(drain)
		cancel()
	}
	for _, l := range append(n.listeners, n.rest.listeners...) {
		_ = l.Close()
	}
	if n.engine != nil {
		errs = append(errs, n.engine.Close())
	}
	errs = append(errs, n.stopMetrics(ctx))
	n.wg.Wait()
	if n.lock != nil {
		errs = append(errs, n.lock.release())
	}
	return errors.Join(errs...)
}
