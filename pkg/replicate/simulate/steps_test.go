package simulate

import (
	"testing"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

func TestCandidacy(t *testing.T) {
	read := func(end sqllog.ID, e sqllog.Epoch, log sqllog.ID) func(*Candidacy) {
		return func(c *Candidacy) { c.Read(sqllog.Head{ID: end, Epoch: e}, log) }
	}
	created := func(id sqllog.ID) func(*Candidacy) { return func(c *Candidacy) { c.Created(id) } }
	taken, appended := (*Candidacy).Taken, (*Candidacy).Appended
	for name, c := range map[string]struct {
		events []func(*Candidacy)
		want   []Step
		fence  sqllog.ID
	}{
		"the log is the chain": {
			[]func(*Candidacy){read(7, 4, 7), created(8), appended}, []Step{WriteFence, AppendFence, Lead}, 8,
		},
		"the chain lacks rows": {
			[]func(*Candidacy){read(7, 4, 10), created(9), created(10), created(11), appended},
			[]Step{Upload, Upload, WriteFence, AppendFence, Lead}, 11,
		},
		"the fence's position is taken": {
			[]func(*Candidacy){read(7, 4, 7), taken, read(9, 4, 9), created(10)},
			[]Step{WriteFence, ReadChain, WriteFence, AppendFence}, 10,
		},
		"the backlog's position is taken by a newer epoch": {
			[]func(*Candidacy){read(7, 4, 10), taken, read(8, 6, 8)}, []Step{Upload, ReadChain, GiveUp}, 0,
		},
		"its own epoch is there":  {[]func(*Candidacy){read(7, 5, 7)}, []Step{GiveUp}, 0},
		"a higher epoch is there": {[]func(*Candidacy){read(7, 6, 7)}, []Step{GiveUp}, 0},
		"an empty chain":          {[]func(*Candidacy){read(0, 0, 0), created(1)}, []Step{WriteFence, AppendFence}, 1},
	} {
		k := NewCandidacy(5)
		if k.Step() != ReadChain {
			t.Errorf("%s: begins with %v", name, k.Step())
		}
		for i, event := range c.events {
			if k.Step() == WriteFence && c.fence != 0 && i == len(c.events)-2 && k.Fence() != c.fence {
				t.Errorf("%s: the fence is %d", name, k.Fence())
			}
			if event(k); k.Step() != c.want[i] {
				t.Errorf("%s: step %d is to %v, not to %v", name, i, k.Step(), c.want[i])
			}
		}
	}
}
