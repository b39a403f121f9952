package node

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kinsy/kinsy/pkg/s3snap"
)

var (
	descRestoredRows  = prometheus.NewDesc("kinsy_restore_rows", "Rows written so far by the restore of this start.", nil, nil)
	descRestoredBytes = prometheus.NewDesc("kinsy_restore_bytes", "Bytes downloaded so far by the restore of this start.", nil, nil)
	descRestoreRows   = prometheus.NewDesc("kinsy_restore_snapshot_rows", "Rows of the snapshot that the restore of this start begins with.", nil, nil)
	descRestoreTime   = prometheus.NewDesc("kinsy_restore_seconds", "Seconds that the restore of this start has taken so far.", nil, nil)
	descRestored      = prometheus.NewDesc("kinsy_restore_done", "1 when the restore of this start is through.", nil, nil)
)

// restoreMetrics is how far the restore of this start is. Nothing is told where there was none.
type restoreMetrics struct {
	last atomic.Pointer[s3snap.Progress]
}

var _ prometheus.Collector = (*restoreMetrics)(nil)

// Describe implements prometheus.Collector.
func (m *restoreMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descRestoredRows, descRestoredBytes, descRestoreRows, descRestoreTime, descRestored} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *restoreMetrics) Collect(ch chan<- prometheus.Metric) {
	p := m.last.Load()
	if p == nil {
		return
	}
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	gauge(descRestoredRows, float64(p.Rows))
	gauge(descRestoredBytes, float64(p.Bytes))
	gauge(descRestoreRows, float64(p.SnapshotRows))
	gauge(descRestoreTime, p.Elapsed.Seconds())
	done := 0.0
	if p.Done {
		done = 1
	}
	gauge(descRestored, done)
}

// restoring is told how far a restore is.
func (n *Node) restoring(p s3snap.Progress) {
	n.restore.last.Store(&p)
	if n.cfg.RestoreProgress != nil {
		n.cfg.RestoreProgress(p)
	}
}
