package simulate

import (
	"slices"
	"time"

	"github.com/kinsy/kinsy/internal/rules"
	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// membership is how far a change of the voters is.
type membership struct {
	busy    bool
	next    time.Duration
	known   bool // cluster.json is as c says, in version
	version int
	mark    sqllog.ID // the row whose commit ends the change
	settled bool
}

// settle tells cluster.json that the rule of this epoch is the only one in force,
// and, where a change of the voters is not done yet, takes it up.
func (r *reign) settle() {
	if r.c.Changing {
		r.takeUp(r.c)
	}
}

// takeUp counts other voters from now on, and writes a row under them.
func (r *reign) takeUp(c elect.Cluster) {
	r.p.w.tracef("%v takes up members %x", r.p, c.Members)
	r.c = c
	r.p.core.SetMembers(c)
	if r.tracker.TakeUp(c.Members) {
		r.moved()
	}
	r.write(r.p.w.payload(), nil)
	r.members.mark = sqllog.ID(len(r.rows))
}

// changeMembers moves a change on: one at a time, each by compare-and-swap.
func (r *reign) changeMembers() {
	m := &r.members
	if m.busy || r.over || r.p.local() < m.next {
		return
	}
	m.next = r.p.local() + r.p.w.between(0, r.p.w.p.memberEvery)
	if !m.settled || !m.known {
		r.readMembers()
		return
	}
	c := r.c
	switch {
	case c.Changing && (r.tracker.CountedTo() >= m.mark || c.Rule == elect.ObjectStorage && r.tracker.Committed() >= m.mark):
		c.Changing = false
	case c.Changing && !rules.Broken(rules.OneChangeAtATime):
		return
	default:
		members, ok := r.wanted(c.Members)
		if !ok {
			return
		}
		c.Members, c.Changing = members, !rules.Broken(rules.ChangeDoneWhenUsed)
	}
	r.writeMembers(c)
}

// readMembers looks at what cluster.json says, after an answer was lost and at the
// start.
func (r *reign) readMembers() {
	var c elect.Cluster
	var version int
	s := r.p.w.store
	r.members.busy = true
	r.p.call(func() { c, version = s.cluster, s.version }, func(err error) {
		r.members.busy = false
		switch {
		case err != nil || r.over:
		case c.Epoch != r.epoch:
			r.p.core.Surpassed(r.p.local(), c.Epoch)
			r.members.next = r.p.local() + second
		case c.RuleBefore != c.Rule:
			c.RuleBefore = c.Rule
			r.writeSettled(c, version)
		default:
			r.members.known, r.members.settled, r.members.version = true, true, version
			r.apply(c)
		}
	})
}

func (r *reign) writeSettled(c elect.Cluster, version int) {
	s := r.p.w.store
	r.members.busy = true
	r.p.call(func() {
		if s.version == version {
			s.cluster = c
			s.version++
		}
	}, func(error) { r.members.busy = false })
}

// writeMembers writes a change; what an answer that is lost meant is read.
func (r *reign) writeMembers(c elect.Cluster) {
	s := r.p.w.store
	version, done := r.members.version, false
	r.members.busy = true
	r.p.call(func() {
		if s.version == version {
			s.cluster = c
			s.version++
			done = true
		}
	}, func(err error) {
		r.members.busy = false
		switch {
		case r.over:
		case err != nil || !done:
			r.members.known = false
		default:
			r.p.w.truth.stats.Changes++
			r.members.version = version + 1
			r.apply(c)
		}
	})
}

// apply takes up what cluster.json is known to say.
func (r *reign) apply(c elect.Cluster) {
	if !slices.Equal(c.Members, r.c.Members) {
		r.takeUp(c)
		return
	}
	r.c = c
	r.p.core.SetMembers(c)
}

// wanted is the members one change nearer to what the operator wants.
func (r *reign) wanted(members []elect.NodeID) ([]elect.NodeID, bool) {
	now := slices.Clone(members)
	many := rules.Broken(rules.OneChangeAtATime)
	var voters []elect.NodeID
	for i, n := range r.p.w.nodes {
		if n.wanted {
			voters = append(voters, r.p.w.store.names[i])
		}
	}
	for _, f := range r.streams {
		if f.has > 0 && slices.Contains(voters, f.id) && !slices.Contains(now, f.id) && (many || len(now) == len(members)) {
			now = append(now, f.id)
		}
	}
	for _, m := range members {
		if m != r.p.self && !slices.Contains(voters, m) && len(now) > 2 && (many || len(now) == len(members)) {
			now = slices.DeleteFunc(now, func(n elect.NodeID) bool { return n == m })
		}
	}
	slices.Sort(now)
	return now, !slices.Equal(now, members) && r.carry(now)
}

// carry reports whether enough of some members are there to go on alone.
func (r *reign) carry(members []elect.NodeID) bool {
	there := 0
	for _, m := range members {
		if m == r.p.self || slices.ContainsFunc(r.streams, func(f *fed) bool { return f.id == m }) {
			there++
		}
	}
	c := elect.Cluster{Members: members, Rule: r.c.Rule, RuleBefore: r.c.RuleBefore, Changing: true}
	return there >= max(len(members)/2+1, c.AuditNeed())
}

// keeper takes snapshots and deletes chunks.
type keeper struct {
	busy bool
	next time.Duration
}

func (r *reign) keep() {
	k := &r.keeper
	if k.busy || r.over || r.p.w.p.keepEvery == 0 || r.p.local() < k.next {
		return
	}
	k.next = r.p.local() + r.p.w.between(0, r.p.w.p.keepEvery)
	upTo := r.tracker.Uploaded()
	if rules.Broken(rules.SnapshotWithinChain) {
		upTo = r.tracker.Committed()
	}
	rows, s := slices.Clone(r.rows[:upTo]), r.p.w.store
	k.busy = true
	r.p.call(func() {
		if n := len(s.snaps); n == 0 || len(s.snaps[n-1].rows) < len(rows) {
			s.snaps = append(s.snaps, snapshot{rows})
			s.w.truth.stats.Snapshots++
			s.w.tracef("snapshot at row %d", len(rows))
		}
	}, func(err error) {
		k.busy = false
		if err == nil {
			r.raiseFloor(upTo)
		}
	})
}

// raiseFloor raises the floor to a snapshot; then what is old enough is deleted.
func (r *reign) raiseFloor(id sqllog.ID) {
	s := r.p.w.store
	r.keeper.busy = true
	r.p.call(func() {
		if !rules.Broken(rules.FloorBeforeDeletion) {
			s.floor = max(s.floor, id)
		}
	}, func(err error) {
		r.keeper.busy = false
		if err != nil {
			return
		}
		before := r.p.w.now - r.p.w.p.minAge
		r.keeper.busy = true
		r.p.call(func() { s.delete(id, before) }, func(error) { r.keeper.busy = false })
	})
}

// delete deletes chunks below the floor that are older than a time.
func (s *store) delete(upTo sqllog.ID, before time.Duration) {
	for id := sqllog.ID(1); id <= upTo; id++ {
		if c := s.chunks[id]; c != nil && c.last() <= upTo && c.at < before {
			delete(s.chunks, id)
			s.w.truth.stats.Deletions++
		}
	}
}
