package sqllog

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestMetrics(t *testing.T) {
	l := openTest(t, Config{})
	if err := l.Append(group(l.Head(), 5)); err != nil {
		t.Fatal(err)
	}
	if err := l.Remove([]ID{1, 2}, Compaction{}); err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(l); err != nil {
		t.Fatal(err)
	}
	gather := func() map[string]float64 {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			m := f.GetMetric()[0]
			got[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetHistogram().GetSampleSum()
		}
		return got
	}
	got := gather()
	for name, want := range map[string]float64{
		"kinsy_log_head_id": 5, "kinsy_log_rows_removed_total": 2, "kinsy_log_group_rows": 5,
		"kinsy_log_commit_errors_total": 0, "kinsy_log_checkpoint_errors_total": 0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}
	for _, name := range []string{"kinsy_log_file_bytes", "kinsy_log_used_bytes", "kinsy_log_commit_duration_seconds"} {
		if got[name] <= 0 {
			t.Errorf("%s is %v", name, got[name])
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if v := gather()["kinsy_log_head_id"]; v != 5 {
		t.Errorf("head after Close is %v", v)
	}
}
