package s3snap

import (
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Progress is how far a restore is.
type Progress struct {
	Rows  int64     // written to the new log
	ID    sqllog.ID // of the newest of them
	Bytes int64     // downloaded
	// SnapshotBytes and SnapshotRows are what the snapshot holds; the size of the
	// chunks after it is not known before they are read.
	SnapshotBytes, SnapshotRows int64
	Elapsed                     time.Duration
	Done                        bool
}

// Times between two calls of a Progress function, and between two messages.
const (
	progressEvery = 200 * time.Millisecond
	messageEvery  = 2 * time.Second
)

// tracker reports the progress of a restore.
type tracker struct {
	cfg      RestoreConfig
	snapshot Manifest
	started  time.Time
	told     time.Time
	logged   time.Time
	bytes    atomic.Int64
	last     Progress
}

func newTracker(cfg RestoreConfig, m Manifest) *tracker {
	now := time.Now()
	return &tracker{cfg: cfg, snapshot: m, started: now, logged: now}
}

func (t *tracker) got(n int64) { t.bytes.Add(n) }

// loaded notes that rows up to an id were written.
func (t *tracker) loaded(rows int64, id sqllog.ID) {
	now := time.Now()
	t.last = Progress{
		Rows: rows, ID: id, Bytes: t.bytes.Load(), Elapsed: now.Sub(t.started),
		SnapshotBytes: t.snapshot.Size, SnapshotRows: t.snapshot.Rows,
	}
	if t.cfg.Progress != nil && now.Sub(t.told) >= progressEvery {
		t.told = now
		t.cfg.Progress(t.last)
	}
	if now.Sub(t.logged) >= messageEvery {
		t.logged = now
		t.fields().Info("restoring from object storage")
	}
}

func (t *tracker) finish() {
	t.last.Done, t.last.Bytes, t.last.Elapsed = true, t.bytes.Load(), time.Since(t.started)
	if t.cfg.Progress != nil {
		t.cfg.Progress(t.last)
	}
	t.fields().Info("restored from object storage")
}

func (t *tracker) fields() logrus.FieldLogger {
	return t.cfg.Logger.WithFields(logrus.Fields{
		"rows": t.last.Rows, "id": t.last.ID, "bytes": t.last.Bytes, "snapshot-rows": t.snapshot.Rows, "took": t.last.Elapsed,
	})
}
