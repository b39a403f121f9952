package mvcc

import "github.com/prometheus/client_golang/prometheus"

var gauges = []struct {
	desc  *prometheus.Desc
	value func(*Store) float64
}{
	{gauge("revision", "Committed revision."), func(s *Store) float64 { return float64(s.Revision()) }},
	{gauge("compact_revision", "Revision compacted to."), func(s *Store) float64 { return float64(s.CompactRevision()) }},
	{gauge("rows", "Rows kept in the log."), func(s *Store) float64 { return float64(s.Rows()) }},
	{gauge("keys", "Keys in the index, deleted ones that are not compacted included."), (*Store).keys},
	{gauge("history_records", "Changes since the compacted revision, in memory."), func(s *Store) float64 { return float64(s.history.len()) }},
	{gauge("leases", "Leases granted."), func(s *Store) float64 { return float64(s.lessor.count()) }},
	{gauge("watchers", "Watches open."), (*Store).watchers},
	{gauge("slow_watchers", "Watches that are reading history because they are behind."), func(s *Store) float64 { return float64(s.hub.behind.Load()) }},
	{gauge("watch_streams", "Watch streams open."), (*Store).watchStreams},
	{gauge("value_cache_bytes", "Bytes of values held in memory."), func(s *Store) float64 { return float64(s.cache.bytes.Load()) }},
}

var (
	descHits = prometheus.NewDesc("kinsy_value_cache_hits_total", "Values answered from memory.", nil, nil)
	descMiss = prometheus.NewDesc("kinsy_value_cache_misses_total", "Values fetched from the log.", nil, nil)
)

func gauge(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("kinsy_"+name, help, nil, nil)
}

var _ prometheus.Collector = (*Store)(nil)

// Describe implements prometheus.Collector.
func (s *Store) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(s, ch) }

// Collect implements prometheus.Collector.
func (s *Store) Collect(ch chan<- prometheus.Metric) {
	for _, g := range gauges {
		ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, g.value(s))
	}
	ch <- prometheus.MustNewConstMetric(descHits, prometheus.CounterValue, float64(s.cache.hits.Load()))
	ch <- prometheus.MustNewConstMetric(descMiss, prometheus.CounterValue, float64(s.cache.miss.Load()))
}

func (s *Store) keys() float64 {
	s.treeMu.RLock()
	defer s.treeMu.RUnlock()
	return float64(s.tree.Len())
}

func (s *Store) watchers() float64 {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return float64(s.hub.index.n)
}

func (s *Store) watchStreams() float64 {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return float64(len(s.hub.streams))
}
