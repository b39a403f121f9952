package replicate

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

const (
	// stepTime is what one step of removing rows or giving pages back should
	// take: writes wait for it.
	stepTime   = 2 * time.Millisecond
	minStep    = 16
	shrinkFree = 256 // pages: a file with fewer unused pages is left alone
	scrubRetry = time.Second
)

// scrubber removes what is compacted. Between two steps it rests for as long as
// the last one took, so that writes have at least half of the log's time.
type scrubber struct {
	scrubberConfig
	wake chan struct{} // size one
	step int           // rows removed at a time; run's own
	safe bool          // object storage holds what lets the rows of this run go; run's own

	mu      sync.Mutex
	waiting []chan struct{} // to be closed by the run that begins next
}

// scrubberConfig is what a scrubber works on.
type scrubberConfig struct {
	store     *mvcc.Store
	space     Space
	batchSize int
	logger    logrus.FieldLogger
	stop      <-chan struct{}
	// uploaded returns nil when object storage holds every row up to an id; nil where
	// there is no object storage.
	uploaded func(stop <-chan struct{}, id sqllog.ID) error
}

func newScrubber(cfg scrubberConfig) *scrubber {
	c := &scrubber{scrubberConfig: cfg, wake: make(chan struct{}, 1), step: min(128, cfg.batchSize)}
	if cfg.store.ScrubDue() {
		c.wakeUp()
	}
	return c
}

func (c *scrubber) wakeUp() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// request asks for a run. The channel is closed when one that began later is
// through.
func (c *scrubber) request() <-chan struct{} {
	done := make(chan struct{})
	c.mu.Lock()
	c.waiting = append(c.waiting, done)
	c.mu.Unlock()
	c.wakeUp()
	return done
}

func (c *scrubber) run() {
	retry := time.NewTimer(0)
	retry.Stop()
	defer retry.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-c.wake:
		case <-retry.C:
		}
		if !c.runOnce() {
			retry.Reset(scrubRetry)
		}
	}
}

// runOnce scrubs and gives space back. It reports false if something is left to
// be tried again.
func (c *scrubber) runOnce() bool {
	c.mu.Lock()
	waiting := c.waiting
	c.waiting = nil
	c.mu.Unlock()
	c.safe = false
	err := c.store.Scrub(c.stop, func() int { return c.step }, c.remove)
	if err == nil {
		err = c.shrink()
	}
	if err != nil {
		c.mu.Lock()
		c.waiting = append(waiting, c.waiting...)
		c.mu.Unlock()
		if !errors.Is(err, mvcc.ErrClosed) && !errors.Is(err, s3snap.ErrStopped) {
			c.logger.WithError(err).Warn("removing compacted rows; it is tried again")
		}
		return false
	}
	for _, done := range waiting {
		close(done)
	}
	return true
}

// remove deletes one step of rows.
func (c *scrubber) remove(ids []sqllog.ID, compaction sqllog.Compaction) error {
	if err := c.awaitUpload(); err != nil {
		return err
	}
	start := time.Now()
	if err := c.space.Remove(ids, compaction); err != nil {
		return err
	}
	took := time.Since(start)
	c.step = adaptStep(c.step, c.batchSize, took)
	c.rest(took)
	return nil
}

// awaitUpload waits until object storage holds the compact row and every row that
// goes in this run, among them what tells that a lease is gone: chunks have no holes,
// and a snapshot at the end of the chain never lacks a row that is visible there. All
// of them are published when the run removes its first row. The next run has others,
// also where it is for the same compaction.
func (c *scrubber) awaitUpload() error {
	if c.uploaded == nil || c.safe {
		return nil
	}
	if err := c.uploaded(c.stop, c.store.Head().ID); err != nil {
		return err
	}
	c.safe = true
	return nil
}

// rest leaves the log to writes for as long as the last step has taken it.
func (c *scrubber) rest(took time.Duration) {
	timer := time.NewTimer(took)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.stop:
	}
}

// shrink gives pages back while more than an eighth of the file is unused.
func (c *scrubber) shrink() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	free, total, err := c.space.FreePages(ctx)
	if err != nil || free < shrinkFree || free < total/8 {
		return err
	}
	return c.shrinkTo(ctx, 0)
}

// shrinkTo gives pages back until at most keep are unused.
func (c *scrubber) shrinkTo(ctx context.Context, keep int64) error {
	pages := 64
	for {
		start := time.Now()
		left, err := c.space.Shrink(pages)
		if err != nil || left <= keep {
			return err
		}
		took := time.Since(start)
		pages = adaptStep(pages, 4096, took)
		c.rest(took)
		select {
		case <-c.stop:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		default:
		}
	}
}

// adaptStep brings the size of a step towards stepTime.
func adaptStep(step, most int, took time.Duration) int {
	switch {
	case took > 2*stepTime:
		step /= 2
	case took < stepTime/2:
		step *= 2
	}
	return min(max(step, min(minStep, most)), most)
}
