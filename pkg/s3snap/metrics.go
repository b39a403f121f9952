package s3snap

import "github.com/prometheus/client_golang/prometheus"

// chainStats counts what a Chain has done. Chain.mu guards it.
type chainStats struct {
	puts     int64 // requests sent to create a chunk
	chunks   int64
	rows     int64
	bytes    int64 // stored
	failures int64
	looks    int64
}

func (s *chainStats) add(o chainStats) {
	s.puts += o.puts
	s.chunks += o.chunks
	s.rows += o.rows
	s.bytes += o.bytes
	s.failures += o.failures
	s.looks += o.looks
}

var (
	descPuts     = desc("chunk_puts_total", "Requests sent to create a chunk, those tried again included.")
	descRows     = desc("uploaded_rows_total", "Rows written to object storage in chunks.")
	descBytes    = desc("uploaded_bytes_total", "Bytes of the chunks written.")
	descFailures = desc("object_store_failures_total", "Requests of the chain that were not answered as they should be.")
	descLooks    = desc("chain_looks_total", "Looks at the chain's next position, which confirm linearizable reads.")
	descUploaded = desc("uploaded_id", "Id up to which object storage holds every row.")
	descPending  = desc("pending_upload_bytes", "Bytes of keys and values that are committed and not in object storage yet.")
	descSnapshot = desc("snapshot_id", "Id of the newest snapshot.")
	descFenced   = desc("fenced", "1 when another node has taken the prefix over.")
)

func desc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("kinsy_"+name, help, nil, nil)
}

var _ prometheus.Collector = (*Archive)(nil)

// Describe implements prometheus.Collector.
func (a *Archive) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(a, ch) }

// Collect implements prometheus.Collector.
func (a *Archive) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v int64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	gauge := func(d *prometheus.Desc, v int64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v))
	}
	var stats chainStats
	var fenced, pending int64
	t := a.term.Load()
	if c := a.chain.Load(); c != nil {
		c.mu.Lock()
		stats = c.stats
		if c.fenced != nil && t != nil {
			fenced = 1
		}
		c.mu.Unlock()
	}
	if t != nil {
		pending = t.pending.bytes()
	}
	counter(descPuts, stats.puts)
	counter(descRows, stats.rows)
	counter(descBytes, stats.bytes)
	counter(descFailures, stats.failures)
	counter(descLooks, stats.looks)
	gauge(descUploaded, int64(a.Uploaded()))
	gauge(descPending, pending)
	gauge(descSnapshot, a.lastSnapshot.Load())
	gauge(descFenced, fenced)
}
