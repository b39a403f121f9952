package replicate

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// memberMetrics are counted, the others are read when they are asked for. Its methods
// may be called concurrently.
type memberMetrics struct {
	elections prometheus.Counter
	durations prometheus.Histogram
	receipts  prometheus.Counter
	fallbacks prometheus.Counter

	mu       sync.Mutex
	looked   time.Duration // on the member's clock, as the next ones
	silent   time.Duration // since when no Primary is heard; negative while one is
	without  time.Duration // for how long none was, in all
	electing time.Duration // since when this node elects; negative if it does not
	replaces sqllog.Epoch  // of the Primary that was known when it began
}

func newMemberMetrics(now time.Duration) *memberMetrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return &memberMetrics{
		elections: counter("kinsy_elections_total", "Epochs that this node has asked for."),
		durations: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kinsy_election_duration_seconds", Help: "From when this node began an election until it heard a new primary.",
			Buckets: prometheus.ExponentialBuckets(0.02, 2, 12),
		}),
		receipts: counter("kinsy_receipts_total", "Receipts of replicas that this node has taken as primary."),
		fallbacks: counter("kinsy_object_storage_fallbacks_total",
			"How often writes went to object storage to be committed, since too few nodes answered in time."),
		looked: now, silent: now, electing: -1,
	}
}

// electionBegins notes that this node elects a Primary, in place of that of an epoch.
func (x *memberMetrics) electionBegins(now time.Duration, replaces sqllog.Epoch) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.electing < 0 {
		x.electing, x.replaces = now, replaces
	}
}

// look notes whether a Primary is heard, and of which epoch, and whether this node
// elects one. It is called a few times per heartbeat.
func (x *memberMetrics) look(now time.Duration, heard bool, e sqllog.Epoch, elects bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.silent >= 0 {
		x.without += now - max(x.looked, x.silent)
	}
	x.looked = now
	switch {
	case !heard && x.silent < 0:
		x.silent = now
	case heard:
		x.silent = -1
	}
	switch {
	case x.electing < 0 || !heard:
	case e > x.replaces:
		x.durations.Observe((now - x.electing).Seconds())
		x.electing = -1
	case !elects: // it was not needed
		x.electing = -1
	}
}

// silentFor is for how long no Primary is heard.
func (x *memberMetrics) silentFor(now time.Duration) time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.silent < 0 {
		return 0
	}
	return now - x.silent
}

var descWithout = prometheus.NewDesc("kinsy_without_primary_seconds_total",
	"For how long this node has heard no primary, from half the suspicion time after its last heartbeat on.", nil, nil)

func (x *memberMetrics) collect(ch chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{x.elections, x.durations, x.receipts, x.fallbacks} {
		c.Collect(ch)
	}
	x.mu.Lock()
	without := x.without
	x.mu.Unlock()
	ch <- prometheus.MustNewConstMetric(descWithout, prometheus.CounterValue, without.Seconds())
}
