package sqllog

import (
	"fmt"
	"sync"
	"sync/atomic"
)

const (
	// checkpointBytes written to the WAL since the last checkpoint start one.
	checkpointBytes = 4 << 20
	// lastFrames is how many frames a checkpoint may leave for the short one that
	// runs while no write does.
	lastFrames = 256
	// walFramesLimit is the length of the WAL at which the last step is taken
	// whatever is left, and waits for readers too: a WAL must not grow without end
	// under a load that never pauses.
	walFramesLimit = 16 << 10
)

// checkpointer moves frames of the write-ahead log into the database file,
// outside the commit path. SQLite starts the WAL file over only when a write
// finds every frame moved and no reader in it; under a steady load that never
// happens by itself, so once the rest is short the checkpointer moves it while
// it holds off writes.
type checkpointer struct {
	log     *Log
	conn    *conn
	written atomic.Int64 // bytes since the last checkpoint
	failing bool         // the last checkpoint failed
	wake    chan struct{}
	stop    chan struct{}
	done    sync.WaitGroup
}

func startCheckpointer(l *Log) (*checkpointer, error) {
	conn, err := openSQLite(sqliteCheckpointDSN(l.cfg), l.d.classify)
	if err != nil {
		return nil, err
	}
	c := &checkpointer{log: l, conn: conn, wake: make(chan struct{}, 1), stop: make(chan struct{})}
	c.done.Go(c.run)
	return c, nil
}

// wrote tells that a commit wrote n bytes of rows. A commit writes whole pages,
// however short its rows are.
func (c *checkpointer) wrote(n int64) {
	if c.written.Add(n+2*pageSize) >= checkpointBytes {
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

func (c *checkpointer) checkpoint() error {
	frames, left, err := c.run1("PASSIVE")
	if err != nil || left == 0 && frames < walFramesLimit {
		return err
	}
	if left > lastFrames && frames < walFramesLimit {
		return nil
	}
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	mode := "PASSIVE"
	if frames >= walFramesLimit {
		mode = "RESTART" // waits, for a short time, until readers have left the WAL
	}
	_, _, err = c.run1(mode)
	return err
}

// run1 runs one checkpoint. It returns how many frames the WAL has and how many
// of them are not yet moved.
func (c *checkpointer) run1(mode string) (frames, left int64, err error) {
	row, err := c.conn.pragma("wal_checkpoint(" + mode + ")")
	if err != nil {
		return 0, 0, err
	}
	n, err := integers(row, 3)
	if err != nil {
		return 0, 0, fmt.Errorf("checkpoint: %w", err)
	}
	return n[1], n[1] - n[2], nil
}

func (c *checkpointer) close() error {
	close(c.stop)
	c.done.Wait()
	return c.conn.Close()
}
