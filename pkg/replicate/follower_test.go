package replicate

import (
	"errors"
	"testing"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

func at(id sqllog.ID, e sqllog.Epoch) elect.Position { return elect.Position{ID: id, Epoch: e} }

func TestFollowerOpened(t *testing.T) {
	for name, c := range map[string]struct {
		epoch  sqllog.Epoch
		common elect.Position
		cut    bool
		err    error
	}{
		"all is common":             {3, at(20, 2), false, nil},
		"the end is cut":            {3, at(15, 2), true, nil},
		"down to what is committed": {3, at(10, 1), true, nil},
		"below what is committed":   {3, at(9, 1), false, ErrDivergence},
		"another row at the end":    {3, at(20, 3), false, ErrDivergence},
		"beyond the log":            {3, at(21, 2), false, ErrBadStream},
		"negative":                  {3, at(-1, 0), false, ErrBadStream},
		"another epoch":             {4, at(20, 2), false, ErrBadStream},
	} {
		f := NewFollower(3, at(20, 2), 10)
		cut, err := f.Opened(c.epoch, c.common)
		if cut != c.cut || !errors.Is(err, c.err) {
			t.Errorf("%s: cut %v, %v", name, cut, err)
		}
		if err == nil && (f.Receipt() != c.common.ID || f.received != c.common) {
			t.Errorf("%s: receipt %d, received %v", name, f.Receipt(), f.received)
		}
	}
}

func TestFollowerTakesFrames(t *testing.T) {
	f := NewFollower(3, at(20, 2), 10)
	if err := f.Frame(at(20, 2), at(21, 3), 1); !errors.Is(err, ErrBadStream) {
		t.Errorf("a frame before the opening: %v", err)
	}
	if got := f.Committed(20); got != 10 {
		t.Errorf("committed %d before the opening", got)
	}
	if _, err := f.Opened(3, at(15, 2)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Opened(3, at(15, 2)); !errors.Is(err, ErrBadStream) {
		t.Errorf("opened twice: %v", err)
	}
	for name, c := range map[string]struct {
		prev, last elect.Position
		rows       int
		err        error
	}{
		"a gap":                  {at(16, 2), at(17, 3), 1, ErrDivergence},
		"another row before":     {at(15, 1), at(16, 3), 1, ErrDivergence},
		"too few rows":           {at(15, 2), at(18, 3), 2, ErrBadStream},
		"an epoch that descends": {at(15, 2), at(16, 1), 1, ErrBadStream},
		"an epoch to come":       {at(15, 2), at(16, 4), 1, ErrBadStream},
		"no rows":                {at(99, 9), at(99, 9), 0, nil},
	} {
		if err := f.Frame(c.prev, c.last, c.rows); !errors.Is(err, c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := f.Frame(at(15, 2), at(18, 3), 3); err != nil {
		t.Fatal(err)
	}
	if got := f.Committed(18); got != 15 {
		t.Errorf("committed %d, of 15 durable rows", got)
	}
	if got := f.Appended(18); got != 18 {
		t.Errorf("receipt %d", got)
	}
	if got := f.Committed(17); got != 17 {
		t.Errorf("committed %d", got)
	}
	if got := f.Committed(12); got != 17 {
		t.Errorf("committed goes back to %d", got)
	}
}
