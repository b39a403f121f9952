//go:build kinsysim

package simulate

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/kinsy/kinsy/internal/rules"
)

// kinds of schedules in which it shows that a rule is broken; any one for the rest.
var kinds = map[rules.Rule]func(*profile, *rand.Rand){
	rules.PromiseBeforeAnswer: restless, rules.PromiseCheckedInAppend: busy, rules.DeposedStops: busy,
	rules.OldEpochsRefused: restless, rules.PromiseCoversRows: stale, rules.FloorBeforeDeletion: sleepy,
	rules.OneChangeAtATime: moving, rules.ChangeDoneWhenUsed: moving,
}

// TestSimulationFindsBrokenRules breaks each rule alone, and expects a complaint
// within KINSY_SIM_MUTATIONS seeds from KINSY_SIM_SEED on; a single one is traced.
func TestSimulationFindsBrokenRules(t *testing.T) {
	most := uint64(envInt("KINSY_SIM_MUTATIONS", 20000))
	for rule := rules.Rule(1); rule <= rules.Count; rule++ {
		t.Run(fmt.Sprint(rule), func(t *testing.T) {
			defer rules.Break(rule)()
			first, out := uint64(envInt("KINSY_SIM_SEED", 1)), io.Writer(nil)
			if most == 1 {
				out = os.Stderr
			}
			for seed := first; seed < first+most; seed++ {
				r := rand.New(rand.NewPCG(seed, 5))
				p := newProfile(r)
				if k := kinds[rule]; k != nil {
					p.kind(k, r)
				}
				if _, wrong := simulateProfile(seed, p, r, out); wrong != "" && !strings.Contains(wrong, "no progress") {
					t.Logf("rule %d: seed %d: %s", rule, seed, wrong)
					return
				}
			}
			t.Errorf("rule %d is broken, and %d seeds do not tell", rule, most)
		})
	}
}
