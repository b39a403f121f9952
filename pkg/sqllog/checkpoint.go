package sqllog

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// walLimits says when the checkpointer acts.
type walLimits struct {
	// bytes written to the WAL since the last checkpoint start one.
	bytes int64
	// rest is how many frames a checkpoint may leave for the short one that runs
	// while no write does.
	rest int64
	// frames is the length of the WAL at which that last step is taken whatever is
	// left, and waits for readers too: a WAL must not grow without end under a load
	// that never pauses.
	frames int64
	// wait is for how long, while writes are held off.
	wait time.Duration
}

var defaultWALLimits = walLimits{bytes: 4 << 20, rest: 256, frames: 16 << 10, wait: 50 * time.Millisecond}

// checkpointer moves frames of the write-ahead log into the database file,
// outside the commit path. SQLite starts the WAL file over only when a write
// finds every frame moved and no reader in it; under a steady load that never
// happens by itself, so once the rest is short the checkpointer moves it while
// it holds off writes.
type checkpointer struct {
	log     *Log
	conn    *conn
	limits  walLimits
	written atomic.Int64 // bytes since the last checkpoint
	wake    chan struct{}
	stop    chan struct{}
	done    sync.WaitGroup

	// Of run alone.
	failing  bool  // the last checkpoint failed
	patience int64 // frames below which readers are not waited for again
}

func startCheckpointer(l *Log) (*checkpointer, error) {
	limits := l.cfg.wal
	if limits == (walLimits{}) {
		limits = defaultWALLimits
	}
	conn, err := openSQLite(sqliteCheckpointDSN(l.cfg, limits.wait), l.d.classify)
	if err != nil {
		return nil, err
	}
	c := &checkpointer{log: l, conn: conn, limits: limits, wake: make(chan struct{}, 1), stop: make(chan struct{})}
	c.done.Go(c.run)
	return c, nil
}

// wrote tells that a commit wrote n bytes of rows. A commit writes whole pages,
// however short its rows are.
func (c *checkpointer) wrote(n int64) {
	if c.written.Add(n+2*pageSize) >= c.limits.bytes {
		c.start()
	}
}

// start has a checkpoint run soon.
func (c *checkpointer) start() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *checkpointer) run() {
	for {
		select {
		case <-c.stop:
			return
		case <-c.wake:
		}
		c.written.Store(0)
		c.report(c.checkpoint())
	}
}

// report logs the first of a series of failures, and its end.
func (c *checkpointer) report(err error) {
	log := c.log.cfg.Logger
	switch {
	case err != nil:
		c.log.metrics.checkpointErrors.Add(1)
		if !c.failing {
			log.WithError(err).Warn("checkpoint of the write-ahead log failed; it grows until one succeeds")
		}
	case c.failing:
		log.Info("checkpoint of the write-ahead log succeeded again")
	}
	c.failing = err != nil
}

// passes is how often a checkpoint is repeated while it leaves more than may be moved
// while writes are held off: each has less to do than the one before.
const passes = 4

func (c *checkpointer) checkpoint() error {
	r, err := c.run1("PASSIVE")
	for n := 1; n < passes && err == nil && !r.busy && r.left > c.limits.rest && r.frames < c.limits.frames; n++ {
		r, err = c.run1("PASSIVE")
	}
	if err != nil {
		return err
	}
	if r.frames < c.limits.frames {
		c.patience = 0
	}
	wait := r.frames >= max(c.limits.frames, c.patience)
	if !wait && (r.left == 0 || r.left > c.limits.rest) {
		return nil
	}
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	if !wait {
		_, err = c.run1("PASSIVE")
		return err
	}
	if r, err = c.run1("RESTART"); err == nil && r.busy {
		c.patience = r.frames + c.limits.frames // somebody reads for long: do not hold off writes for it each time
	}
	return err
}

// result of a checkpoint: how many frames the WAL has, how many of them are not
// yet moved, and whether readers were in the way.
type result struct {
	frames, left int64
	busy         bool
}

func (c *checkpointer) run1(mode string) (result, error) {
	row, err := c.conn.pragma("wal_checkpoint(" + mode + ")")
	if err != nil {
		return result{}, err
	}
	n, err := integers(row, 3)
	if err != nil {
		return result{}, fmt.Errorf("checkpoint: %w", err)
	}
	return result{busy: n[0] != 0, frames: n[1], left: n[1] - n[2]}, nil
}

func (c *checkpointer) close() error {
	close(c.stop)
	c.done.Wait()
	return c.conn.Close()
}
