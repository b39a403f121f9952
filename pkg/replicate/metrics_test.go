package replicate

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kinsy/kinsy/pkg/elect"
)

// collected makes metrics of a collect function a Collector.
type collected func(chan<- prometheus.Metric)

func (collected) Describe(chan<- *prometheus.Desc)      {}
func (c collected) Collect(ch chan<- prometheus.Metric) { c(ch) }

func TestElectionMetrics(t *testing.T) {
	const s = time.Second
	x := newMemberMetrics(10 * s)
	x.look(11*s, false, 0, false) // one second without
	x.electionBegins(11*s, 0)
	x.electionBegins(12*s, 0) // another attempt of the same
	x.look(13*s, true, 1, true)
	x.look(20*s, true, 1, false)
	x.electionBegins(20*s, 1)
	x.look(21*s, true, 1, true)
	x.look(22*s, true, 1, false) // it was not needed
	x.look(23*s, false, 0, false)
	if got := x.silentFor(25 * s); got != 2*s {
		t.Errorf("silent for %s", got)
	}
	x.look(25*s, true, 2, false) // another node has elected
	if got := x.silentFor(25 * s); got != 0 {
		t.Errorf("silent for %s", got)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collected(x.collect))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, f := range families {
		m := f.GetMetric()[0]
		switch f.GetName() {
		case "kinsy_without_primary_seconds_total":
			seen++
			if got := m.GetCounter().GetValue(); got != 5 {
				t.Errorf("%v seconds without a primary, want 5", got)
			}
		case "kinsy_election_duration_seconds":
			seen++
			if h := m.GetHistogram(); h.GetSampleCount() != 1 || h.GetSampleSum() != 2 {
				t.Errorf("elections: %v", h)
			}
		}
	}
	if seen != 2 {
		t.Errorf("%d of 2 metrics are there", seen)
	}
}

// TestFallbacksAreCounted: once for each time that receipts are not enough.
func TestFallbacksAreCounted(t *testing.T) {
	fell := 0
	members := elect.Cluster{Epoch: 1, Rule: elect.Majority, Members: []elect.NodeID{1, 2, 3}}
	q := &quorum{cfg: QuorumConfig{FellBack: func() { fell++ }}, tracker: NewTracker(1, members, 0)}
	q.fallBack()
	q.fallBack()
	if fell != 1 {
		t.Errorf("%d, want 1", fell)
	}
	q.fallen = false
	q.fallBack()
	if fell != 2 {
		t.Errorf("%d, want 2", fell)
	}
	members.Rule = elect.ObjectStorage
	q.tracker, q.fallen = NewTracker(1, members, 0), false
	q.fallBack()
	if fell != 2 {
		t.Error("with quorum 0 object storage is the rule")
	}
}

func TestStuckCommitIsTold(t *testing.T) {
	q := &quorum{}
	if err := q.stuckErr(); err != nil {
		t.Error(err)
	}
	q.pending = []*group{{closed: time.Now()}}
	if err := q.stuckErr(); err != nil {
		t.Error(err)
	}
	q.pending[0].closed = time.Now().Add(-2 * stuckAfter)
	if err := q.stuckErr(); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "for 8s") {
		t.Error(err)
	}
}
