package simulate

import (
	"time"

	"github.com/kinsy/kinsy/internal/rules"
	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/replicate"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// follows is the Primary that a Replica is to follow.
type follows struct {
	primary elect.NodeID
	epoch   sqllog.Epoch
	turn    int
}

// session is one stream of a Replica.
type session struct {
	p         *process
	epoch     sqllog.Epoch
	s         *stream
	f         *replicate.Follower
	told      sqllog.ID // Committed as heard
	inbox     []row     // received, to be appended
	appending bool
	over      bool
}

// follow begins to follow a Primary, until another one is named.
func (p *process) follow(e elect.Follow) {
	p.w.tracef("%v follows %x in %d", p, uint64(e.Primary), e.Epoch)
	p.endSession()
	p.follows = follows{primary: e.Primary, epoch: e.Epoch, turn: p.follows.turn + 1}
	p.connect(p.follows)
}

func (p *process) endSession() {
	if s := p.session; s != nil {
		s.over, s.s.closed[0] = true, true
		p.session = nil
	}
}

// connectSoon opens the stream anew.
func (p *process) connectSoon() {
	f := p.follows
	p.after(p.w.between(10*ms, 60*ms), func() {
		if p.follows == f && p.session == nil && p.catching != f.turn {
			p.connect(f)
		}
	})
}

// connect opens a stream once the operations on the log are done.
func (p *process) connect(f follows) {
	p.operate(func() error { return nil }, func(error) {
		if p.follows != f || p.session != nil || p.catching == f.turn || p.core.Promise() > f.epoch {
			return
		}
		w := p.w
		q := w.find(f.primary)
		if q == nil || q.core == nil || w.cut[p.n.index][q.n.index] || w.cut[q.n.index][p.n.index] {
			p.connectSoon()
			return
		}
		log := p.d.rows // as it is now: a log is never written over
		last := end(log)
		st := &stream{w: w, replica: p, primary: q}
		s := &session{p: p, epoch: f.epoch, s: st, f: replicate.NewFollower(f.epoch, last, p.committed)}
		p.session = s
		promised := p.promisedNow()
		st.toPrimary(func() { q.serve(st, promised, log) })
	})
}

func (p *process) promisedNow() sqllog.Epoch { return max(p.core.Promise(), p.d.promise) }

// end ends a session; another one follows if its Primary is still to be followed.
func (s *session) end() {
	if s.over {
		return
	}
	s.over, s.s.closed[0] = true, true
	if s.p.session == s {
		s.p.session = nil
		s.p.connectSoon()
	}
}

// bad ends a session that has broken the protocol: that must not happen.
func (s *session) bad(err error) {
	s.p.w.truth.impossible("%v leaves the stream of %v in %d: %v", s.p, s.s.primary, s.epoch, err)
	s.end()
}

func (s *session) opened(e sqllog.Epoch, common elect.Position) {
	if s.over {
		return
	}
	p := s.p
	if rules.Broken(rules.OldEpochsRefused) {
		s.epoch = e
	}
	cut, err := s.f.Opened(e, common)
	switch {
	case err != nil && common.ID < p.committed:
		p.w.truth.complain("%v is to cut its log to row %d in %d, and shows rows up to %d", p, common.ID, e, p.committed)
	case err != nil && e != s.epoch: // that Primary leads a later epoch by now
		s.end()
	case err != nil:
		s.bad(err)
	case cut:
		p.w.tracef("%v cuts its log to row %d", p, common.ID)
		p.w.truth.stats.Truncations++
		p.truncateIn(s.as(), common.ID, func(err error) {
			if err != nil {
				s.end()
				return
			}
			s.receipt(s.f.Receipt())
		})
	default:
		s.receipt(s.f.Receipt())
	}
}

// as is the epoch in whose name the log is written.
func (s *session) as() sqllog.Epoch {
	if rules.Broken(rules.OldEpochsRefused) {
		return max(s.epoch, s.p.d.promise)
	}
	return s.epoch
}

func (s *session) frame(prev elect.Position, rows []row, committed sqllog.ID) {
	if s.over {
		return
	}
	p := s.p
	s.told = max(s.told, committed)
	p.heard(committed)
	if len(rows) == 0 {
		s.learn()
		return
	}
	last := end(rows)
	if err := s.f.Frame(prev, last, len(rows)); err != nil {
		s.bad(err)
		return
	}
	if rules.Broken(rules.ReceiptAfterSync) {
		s.receipt(last.ID)
	}
	s.learn()
	s.inbox = append(s.inbox, rows...)
	s.take()
}

// take appends what has come in, as much at a time as there is.
func (s *session) take() {
	rows := s.inbox
	if s.appending || len(rows) == 0 || s.over {
		return
	}
	s.inbox, s.appending = nil, true
	last := end(rows)
	s.p.appendIn(s.as(), rows, func(err error) {
		s.appending = false
		switch {
		case s.over:
		case err != nil:
			s.end()
		default:
			s.receipt(s.f.Appended(last.ID))
			s.learn()
			s.take()
		}
	})
}

func (s *session) receipt(id sqllog.ID) {
	st, from, epoch := s.s, s.p.self, s.epoch
	st.toPrimary(func() { st.primary.receipt(st, from, epoch, id) })
}

// learn shows what may be shown.
func (s *session) learn() {
	if !s.over {
		s.p.show(s.f.Committed(s.told))
	}
}

// show shows rows up to an id to readers.
func (p *process) show(id sqllog.ID) {
	if id <= p.committed {
		return
	}
	rows := p.d.rows
	if p.reign != nil {
		rows = p.reign.rows
	}
	p.w.truth.shown(p, p.committed, id, rows)
	p.committed = id
	p.wake()
}

// catchUp brings a Replica's log to the chain. No stream is opened meanwhile.
func (p *process) catchUp() {
	f := p.follows
	p.catching = f.turn
	live := func() bool {
		ok := p.follows == f && p.reign == nil && p.candidacy == nil
		if !ok && p.catching == f.turn {
			p.catching = 0
			p.connectSoon()
		}
		return ok
	}
	p.readChain(func(rows []row, _ time.Duration, err error) {
		switch {
		case !live():
		case err != nil || len(rows) <= int(p.committed):
			p.catching = 0
			p.connectSoon()
		default:
			p.takeOver(p.epochOf(rows), rows, false, live, func(err error) { p.caughtUp(rows, err) })
		}
	})
}

// epochOf is the epoch to promise before rows of the chain are taken.
func (p *process) epochOf(rows []row) sqllog.Epoch {
	if rules.Broken(rules.PromiseCoversRows) {
		return p.promisedNow()
	}
	return max(p.promisedNow(), end(rows).Epoch)
}

func (p *process) caughtUp(rows []row, err error) {
	p.catching = 0
	if err == nil {
		p.w.truth.stats.CaughtUp++
		p.w.tracef("%v has caught up with the chain to %v", p, end(rows))
		p.show(sqllog.ID(len(rows)))
		if !rules.Broken(rules.PromiseCoversRows) {
			p.core.Raised(end(p.d.rows).Epoch)
		}
	}
	p.connectSoon()
}

// watchStreams closes streams whose other side is not heard any more.
func (p *process) watchStreams() {
	if s := p.session; s != nil && s.s.watch(0) {
		s.end()
	}
	if r := p.reign; r != nil {
		for i := 0; i < len(r.streams); {
			if f := r.streams[i]; f.s.watch(1) {
				r.drop(f)
				continue
			}
			i++
		}
	}
}
