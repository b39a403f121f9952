package sqllog

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	groupRows        prometheus.Histogram
	commitSeconds    prometheus.Histogram
	commitErrors     prometheus.Counter
	removed          atomic.Int64
	checkpointErrors atomic.Int64
}

func newMetrics() *metrics {
	return &metrics{
		groupRows: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "kinsy_log_group_rows",
			Help:    "Rows written by one commit.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 13),
		}),
		commitSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "kinsy_log_commit_duration_seconds",
			Help:    "Time of one commit of a group of rows, fsync included.",
			Buckets: prometheus.ExponentialBuckets(0.00002, 2, 18),
		}),
		commitErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kinsy_log_commit_errors_total",
			Help: "Commits that failed.",
		}),
	}
}

func (m *metrics) commit(rows int, took time.Duration, err error) {
	m.groupRows.Observe(float64(rows))
	m.commitSeconds.Observe(took.Seconds())
	if err != nil {
		m.commitErrors.Inc()
	}
}

var (
	descHead = prometheus.NewDesc("kinsy_log_head_id", "Position of the newest row.", nil, nil)
	descFile = prometheus.NewDesc("kinsy_log_file_bytes", "Size of the database file.", nil, nil)
	descUsed = prometheus.NewDesc("kinsy_log_used_bytes", "Part of the database file that holds data.", nil, nil)
	descGone = prometheus.NewDesc("kinsy_log_rows_removed_total", "Rows removed by compaction.", nil, nil)
	descCkpt = prometheus.NewDesc("kinsy_log_checkpoint_errors_total", "Checkpoints of the write-ahead log that failed.", nil, nil)
)

var _ prometheus.Collector = (*Log)(nil)

// Describe implements prometheus.Collector.
func (l *Log) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(l, ch) }

// Collect implements prometheus.Collector.
func (l *Log) Collect(ch chan<- prometheus.Metric) {
	l.metrics.groupRows.Collect(ch)
	l.metrics.commitSeconds.Collect(ch)
	l.metrics.commitErrors.Collect(ch)
	ch <- prometheus.MustNewConstMetric(descHead, prometheus.GaugeValue, float64(l.Head().ID))
	ch <- prometheus.MustNewConstMetric(descGone, prometheus.CounterValue, float64(l.metrics.removed.Load()))
	ch <- prometheus.MustNewConstMetric(descCkpt, prometheus.CounterValue, float64(l.metrics.checkpointErrors.Load()))
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if size, err := l.Size(ctx); err == nil {
		ch <- prometheus.MustNewConstMetric(descFile, prometheus.GaugeValue, float64(size.File))
		ch <- prometheus.MustNewConstMetric(descUsed, prometheus.GaugeValue, float64(size.InUse))
	}
}
