package s3snap

import (
	"context"
	"errors"
	"fmt"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// OpenReplica opens the log of one node of a cluster. A log that is there is opened
// without object storage where that does not answer within some seconds. An empty
// disk, or one whose log was to be replaced, gets what object storage holds; where
// there is no cluster yet, this node begins it, as its only voter. The node does not
// lead, and nothing of an intact log is taken away. It blocks while object storage
// does not answer and is needed. ErrOtherCluster, ErrBootstrap and ErrNoHistory (the
// log has a history in a cluster, the prefix has none) are for an operator.
func OpenReplica(ctx context.Context, cfg Config) (*sqllog.Log, *Archive, error) {
	if err := cfg.validateCluster(); err != nil {
		return nil, nil, err
	}
	s := &starter{cfg: cfg.withDefaults(), cluster: true}
	err := s.openReplica(ctx)
	if errors.Is(err, ErrReplaced) {
		err = s.openReplica(ctx)
	}
	if err != nil {
		if s.log != nil {
			err = errors.Join(err, s.log.Close())
		}
		return nil, nil, err
	}
	return s.log, newArchive(s), nil
}

// Control is that of this node's disk and process.
func (a *Archive) Control() *Control {
	return NewControl(a.cfg.Store, elect.NodeID(a.writer.Node), a.writer.Incarnation, a.cfg.Logger)
}

// Lead makes this node Primary of an epoch that cluster.json names, and returns the
// head, which is the epoch row. The chain is read to its end: rows that the log
// lacks are taken over, those that disagree are set aside in a file and cut; what
// the chain lacks is uploaded. It goes on trying while object storage does not
// answer, until ctx ends. Writes to the log are made in the epoch
// (sqllog.ErrPromised if a higher one is promised by then). ErrFenced: the chain or
// the log holds rows of this epoch or a higher one. ErrReplaced: everything is to
// be closed and opened by OpenReplica. After any error this node is not Primary of
// the epoch. Rows of the log may have changed then, but for those up to the last
// one that it shares with the chain. The caller compares the promise again when it
// returns. It must not have a term.
func (a *Archive) Lead(ctx context.Context, epoch sqllog.Epoch) (sqllog.Head, error) {
	s, err := a.starter()
	if err != nil {
		return sqllog.Head{}, err
	}
	defer a.log.HoldRemoval()()
	s.in = func(last sqllog.Epoch) (sqllog.Epoch, error) {
		if last >= epoch {
			return 0, fmt.Errorf("%w: there are rows of epoch %d", ErrFenced, last)
		}
		return epoch, nil
	}
	cluster, err := s.becomePrimary(ctx, epoch)
	a.probed = s.probed
	if err != nil {
		return sqllog.Head{}, fmt.Errorf("become primary of epoch %d: %w", epoch, err)
	}
	t := newTerm(a, epoch, cluster.voters().Rule == elect.ObjectStorage)
	t.attach(s.chain)
	a.last = t
	a.term.Store(t)
	t.done.Go(t.upload)
	return a.log.Head(), nil
}

// starter is for work on the log while no term is under way.
func (a *Archive) starter() (*starter, error) {
	if !a.cluster || a.term.Load() != nil {
		return nil, errors.New("this node leads already")
	}
	if a.last != nil {
		a.last.wait()
	}
	if a.ctx.Err() != nil {
		return nil, ErrStopped
	}
	s := &starter{cfg: a.cfg, log: a.log, writer: a.writer, cluster: true, probed: a.probed, asked: true}
	s.cfg.Waiting = nil // it is for starts
	return s, nil
}

// Join does what OpenReplica does on a prefix, and could not where object storage
// did not answer: it checks that the prefix is this log's, and begins a cluster on
// it where there is none. Errors as from OpenReplica, or ErrReplaced as from
// CatchUp, and ErrUnavailable; it is one attempt.
func (a *Archive) Join(ctx context.Context) error {
	s, err := a.starter()
	if err != nil {
		return err
	}
	defer a.log.HoldRemoval()()
	err = s.join(ctx)
	a.probed = s.probed
	if transient(err) {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	return nil
}

// becomePrimary brings log and chain together and writes the epoch row.
func (s *starter) becomePrimary(ctx context.Context, epoch sqllog.Epoch) (clusterFile, error) {
	if _, err := s.log.Promise(epoch); err != nil { // nobody appends rows of a lower one from now on
		return clusterFile{}, err
	}
	rel, err := s.compareLoud(ctx)
	if err != nil {
		return clusterFile{}, err
	}
	if rel.found {
		return clusterFile{}, fmt.Errorf("%w: %s is gone", ErrCorruptChain, clusterKey)
	}
	if asked := sqllog.Epoch(rel.cluster.Epoch); asked < epoch {
		return clusterFile{}, fmt.Errorf("%w: %s names epoch %d only", ErrCorruptChain, clusterKey, asked)
	}
	end, err := s.settleAgain(ctx, rel)
	if err != nil {
		return clusterFile{}, err
	}
	s.chain = s.newChain(end)
	return rel.cluster, s.leadIn(ctx, epoch)
}

// Resign ends the term of this node, if there is one: no PUT begins any more, nor a
// snapshot, nor a look at the chain. The PUT in flight is left to itself, and if
// its chunk turns out to be created, a Commit that waits for it succeeds, and
// OnUploaded tells; the next Lead, CatchUp or Close gives it up. Resign does not
// wait, and may be called by OnDeposed.
func (a *Archive) Resign() {
	if !a.cluster {
		return
	}
	if t := a.term.Swap(nil); t != nil {
		t.resign()
		a.trouble.Store(nil)
	}
}

// CatchUp takes over what the chain holds after the newest row that it shares with
// the log; rows that disagree are set aside in a file and cut. It is for a Replica
// that its Primary cannot serve from its log. Rows are written in the epoch that is
// promised, or their own where that is higher (sqllog.ErrPromised if the promise is
// raised meanwhile: it may be called again). ErrReplaced: everything is to be
// closed and opened by OpenReplica. ErrNoHistory: there is no cluster yet.
func (a *Archive) CatchUp(ctx context.Context) error {
	s, err := a.starter()
	if err != nil {
		return err
	}
	defer a.log.HoldRemoval()()
	s.in = func(last sqllog.Epoch) (sqllog.Epoch, error) { return max(a.log.Promised(), last), nil }
	end, err := s.becomeEqual(ctx)
	a.probed = s.probed
	if err != nil {
		return fmt.Errorf("catch up: %w", err)
	}
	a.UploadedElsewhere(end.ID)
	return nil
}

func (s *starter) becomeEqual(ctx context.Context) (end sqllog.Head, err error) {
	rel, err := s.compareLoud(ctx)
	if err != nil {
		return end, err
	}
	if rel.found {
		return end, fmt.Errorf("%w: there is no %s", ErrNoHistory, clusterKey)
	}
	return s.settleAgain(ctx, rel)
}

// UploadNow asks for the rows up to an id, which the log holds durably, in the chain
// at once, be they committed or not: it is how they are committed where too few
// Replicas hold them. It returns at once; OnUploaded and Uploaded tell.
func (a *Archive) UploadNow(id sqllog.ID) {
	if t := a.term.Load(); t != nil {
		t.uploadNow(id)
	}
}
