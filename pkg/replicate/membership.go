package replicate

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// caughtUp is how many rows a node that joins may be behind.
const caughtUp = 1000

// membership changes the voters while this node is Primary, one at a time:
//
//	steady     a node follows, has caught up and does not vote   add it: changing
//	steady     a voter's disk is lost, or it is gone for long    take it away: changing
//	changing   cluster.json is changed                           take it up, then write a member row
//	changing   receipts of the new voters commit the member row  done: steady
type membership struct {
	m       *Member
	p       *Primary
	cluster elect.Cluster
	settled bool
	unsure  bool                       // whether the last change was written
	missing map[elect.NodeID]time.Time // voters that do not follow: since when
	now     func() time.Time           // with a reading of the monotonic clock, by which times are compared
}

func newMembership(m *Member, p *Primary, c elect.Cluster) *membership {
	return &membership{m: m, p: p, cluster: c, missing: make(map[elect.NodeID]time.Time), now: time.Now}
}

const membershipEvery = 100 * time.Millisecond

func (s *membership) run(ctx context.Context) {
	ticker := time.NewTicker(membershipEvery)
	defer ticker.Stop()
	for {
		if err := s.step(ctx); err != nil && ctx.Err() == nil {
			s.m.logger.WithError(err).Info("membership; it is tried again")
			pause(ctx, time.Second)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *membership) step(ctx context.Context) error {
	if s.unsure {
		if err := s.read(ctx); err != nil {
			return err
		}
	}
	if !s.settled {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		if err := s.m.cfg.Control.Settle(ctx, s.cluster.Epoch); err != nil {
			s.unsure = true
			return err
		}
		s.settled = true
	}
	if s.cluster.Changing {
		return s.finish(ctx)
	}
	if n := s.joiner(); n != 0 {
		s.m.logger.WithField("node", n).Info("a node that has caught up becomes a voter")
		return s.change(ctx, func(c *elect.Cluster) { c.Members = append(c.Members, n) })
	}
	if n := s.leaver(); n != 0 {
		s.m.logger.WithField("node", n).Warn("a voter that is gone is taken away")
		err := s.change(ctx, func(c *elect.Cluster) {
			c.Members = slices.DeleteFunc(c.Members, func(m elect.NodeID) bool { return m == n })
		})
		if err == nil {
			s.m.cfg.Deregister(n)
		}
		return err
	}
	return nil
}

// joiner names a node that follows closely and does not vote yet.
func (s *membership) joiner() elect.NodeID {
	if !s.cluster.IsMember(s.m.self) {
		return s.m.self // nobody has to agree with rule 0, so that it was elected without a vote
	}
	end := s.m.log.Head().ID
	for _, f := range s.m.followers.states() {
		if !s.cluster.IsMember(f.node) && f.id > 0 && f.id+caughtUp >= end && s.m.healthy(f.node) {
			return f.node
		}
	}
	return 0
}

// leaver names a voter whose disk is lost or that is gone for too long, if the
// others are there to go on without it. A new Primary counts the time anew.
func (s *membership) leaver() elect.NodeID {
	var leaver elect.NodeID
	healthy := 0
	for _, n := range s.cluster.Members {
		if n == s.m.self || s.m.healthy(n) {
			healthy++
			delete(s.missing, n)
			continue
		}
		if there, full := s.m.control.answered(n, s.m.cfg.Suspicion); there && full {
			delete(s.missing, n) // it holds what it held, and will go on: it is not gone
			continue
		}
		since, known := s.missing[n]
		if !known {
			since = s.now()
			s.missing[n] = since
		}
		_, lost := s.m.cfg.Names(n)
		overdue := s.m.cfg.DeregisterAfter > 0 && s.now().Sub(since) > s.m.cfg.DeregisterAfter
		if (lost || overdue) && leaver == 0 {
			leaver = n
		}
	}
	if !mayLose(s.cluster, healthy) {
		return 0
	}
	return leaver
}

// mayLose reports whether so many healthy voters can go on with one voter less: they
// must be a majority of the rest, and enough for the commit rule.
func mayLose(c elect.Cluster, healthy int) bool {
	rest := len(c.Members) - 1
	return healthy >= max(rest/2+1, c.Rule.CommitNeed(rest))
}

// change begins a change in cluster.json, and takes it up.
func (s *membership) change(ctx context.Context, change func(*elect.Cluster)) error {
	c, err := s.write(ctx, func(c *elect.Cluster) error {
		change(c)
		c.Changing = true
		return nil
	})
	if err != nil {
		return err
	}
	s.cluster = c
	return s.finish(ctx)
}

func (s *membership) write(ctx context.Context, change func(*elect.Cluster) error) (elect.Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	c, err := s.m.cfg.Control.ChangeMembers(ctx, s.cluster.Epoch, change)
	s.unsure = err != nil
	return c, err
}

// read finds out what cluster.json says after a change whose outcome is not known.
func (s *membership) read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	c, err := s.m.cfg.Control.Read(ctx)
	switch {
	case err != nil:
		return err
	case c.Epoch != s.cluster.Epoch:
		s.m.control.do(func(core *elect.Core, now time.Duration) { core.Surpassed(now, c.Epoch) })
		return fmt.Errorf("%w: epoch %d was asked for", s3snap.ErrConflict, c.Epoch)
	}
	s.cluster, s.unsure = c, false
	return nil
}

// finish takes a change up and has a row committed under it.
func (s *membership) finish(ctx context.Context) error {
	c := s.cluster
	s.m.control.do(func(core *elect.Core, _ time.Duration) { core.SetMembers(c) })
	s.p.quorum.takeUp(c.Members)
	id, err := s.p.writeMembers(ctx, c)
	if err != nil {
		return err
	}
	for receiptsCount(c) && s.p.quorum.countedTo() < id {
		// Chunks may have committed the row; the receipts come when the voters are there.
		pause(ctx, membershipEvery/4)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if c, err = s.write(ctx, s3snap.DoneChanging); err != nil {
		return err
	}
	s.cluster = c
	s.m.control.do(func(core *elect.Core, _ time.Duration) { core.SetMembers(c) })
	s.m.logger.WithField("members", c.Members).Info("the voters are changed")
	return nil
}

// receiptsCount reports whether receipts can commit rows: with fewer voters than the
// rule wants only chunks do, and one that commits a row holds all rows before it.
func receiptsCount(c elect.Cluster) bool {
	need := c.Rule.CommitNeed(len(c.Members))
	return need > 0 && need <= len(c.Members)
}

// writeMembers commits a member row, and returns its id.
func (p *Primary) writeMembers(ctx context.Context, c elect.Cluster) (id sqllog.ID, err error) {
	err = p.submit(ctx, func(b *mvcc.Batch) error {
		id = p.store.EvaluateMembers(b, encodeMembers(c))
		return nil
	})
	return id, err
}

// voted takes the voters out of a committed member row, so that this node knows whom
// to ask when the Primary is lost. For an election cluster.json is asked.
func (m *Member) voted(r *sqllog.Row) {
	members, err := decodeMembers(r.Value)
	if err != nil {
		m.logger.WithError(err).WithField("id", r.ID).Warn("member row is not readable")
		return
	}
	for _, n := range members {
		m.cfg.Names(n) // so that it is known where they are, before they have to be asked
	}
	m.control.do(func(core *elect.Core, _ time.Duration) {
		c := core.Cluster()
		if r.Epoch >= c.Epoch {
			c.Epoch, c.Members, c.Changing = r.Epoch, members, false
			core.SetMembers(c)
		}
	})
}

func decodeMembers(value []byte) ([]elect.NodeID, error) {
	var members []elect.NodeID
	for text := range strings.SplitSeq(string(value), ",") {
		n, err := elect.ParseNodeID(text)
		if err != nil {
			return nil, err
		}
		members = append(members, n)
	}
	return members, nil
}

// encodeMembers is the value of a member row: the voters in hexadecimal digits, with
// commas between them.
func encodeMembers(c elect.Cluster) []byte {
	var text []byte
	for i, n := range c.Members {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, n.String()...)
	}
	return text
}
