package replicate

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Status is how the write path and the log are.
type Status struct {
	DBSize      int64 // bytes of the database file
	DBSizeInUse int64 // bytes of it that hold data
	Revision    int64
	Healthy     bool
	NoSpace     bool     // writes are refused because the disk is full
	Errors      []string // why it is not healthy
	// Primary is the node that orders writes, 0 if none is known; a single node
	// leaves it 0.
	Primary elect.NodeID
}

// sizeTimeout bounds how long Status waits for the database; after it the size
// of the call before is told.
const sizeTimeout = 200 * time.Millisecond

// Status reports on this node. It does not wait for writes.
func (p *Primary) Status() Status {
	st := Status{Revision: p.store.Revision()}
	sizeOf(p.space, &p.lastSize, &st)
	if err := p.Err(); err != nil {
		st.NoSpace = errors.Is(err, ErrNoSpace)
		st.Errors = append(st.Errors, err.Error())
	}
	if err := p.archiveErr(); err != nil && !st.NoSpace && len(st.Errors) == 0 {
		st.Errors = append(st.Errors, err.Error())
	}
	if err := p.store.Damage(); err != nil {
		st.Errors = append(st.Errors, err.Error())
	}
	st.Healthy = len(st.Errors) == 0
	return st
}

// sizeOf tells how large the database is, or was when that was last known.
func sizeOf(space Space, last *atomic.Pointer[sqllog.Size], st *Status) {
	ctx, cancel := context.WithTimeout(context.Background(), sizeTimeout)
	defer cancel()
	if size, err := space.Size(ctx); err == nil {
		last.Store(&size)
	}
	if size := last.Load(); size != nil {
		st.DBSize, st.DBSizeInUse = size.File, size.InUse
	}
}

// Defragment gives all unused pages of the database file back. Writes go on
// meanwhile.
func (p *Primary) Defragment(ctx context.Context) error {
	return p.scrubber.shrinkTo(ctx, 0)
}

// Hash is a checksum of every row that the log keeps.
func (p *Primary) Hash(ctx context.Context) (uint32, error) {
	return p.store.Hash(ctx)
}

var (
	descServing = prometheus.NewDesc("kinsy_serving_writes", "1 while writes are served, 0 while they are refused.", nil, nil)
	descFailed  = prometheus.NewDesc("kinsy_failed_commits_total", "Groups whose commit failed.", nil, nil)
)

var _ prometheus.Collector = (*Primary)(nil)

// Describe implements prometheus.Collector.
func (p *Primary) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(p, ch) }

// Collect implements prometheus.Collector.
func (p *Primary) Collect(ch chan<- prometheus.Metric) {
	serving := 1.0
	if p.Err() != nil {
		serving = 0
	}
	ch <- prometheus.MustNewConstMetric(descServing, prometheus.GaugeValue, serving)
	ch <- prometheus.MustNewConstMetric(descFailed, prometheus.CounterValue, float64(p.failures.Load()))
}
