package replicate

import (
	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Reign is the run of rows that one epoch's Primary has written.
type Reign struct {
	Epoch sqllog.Epoch
	First sqllog.ID
}

// History is whose rows a log holds: ascending, the first from row 1 on. Since an
// epoch row is never compacted, it is exact also where rows are missing.
type History []Reign

// EpochAt is the epoch of a row; 0 for none.
func (h History) EpochAt(id sqllog.ID) sqllog.Epoch {
	for i := len(h) - 1; i >= 0; i-- {
		if h[i].First <= id {
			return h[i].Epoch
		}
	}
	return 0
}

// Common is the last row that a log with this history, which ends at an id, shares
// with one that ends at a position. One round suffices: an epoch row is in a log
// only where it is in the chain too, so that two logs with rows of one epoch agree
// on where it begins.
func (h History) Common(end sqllog.ID, with elect.Position) elect.Position {
	upTo := sqllog.ID(0)
	for i, r := range h {
		if r.Epoch > with.Epoch {
			break
		}
		upTo = end
		if i+1 < len(h) {
			upTo = h[i+1].First - 1
		}
	}
	upTo = min(upTo, with.ID, end)
	return elect.Position{ID: upTo, Epoch: h.EpochAt(upTo)}
}
