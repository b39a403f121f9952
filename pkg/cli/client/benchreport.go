package client

import (
	"fmt"
	"strings"
	"time"

	"github.com/kinsy/kinsy/pkg/cli/terminal"
)

// quantiles are those that are told.
var quantiles = []struct {
	name string
	part float64
}{{"p50", 0.5}, {"p90", 0.9}, {"p95", 0.95}, {"p99", 0.99}, {"p99.9", 0.999}}

// benchJSON is a measurement in JSON.
type benchJSON struct {
	Load        string             `json:"load"`
	Clients     int                `json:"clients"`
	Connections int                `json:"connections"`
	Watchers    int                `json:"watchers,omitempty"`
	Size        int                `json:"size"`
	Seconds     float64            `json:"seconds"`
	Operations  int64              `json:"operations"`
	PerSecond   float64            `json:"per_second"`
	Puts        int64              `json:"puts,omitempty"`
	Failed      int64              `json:"failed"`
	LatencyMS   map[string]float64 `json:"latency_ms"`
}

func (b *bench) json(r result) benchJSON {
	j := benchJSON{
		Load: b.load, Clients: b.clients, Connections: len(b.conns), Size: b.size, Seconds: r.took.Seconds(), Operations: r.latencies.n,
		PerSecond: float64(r.latencies.n) / r.took.Seconds(), Puts: r.puts, Failed: r.failed,
	}
	if b.load == loadWatch {
		j.Watchers = b.watchers
	}
	j.LatencyMS = map[string]float64{"mean": milliseconds(r.latencies.mean()), "max": milliseconds(r.latencies.max)}
	for _, q := range quantiles {
		j.LatencyMS[q.name] = milliseconds(r.latencies.quantile(q.part))
	}
	return j
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// facts are what is told, a name and a value each.
func (b *bench) facts(r result) [][]string {
	what := "operations"
	if b.load == loadWatch {
		what = "events"
	}
	perSecond := int64(float64(r.latencies.n) / r.took.Seconds())
	all := [][]string{
		{"load", fmt.Sprintf("%s, %d bytes a value", b.load, b.size)},
		{"clients", fmt.Sprintf("%d on %d connections", b.clients, len(b.conns))},
	}
	if b.load == loadWatch {
		all = append(all, []string{"watchers", fmt.Sprintf("%d, of %s puts", b.watchers, terminal.Digits(r.puts))})
	}
	all = append(all,
		[]string{what, fmt.Sprintf("%s in %s", terminal.Digits(r.latencies.n), r.took.Round(time.Millisecond))},
		[]string{"throughput", fmt.Sprintf("%s %s/s", terminal.Digits(perSecond), what)},
		[]string{"failed", terminal.Digits(r.failed)})
	var latencies []string
	for _, q := range quantiles {
		latencies = append(latencies, q.name+" "+short(r.latencies.quantile(q.part)))
	}
	return append(all, []string{"latency", "mean " + short(r.latencies.mean()) + ", max " + short(r.latencies.max)},
		[]string{"", strings.Join(latencies, ", ")})
}

// short writes a duration in milliseconds.
func short(d time.Duration) string { return fmt.Sprintf("%.3f ms", milliseconds(d)) }

func (b *bench) report(r result) error {
	switch b.format {
	case formatJSON:
		return b.writeJSON(b.json(r))
	case formatTable:
		return b.table(b.columns(r))
	}
	for _, fact := range b.facts(r) {
		b.println(fmt.Sprintf("%-11s  %s", fact[0], fact[1]))
	}
	return nil
}

// columns are one row for a table.
func (b *bench) columns(r result) [][]string {
	head := []string{"LOAD", "CLIENTS", "SIZE", "OPERATIONS", "PER SECOND", "FAILED", "MEAN MS"}
	row := []string{
		b.load, fmt.Sprint(b.clients), fmt.Sprint(b.size), fmt.Sprint(r.latencies.n), fmt.Sprintf("%.0f", float64(r.latencies.n)/r.took.Seconds()),
		fmt.Sprint(r.failed), fmt.Sprintf("%.3f", milliseconds(r.latencies.mean())),
	}
	for _, q := range quantiles {
		head = append(head, strings.ToUpper(q.name)+" MS")
		row = append(row, fmt.Sprintf("%.3f", milliseconds(r.latencies.quantile(q.part))))
	}
	return [][]string{append(head, "MAX MS"), append(row, fmt.Sprintf("%.3f", milliseconds(r.latencies.max)))}
}
