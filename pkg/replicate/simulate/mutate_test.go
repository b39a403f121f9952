//go:build kinsysim

package simulate

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/kinsy/kinsy/internal/rules"
)

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
			var all stats
			defer func() { t.Logf("%+v", all) }()
			for seed := first; seed < first+most; seed++ {
				s, wrong := simulate(seed, out)
				all.add(s)
				if wrong != "" && !strings.Contains(wrong, "no progress") {
					t.Logf("rule %d: seed %d: %s", rule, seed, wrong)
					return
				}
			}
			t.Errorf("rule %d is broken, and %d seeds do not tell", rule, most)
		})
	}
}
