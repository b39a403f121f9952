package replicate

import (
	"slices"

	"github.com/kinsy/kinsy/internal/rules"
	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Tracker finds out which rows of one Primary's epoch are committed, by the
// receipts of Replicas and by chunks. It is made when the fence of the epoch is
// written. It does nothing else, and is not safe for concurrent use.
type Tracker struct {
	self      elect.NodeID
	epoch     sqllog.Epoch
	rule      elect.Rule
	members   []elect.NodeID
	receipts  map[elect.NodeID]sqllog.ID
	durable   sqllog.ID // in this node's own log
	uploaded  sqllog.ID // in the chain
	committed sqllog.ID
	counted   sqllog.ID // committed by receipts under the members as they are now
	deposed   bool
}

// NewTracker makes the Tracker of the Primary of c.Epoch, whose fence is at an id:
// all rows up to it are in the chain, in its own log, and committed.
func NewTracker(self elect.NodeID, c elect.Cluster, fence sqllog.ID) *Tracker {
	return &Tracker{
		self: self, epoch: c.Epoch, rule: c.Rule, members: slices.Clone(c.Members),
		receipts: make(map[elect.NodeID]sqllog.ID),
		durable:  fence, uploaded: fence, committed: fence,
	}
}

// Committed is the id up to which rows are committed.
func (t *Tracker) Committed() sqllog.ID { return t.committed }

// Uploaded is the id up to which the chain is known to hold every row.
func (t *Tracker) Uploaded() sqllog.ID { return t.uploaded }

// Durable notes that this node's own log holds rows up to an id durably. This, and
// the calls below, report whether Committed has moved.
func (t *Tracker) Durable(id sqllog.ID) bool {
	t.durable = max(t.durable, id)
	return t.count()
}

// Receipt notes a Replica's word, given on a stream of an epoch, that its log holds
// every row up to an id durably.
func (t *Tracker) Receipt(from elect.NodeID, epoch sqllog.Epoch, id sqllog.ID) bool {
	if epoch != t.epoch && !rules.Broken(rules.OldEpochsRefused) {
		return false
	}
	if id <= t.receipts[from] {
		return false
	}
	t.receipts[from] = id
	return t.count()
}

// Held is the newest receipt of a Replica in this epoch, whichever stream it came on.
func (t *Tracker) Held(by elect.NodeID) sqllog.ID { return t.receipts[by] }

// ChunkCreated notes that the chain holds every row up to an id. It counts even
// after Depose: the chain is right.
func (t *Tracker) ChunkCreated(id sqllog.ID) bool {
	t.uploaded = max(t.uploaded, id)
	if t.uploaded <= t.committed {
		return false
	}
	t.committed = t.uploaded
	return true
}

// Depose ends commits by receipts, those that are here already included: this node
// has promised a higher epoch.
func (t *Tracker) Depose() { t.deposed = !rules.Broken(rules.DeposedStops) }

// TakeUp makes other nodes the members.
func (t *Tracker) TakeUp(members []elect.NodeID) bool {
	t.members, t.counted = slices.Clone(members), 0
	return t.count()
}

// CountedTo is the id up to which rows are committed by receipts of the members as
// they are now: a change of membership is done once that reaches a row that was
// written after it was taken up.
func (t *Tracker) CountedTo() sqllog.ID { return t.counted }

// Quorum names the members, and how many of them, this node included, must hold a row;
// 0 where receipts do not count.
func (t *Tracker) Quorum() (members []elect.NodeID, need int) {
	return t.members, t.rule.CommitNeed(len(t.members))
}

// count commits by receipts. Rows that this node itself does not hold durably are
// not counted, whoever else does.
func (t *Tracker) count() bool {
	need := t.rule.CommitNeed(len(t.members))
	if t.deposed || need == 0 || need > len(t.members) {
		return false
	}
	held := make([]sqllog.ID, 0, 8)
	for _, m := range t.members {
		if m != t.self {
			held = append(held, min(t.receipts[m], t.durable))
		} else {
			held = append(held, t.durable)
		}
	}
	slices.Sort(held)
	id := held[len(held)-need]
	if t.rule > 0 && !slices.Contains(t.members, t.self) {
		id = min(id, t.durable)
	}
	t.counted = max(t.counted, id)
	if id <= t.committed {
		return false
	}
	t.committed = id
	return true
}
