package simulate

import (
	"slices"
	"time"

	"github.com/kinsy/kinsy/internal/rules"
	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/replicate"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// reign is a process as the Primary of an epoch.
type reign struct {
	p         *process
	epoch     sqllog.Epoch
	c         elect.Cluster
	tracker   *replicate.Tracker
	rows      []row // the log and what is on its way there
	history   replicate.History
	group     []row     // to be appended next
	ready     sqllog.ID // rows up to here may be sent
	appending bool
	durable   sqllog.ID
	pending   []pending // not committed yet, in order
	streams   []*fed
	over      bool
	full      bool // takes no writes, since it hands over

	puts     int           // under way
	sent     sqllog.ID     // put, or being put
	seen     time.Duration // when nothing followed the chain's end
	uploadAt time.Duration // when the next upload of committed rows is due
	said     sqllog.ID     // Committed as truth knows it
	fence    sqllog.ID
	members  membership
	keeper   keeper
}

// pending is a row that waits for its commit.
type pending struct {
	row    row
	since  time.Duration
	client func(sqllog.ID)
}

// fed is a Replica's stream.
type fed struct {
	s    *stream
	id   elect.NodeID
	sent elect.Position
	told sqllog.ID
	has  sqllog.ID // by its receipts
}

func newReign(p *process, c elect.Cluster, log []row, seen time.Duration) *reign {
	fence := sqllog.ID(len(log))
	r := &reign{
		p: p, epoch: c.Epoch, c: c, tracker: replicate.NewTracker(p.self, c, fence), rows: slices.Clone(log),
		durable: fence, ready: fence, sent: fence, said: fence, fence: fence, seen: seen,
	}
	for _, row := range log {
		r.extend(row)
	}
	r.members.mark = fence
	return r
}

// end ends it: a chunk on its way may still be created and counts, nothing else.
func (r *reign) end() {
	r.over = true
	r.tracker.Depose()
	for _, f := range r.streams {
		f.s.closed[1] = true
	}
}

// tick uploads, sends, and keeps house.
func (r *reign) tick() {
	if role, e := r.p.core.Role(); role != elect.Primary || e != r.epoch {
		return
	}
	r.upload()
	for _, f := range r.streams {
		r.feed(f)
	}
	r.changeMembers()
	r.keep()
}

// write takes a client's write; client is told its id when it is committed.
func (r *reign) write(payload int, client func(sqllog.ID)) {
	x := row{id: sqllog.ID(len(r.rows)) + 1, epoch: r.epoch, payload: payload}
	r.rows = append(r.rows, x)
	r.extend(x)
	r.pending = append(r.pending, pending{row: x, since: r.p.local(), client: client})
	r.group = append(r.group, x)
	if len(r.group) == 1 && !r.appending {
		r.appending = true
		r.p.after(r.p.w.between(0, 2*ms), r.flush)
	}
}

// flush appends a group and sends it at the same time. What is written meanwhile is
// the next group.
func (r *reign) flush() {
	group := r.group
	r.group, r.appending = nil, len(group) > 0
	if r.over || len(group) == 0 {
		return
	}
	last := group[len(group)-1].id
	r.ready = last
	for _, f := range r.streams {
		r.feed(f)
	}
	r.p.appendIn(r.epoch, group, func(err error) {
		if err != nil {
			return
		}
		r.durable = last
		if r.tracker.Durable(last) {
			r.moved()
		}
		if r.c.Rule.CommitNeed(len(r.c.Members)) == 0 {
			r.upload()
		}
		r.flush()
	})
}

// moved answers clients, and tells Replicas.
func (r *reign) moved() {
	p, id := r.p, r.tracker.Committed()
	if int(id) > len(r.rows) {
		p.w.truth.complain("%v commits row %d, and has %d", p, id, len(r.rows))
		return
	}
	p.w.truth.commit(p, r.epoch, r.rows[r.said:id])
	r.said = id
	for len(r.pending) > 0 && r.pending[0].row.id <= id {
		w := r.pending[0]
		r.pending = r.pending[1:]
		p.w.truth.ack(p, r.epoch, w.row)
		if w.client != nil {
			w.client(w.row.id)
		}
	}
	if r.over {
		return
	}
	p.show(id)
	for _, f := range r.streams {
		r.feed(f)
	}
}

// serve begins a Replica's stream. Of its log the Primary is told the end only.
func (p *process) serve(s *stream, promised sqllog.Epoch, log []row) {
	r, from, last := p.reign, s.replica.self, end(log)
	switch {
	case r == nil:
		s.closed[1] = true
		return
	case promised > r.epoch && !rules.Broken(rules.OldEpochsRefused):
		s.closed[1] = true
		p.core.Receive(p.local(), from, elect.HeartbeatAck{Epoch: r.epoch, Promise: promised})
		return
	}
	q := s.replica
	if q.session == nil || q.session.s != s {
		return
	}
	session := q.session
	if p.w.chance(p.w.p.needChain) {
		s.closed[1] = true
		s.toReplica(func() {
			if !session.over {
				session.over, q.session = true, nil
				q.catchUp()
			}
		})
		return
	}
	common := r.history.Common(r.ready, last)
	p.w.truth.common(p, q, common.ID, r.rows, log)
	f := &fed{s: s, id: from, sent: common}
	r.streams = append(r.streams, f)
	r.observe()
	committed := r.tracker.Committed()
	s.toReplica(func() {
		if rules.Broken(rules.CommittedFromStream) && !session.over {
			q.show(session.f.Committed(committed))
		}
		session.opened(r.epoch, common)
	})
	r.feed(f)
}

// feed sends a Replica what it has not been sent.
func (r *reign) feed(f *fed) {
	committed := r.tracker.Committed()
	if f.sent.ID >= r.ready && committed <= f.told || r.over || f.s.closed[1] {
		return
	}
	rows := r.rows[f.sent.ID:max(f.sent.ID, r.ready)]
	if most := 1 + r.p.w.r.IntN(20); len(rows) > most {
		rows = rows[:most]
	}
	prev, session := f.sent, f.s.replica.session
	rows = slices.Clone(rows)
	if len(rows) > 0 {
		f.sent = end(rows)
	}
	f.told = committed
	f.s.toReplica(func() {
		if session != nil && session.s == f.s {
			session.frame(prev, rows, committed)
		}
	})
}

func (r *reign) drop(f *fed) {
	r.streams = slices.DeleteFunc(r.streams, func(g *fed) bool { return g == f })
	r.observe()
}

// observe names those who follow to the Core.
func (r *reign) observe() {
	var all []elect.NodeID
	for _, f := range r.streams {
		all = append(all, f.id)
	}
	slices.Sort(all)
	r.p.core.SetObservers(slices.Compact(all))
}

// receipt takes what a Replica says to hold.
func (p *process) receipt(s *stream, from elect.NodeID, e sqllog.Epoch, id sqllog.ID) {
	r := p.reign
	if r == nil {
		return
	}
	for _, f := range r.streams {
		if f.s == s {
			f.has = max(f.has, id)
		}
	}
	if r.tracker.Receipt(from, e, id) {
		r.moved()
	}
}

// upload begins the next chunk if there is reason to.
func (r *reign) upload() {
	p := r.p
	upTo := r.uploadable()
	up := max(r.sent, r.tracker.Uploaded())
	busy := r.puts > 0 && !(rules.Broken(rules.OnePutInFlight) && r.puts < 3)
	if r.over || busy || upTo <= up {
		return
	}
	upTo = min(upTo, up+sqllog.ID(1+p.w.r.IntN(30)))
	c := &chunk{rows: slices.Clone(r.rows[up:upTo]), node: p.self, inc: p.inc, epoch: r.epoch}
	r.puts++
	r.sent = upTo
	p.put(c, r.seen, func() bool { return !r.over }, func(at time.Duration, ok bool) {
		r.puts--
		r.uploadAt = p.local() + p.w.p.uploadEvery
		if !ok {
			p.w.tracef("%v finds the position of row %d taken", p, c.first())
			p.w.truth.stats.Deposed++
			r.tracker.Depose()
			p.core.Deposed(r.epoch)
			return
		}
		r.seen = max(r.seen, at)
		p.w.truth.stats.ByChunk += int(max(c.last()-r.tracker.Committed(), 0))
		if r.tracker.ChunkCreated(c.last()) {
			r.moved()
		}
		r.upload()
	})
}

// uploadable is up to where rows are to be uploaded now.
func (r *reign) uploadable() sqllog.ID {
	now := r.p.local()
	switch {
	case r.c.Rule == elect.ObjectStorage || r.full:
		return r.durable
	case len(r.pending) > 0 && now-r.pending[0].since > r.p.w.p.patience:
		return r.durable
	case now >= r.uploadAt:
		return r.tracker.Committed()
	}
	return 0
}

// extend adds a row to whose rows the log holds.
func (r *reign) extend(x row) {
	if n := len(r.history); n == 0 || r.history[n-1].Epoch != x.epoch {
		r.history = append(r.history, replicate.Reign{Epoch: x.epoch, First: x.id})
	}
}
