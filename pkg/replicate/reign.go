package replicate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// reign is the role of a Candidate, and then of the Primary, of an epoch.
type reign struct {
	m       *Member
	cluster elect.Cluster
}

func (r reign) run(ctx context.Context) {
	m, e := r.m, r.cluster.Epoch
	logger := m.logger.WithField("epoch", e)
	started := time.Now()
	logger.Info("appointed; reading the chain")
	p, err := r.accede(ctx)
	if err != nil {
		logger.WithError(err).Warn("did not become primary")
		m.room.note(err, m.log)
		m.control.do(func(core *elect.Core, now time.Duration) { core.Led(now, e, false) })
		m.archive.Resign()
		m.checkReplaced(err)
		return
	}
	logger.WithField("took", time.Since(started)).WithField("fence", p.quorum.cfg.Fence.ID).Info("primary")
	m.setPrimary(p)
	if ctx.Err() != nil { // a StepDown that came before has found no Primary
		p.quorum.depose()
	}
	// What the chain has told before that has found none either.
	p.quorum.uploaded(m.archive.Uploaded())
	if err := m.archive.Err(); errors.Is(err, s3snap.ErrFenced) {
		p.quorum.stop(err)
	}
	m.applier.heard.open(p.quorum.cfg.Fence.ID)
	m.leader.set(m.self, e)
	m.joined.Store(true)
	m.control.do(func(core *elect.Core, now time.Duration) { core.Led(now, e, true) })
	members := newMembership(m, p, r.cluster)
	done := make(chan struct{})
	go func() {
		defer close(done)
		members.run(ctx)
	}()
	<-ctx.Done()
	<-done
	r.end(p)
	logger.Info("not the primary any more")
}

// accede becomes Primary: of the log first, then of the index.
func (r reign) accede(ctx context.Context) (*Primary, error) {
	m, e := r.m, r.cluster.Epoch
	if err := m.recoverLog(ctx); err != nil {
		return nil, err
	}
	head, err := m.archive.Lead(ctx, e)
	if err != nil {
		return nil, err
	}
	m.applier.forget()
	if err := m.applier.applyTo(ctx, head.ID); err != nil {
		return nil, err
	}
	if head.Epoch != e || m.store.Head() != head {
		return nil, fmt.Errorf("%w: the log ends at row %d of epoch %d after leading %d", ErrDivergence, head.ID, head.Epoch, e)
	}
	m.store.Lead(e)
	cfg := m.cfg.Primary
	cfg.Archive, cfg.scrubber, cfg.Logger, cfg.OnFatal = m.archive, m.scrubber, m.logger, m.fatal
	cfg.Quorum = &QuorumConfig{
		Self: m.self, Cluster: r.cluster, Fence: elect.Position{ID: head.ID, Epoch: head.Epoch}, Log: m.log,
		UploadNow: m.archive.UploadNow, Healthy: m.healthy, Confirm: m.confirmPrimary,
		Patience: min(DefaultReceiptPatience, m.cfg.Suspicion/2), MaxPendingUpload: m.cfg.MaxPendingUpload, FellBack: m.metrics.fallbacks.Inc,
		Published: func(h sqllog.Head) {
			m.applier.published(h)
			m.applier.heard.open(h.ID)
		},
		Deposed: func(err error) { m.ended(e, err) },
		GiveWay: m.giveWay,
	}
	p := New(m.log, m.store, cfg)
	m.archive.Start(m.store.Head)
	return p, nil
}

// end undoes it all: what is pending fails, and goes out of the index.
func (r reign) end(p *Primary) {
	m := r.m
	m.setPrimary(nil)
	m.leader.clear(r.cluster.Epoch)
	p.quorum.stop(ErrNotPrimary)
	p.quorum.abandon(ErrDeposed)
	p.Close()
	m.archive.Resign()
}

// fatal ends this node's part in the cluster at once, and asks for its end.
func (m *Member) fatal(err error) {
	m.control.close()
	m.cfg.OnFatal(err)
}

// ended tells the Core that this node must not go on as Primary.
func (m *Member) ended(e sqllog.Epoch, err error) {
	m.logger.WithError(err).WithField("epoch", e).Warn("this node is deposed")
	// The caller may hold what a StepDown wants.
	m.spawn(func() {
		m.control.do(func(core *elect.Core, _ time.Duration) { core.Deposed(e) })
	})
}

// checkReplaced ends the process where the log was replaced under the index: the
// next start loads it.
func (m *Member) checkReplaced(err error) {
	if errors.Is(err, s3snap.ErrReplaced) || isDivergence(err) {
		m.fatal(err)
	}
}

// promise makes a promise durable. No role but that of a Primary or a Replica that
// follows recovers the log, and without a promise it would be neither.
func (m *Member) promise(e sqllog.Epoch) (sqllog.Head, error) {
	if m.log.Broken() != nil {
		if err := m.tryRecover(m.ctx); err != nil {
			return sqllog.Head{}, err
		}
	}
	return m.log.Promise(e)
}

// tryRecover opens the log anew after a failed write.
func (m *Member) tryRecover(ctx context.Context) error {
	head, err := m.log.Recover(ctx)
	if err != nil {
		return err
	}
	if shown := m.store.Head().ID; head.ID < shown {
		err := fmt.Errorf("%w: log holds rows up to %d of %d committed", sqllog.ErrCorrupt, head.ID, shown)
		m.fatal(err)
		return err
	}
	m.logger.Info("log recovered")
	return nil
}

// recoverLog is tryRecover, until it has succeeded, where the log is broken.
func (m *Member) recoverLog(ctx context.Context) error {
	for wait := recoverFirst; ; wait = min(2*wait, recoverMost) {
		err := m.log.Broken()
		if err == nil {
			return nil
		}
		if err = m.tryRecover(ctx); err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		m.logger.WithError(err).Warn("log is not recovered yet")
		pause(ctx, wait)
	}
}
