package server

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

var latencyBuckets = []float64{
	.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10,
}

var (
	requestsDesc = prometheus.NewDesc("kinsy_grpc_requests_total",
		"Requests ended, by method and status code.", []string{"method", "code"}, nil)
	inFlightDesc = prometheus.NewDesc("kinsy_grpc_requests_in_flight",
		"Requests and streams running now, by method.", []string{"method"}, nil)
	watchStreamsDesc = prometheus.NewDesc("kinsy_grpc_watch_streams",
		"Watch streams open now.", nil, nil)
	watchEventsDesc = prometheus.NewDesc("kinsy_grpc_watch_events_total",
		"Events sent to watchers.", nil, nil)
	panicsDesc = prometheus.NewDesc("kinsy_grpc_panics_total",
		"Panics recovered in request handlers.", nil, nil)
)

// metrics counts requests. Counters are plain atomics, found by one map lookup
// a request, and become Prometheus metrics when collected.
type metrics struct {
	methods map[string]*method
	unknown *method
	latency *prometheus.HistogramVec

	watchStreams atomic.Int64
	watchEvents  atomic.Uint64
	panics       atomic.Uint64
}

// method is what is known of one RPC: its counters, and why the API profile
// refuses it, if it does.
type method struct {
	name     string
	refusal  error
	latency  prometheus.Observer // nil for long streams, where it says nothing
	inFlight atomic.Int64
	codes    [codes.Unauthenticated + 1]atomic.Uint64
}

// newMetrics makes an entry for each RPC of the registered services.
func newMetrics(services map[string]grpc.ServiceInfo, p Profile) *metrics {
	m := &metrics{
		methods: make(map[string]*method),
		unknown: &method{name: "unknown"},
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "kinsy_grpc_request_duration_seconds",
			Help:    "Time from decoding a request to its answer, by method; long streams excluded.",
			Buckets: latencyBuckets,
		}, []string{"method"}),
	}
	for service, info := range services {
		for _, mi := range info.Methods {
			name := strings.TrimPrefix(service, etcdPackage) + "/" + mi.Name
			e := &method{name: name, refusal: p.refusal(service, mi.Name)}
			if !mi.IsClientStream && e.refusal == nil {
				e.latency = m.latency.WithLabelValues(name)
			}
			m.methods["/"+service+"/"+mi.Name] = e
		}
	}
	return m
}

func (m *metrics) method(fullName string) *method {
	if e, ok := m.methods[fullName]; ok {
		return e
	}
	return m.unknown
}

func (e *method) done(code codes.Code, took time.Duration) {
	e.inFlight.Add(-1)
	if int(code) >= len(e.codes) {
		code = codes.Unknown
	}
	e.codes[code].Add(1)
	if e.latency != nil {
		e.latency.Observe(took.Seconds())
	}
}

var _ prometheus.Collector = (*Server)(nil)

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{requestsDesc, inFlightDesc, watchStreamsDesc, watchEventsDesc, panicsDesc} {
		ch <- d
	}
	s.metrics.latency.Describe(ch)
}

// Collect implements prometheus.Collector.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	m := s.metrics
	for _, e := range m.methods {
		e.collect(ch)
	}
	m.unknown.collect(ch)
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	counter := func(d *prometheus.Desc, v uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	gauge(watchStreamsDesc, float64(m.watchStreams.Load()))
	counter(watchEventsDesc, m.watchEvents.Load())
	counter(panicsDesc, m.panics.Load())
	m.latency.Collect(ch)
}

func (e *method) collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(inFlightDesc, prometheus.GaugeValue, float64(e.inFlight.Load()), e.name)
	for c := range e.codes {
		if n := e.codes[c].Load(); n > 0 {
			ch <- prometheus.MustNewConstMetric(requestsDesc, prometheus.CounterValue,
				float64(n), e.name, codes.Code(c).String())
		}
	}
}
