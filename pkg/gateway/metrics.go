package gateway

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what the gateway does.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	streams  *prometheus.GaugeVec
	events   prometheus.Counter
	panics   prometheus.Counter
}

// The kinds of watch streams.
const (
	kindWebSocket = "websocket"
	kindPost      = "post"
)

func newMetrics() *metrics {
	return &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kinsy_rest_requests_total", Help: "REST calls ended, by call and status of HTTP.",
		}, []string{"call", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kinsy_rest_request_duration_seconds", Help: "Time from the head of a REST call to its answer, by call.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"call"}),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kinsy_rest_watch_streams", Help: "WebSockets and POST streams open now, by kind.",
		}, []string{"kind"}),
		events: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kinsy_rest_watch_events_total", Help: "Events sent to WebSockets and POST streams.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kinsy_rest_panics_total", Help: "Panics recovered in REST calls and watches.",
		}),
	}
}

func (m *metrics) done(call string, code int, took time.Duration) {
	m.requests.WithLabelValues(call, strconv.Itoa(code)).Inc()
	m.duration.WithLabelValues(call).Observe(took.Seconds())
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.requests, m.duration, m.streams, m.events, m.panics}
}

// Describe implements prometheus.Collector.
func (g *Gateway) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range g.metrics.collectors() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (g *Gateway) Collect(ch chan<- prometheus.Metric) {
	for _, c := range g.metrics.collectors() {
		c.Collect(ch)
	}
}
