package replicate

import (
	"strings"
	"testing"
	"time"

	"github.com/kinsy/kinsy/pkg/elect"
)

func TestReplicaSaysWhyItIsNotHealthy(t *testing.T) {
	now := time.Hour
	m := &Member{cfg: MemberConfig{Clock: func() time.Duration { return now }, Suspicion: time.Second}, metrics: newMemberMetrics(now)}
	m.leader.init()
	says := func(want string) {
		t.Helper()
		got := strings.Join(m.replicaProblems(), "; ")
		if got == "" && want != "" || !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%q, want %q", got, want)
		}
	}
	says("no leader")
	m.leader.set(2, 1)
	m.metrics.look(now, true, 1, false)
	says("does not receive rows")
	m.streaming.Store(true)
	says("has not caught up")
	m.caught(caughtUp + 1)
	says("1001 rows behind")
	m.caught(1)
	says("has not caught up")
	m.caught(0)
	says("")
	m.caught(1) // it was in step once
	says("")
	m.metrics.look(now, false, 0, false)
	says("")
	now += time.Second
	says("no leader")
}

func TestMayLoseAVoter(t *testing.T) {
	for _, tt := range []struct {
		rule             elect.Rule
		members, healthy int
		want             bool
	}{
		{elect.Majority, 3, 2, true}, {elect.Majority, 3, 1, false}, {elect.Majority, 2, 1, true}, {elect.Majority, 5, 3, true}, {elect.Majority, 5, 2, false},
		{elect.ObjectStorage, 3, 2, true}, {elect.ObjectStorage, 3, 1, false},
		{1, 3, 2, true}, {1, 2, 1, false}, {2, 3, 2, false}, {2, 4, 3, true},
	} {
		c := elect.Cluster{Rule: tt.rule, Members: make([]elect.NodeID, tt.members)}
		if got := mayLose(c, tt.healthy); got != tt.want {
			t.Errorf("rule %d, %d of %d voters healthy: %v", tt.rule, tt.healthy, tt.members, got)
		}
	}
}
