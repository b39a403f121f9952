package replicate

import (
	"context"
	"fmt"
	"time"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Retry times of a recovery.
const (
	recoverFirst = 50 * time.Millisecond
	recoverMost  = 2 * time.Second
)

// recover tries until the log takes writes again and holds just what is
// committed.
func (p *Primary) recover() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	started := time.Now()
	for wait := recoverFirst; ; wait = min(2*wait, recoverMost) {
		timer := time.NewTimer(wait)
		select {
		case <-p.stop:
			timer.Stop()
			return
		case <-timer.C:
		}
		if err := p.tryRecover(ctx); err != nil {
			p.cfg.Logger.WithError(err).Debug("log is not recovered yet")
			if p.tellFatal() {
				return
			}
			continue
		}
		p.cfg.Logger.WithField("after", time.Since(started)).Info("log recovered; writes are served again")
		return
	}
}

func (p *Primary) tryRecover(ctx context.Context) error {
	p.appendMu.Lock()
	defer p.appendMu.Unlock()
	head, err := p.log.Recover(ctx)
	if err != nil {
		return err
	}
	committed := p.store.Head()
	if head.ID < committed.ID {
		return p.die(fmt.Errorf("%w: log holds rows up to %d of %d acknowledged", sqllog.ErrCorrupt, head.ID, committed.ID))
	}
	if head.ID > committed.ID {
		if err := p.log.Truncate(ctx, committed); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = p.fatalErr
	return p.fatalErr
}

// die makes the refusal of writes final.
func (p *Primary) die(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed, p.fatalErr = err, err
	return err
}
