package faultproxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Config describes a Proxy.
type Config struct {
	// Target is the URL of the store.
	Target string
	// Listen is the host:port to listen on; "" means a free port of loopback.
	Listen string
	// Seed gives the faults.
	Seed uint64
	// Credentials and Region sign what the proxy has changed; needed with Plan.IgnoreConditions only.
	Credentials aws.Credentials
	Region      string
}

// Proxy is a running proxy. Its methods may be called concurrently.
type Proxy struct {
	cfg       Config
	target    *url.URL
	url       string
	server    *http.Server
	transport *http.Transport
	closing   chan struct{}
	stop      sync.Once
	served    chan struct{}
	late      sync.WaitGroup

	mu       sync.Mutex
	rng      *rand.Rand
	plan     *Plan
	replaced chan struct{} // closed when plan is replaced
	budget   budget
	flying   map[string]int // PUTs under way by folder
	stats    Stats
}

// budget is what Plan.Rate leaves of a second.
type budget struct {
	since time.Time
	used  int
}

// turn is the part of a request in the plan.
type turn struct {
	Request
	arrived  time.Time
	plan     *Plan
	replaced <-chan struct{}
	fault    Fault
	share    float64 // of the longest wait, in [0,1)
}

// Start starts a proxy with a plan that does nothing.
func Start(cfg Config) (*Proxy, error) {
	target, err := url.Parse(cfg.Target)
	if err != nil {
		return nil, fmt.Errorf("parse target: %w", err)
	}
	listener, err := net.Listen("tcp", cmp.Or(cfg.Listen, "127.0.0.1:0"))
	if err != nil {
		return nil, fmt.Errorf("listen for the proxy: %w", err)
	}
	p := &Proxy{cfg: cfg, target: target, url: "http://" + listener.Addr().String(), closing: make(chan struct{}), served: make(chan struct{}),
		transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
		rng:       rand.New(rand.NewPCG(cfg.Seed, 0)), plan: &Plan{}, replaced: make(chan struct{}), flying: map[string]int{}, stats: newStats()}
	p.server = &http.Server{Handler: p, ErrorLog: log.New(io.Discard, "", 0)}
	go func() {
		_ = p.server.Serve(listener) // ends at Close
		close(p.served)
	}()
	return p, nil
}

// URL is where clients find the store.
func (p *Proxy) URL() string { return p.url }

// Set replaces the plan. Requests held by the one before are cut off.
func (p *Proxy) Set(plan Plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan, p.budget = &plan, budget{}
	close(p.replaced)
	p.replaced = make(chan struct{})
}

// Settle returns when the late requests have reached the store, or ctx ends. Plans without Late must be in force.
func (p *Proxy) Settle(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		p.late.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for late requests: %w", ctx.Err())
	}
}

// Stats returns a copy of the counts.
func (p *Proxy) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats.clone()
}

// Reset begins to count anew.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats = newStats()
}

// Close cuts all connections, drops what is late, and waits for both. It may be called more than once.
func (p *Proxy) Close() error {
	p.stop.Do(func() { close(p.closing) })
	err := p.server.Close()
	<-p.served
	p.late.Wait()
	p.transport.CloseIdleConnections()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// begin counts a request and draws its fault.
func (p *Proxy) begin(req Request) turn {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := turn{Request: req, arrived: time.Now(), plan: p.plan, replaced: p.replaced, share: p.rng.Float64()}
	x := p.rng.Float64()
	if p.plan.Only == nil || p.plan.Only(req) {
		t.fault = p.plan.draw(x)
	}
	if p.plan.Rate > 0 && !p.budget.take(t.arrived, p.plan.Rate) {
		t.fault = SlowDown
	}
	p.stats.Requests[req.Op]++
	if t.fault != None {
		p.stats.Faults[t.fault]++
	}
	if req.Op == Put {
		p.stats.Puts[req.Key]++
		p.flying[req.folder()]++
		p.stats.MostAtOnce[req.folder()] = max(p.stats.MostAtOnce[req.folder()], p.flying[req.folder()])
	}
	return t
}

func (p *Proxy) end(t turn) {
	if t.Op == Put {
		p.mu.Lock()
		p.flying[t.folder()]--
		p.stats.PutTime += time.Since(t.arrived)
		p.mu.Unlock()
	}
}

func (p *Proxy) countBytes(n int) {
	p.mu.Lock()
	p.stats.BodyBytes += int64(n)
	p.mu.Unlock()
}

// take reports whether one request more is within the rate.
func (b *budget) take(now time.Time, rate int) bool {
	if now.Sub(b.since) >= time.Second {
		*b = budget{since: now}
	}
	b.used++
	return b.used <= rate
}
