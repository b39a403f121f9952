package object_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/s3snap/object/objecttest"
)

func TestInstrumented(t *testing.T) {
	objecttest.Run(t, func(*testing.T) object.Store {
		s, _ := object.Instrument(object.NewMemory())
		return s
	})
}

func TestInstrumentCounts(t *testing.T) {
	memory := object.NewMemory()
	s, collector := object.Instrument(memory)
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Put(ctx, "a", []byte("12345"), object.Condition{IfAbsent: true})
	must(err)
	_, err = s.Put(ctx, "a", []byte("12345"), object.Condition{IfAbsent: true})
	if !errors.Is(err, object.ErrPrecondition) {
		t.Fatal(err)
	}
	_, _, err = object.ReadAll(ctx, s, "a", 10)
	must(err)
	_, err = s.Upload(ctx, "b", strings.NewReader("1234567"))
	must(err)
	if err := s.List(ctx, "", "", func(object.Info) error { return errors.New("own") }); err == nil {
		t.Fatal("the error of the function is lost")
	}
	memory.Before = func(object.Op, string) error { return object.ErrUnavailable }
	if err := s.Delete(ctx, "a"); !errors.Is(err, object.ErrUnavailable) {
		t.Fatal(err)
	}
	want := map[string]float64{
		"bytes_total get": 5, "bytes_total put": 5, "bytes_total upload": 7,
		"errors_total delete unavailable": 1, "errors_total put precondition": 1,
		"requests_total delete": 1, "requests_total get": 1, "requests_total list": 1, "requests_total put": 2, "requests_total upload": 1,
		"request_seconds delete": 1, "request_seconds get": 1, "request_seconds list": 1, "request_seconds put": 2, "request_seconds upload": 1,
	}
	if got := gather(t, collector); !maps.Equal(got, want) {
		t.Fatalf("got %v\nwant %v", got, want)
	}
}

// gather returns the counts by name and labels; of a histogram the number of observations.
func gather(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := strings.TrimPrefix(family.GetName(), "kinsy_object_store_")
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			counts[name] = m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return counts
}
