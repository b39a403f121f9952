package s3snap

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/s3snap/rowfile"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Target says up to where history is restored. The zero value means all of it.
type Target struct {
	// Revision is the last one restored; 0 for no bound.
	Revision sqllog.Revision
	// Time is when the last restored row was written at the latest; zero for no
	// bound.
	Time time.Time
}

// covers reports whether a snapshot lies within the target.
func (t Target) covers(m Manifest) bool {
	return (t.Revision == 0 || m.Revision <= int64(t.Revision)) && (t.Time.IsZero() || m.LastWrittenAt <= t.Time.UnixMilli())
}

// ends reports whether a row is beyond the target. The rows of one revision are
// kept together, by the time of the first.
func (t Target) ends(r *sqllog.Row) bool {
	if r.Kind.Changes() && r.Sub > 0 {
		return false
	}
	return (t.Revision != 0 && r.Revision > t.Revision) || (!t.Time.IsZero() && r.WrittenAt > t.Time.UnixMilli())
}

// RestoreConfig says what is restored to where.
type RestoreConfig struct {
	Store object.Store
	// Path is the log file to be made. It must not exist.
	Path   string
	Target Target
	// NewCluster makes the restored log one of a new cluster, so that it cannot be
	// taken for the one it was restored from.
	NewCluster bool
	// Progress is called now and then, by one goroutine at a time; nil for none.
	Progress func(Progress)
	// Logger receives the messages; nil means logrus' standard logger.
	Logger logrus.FieldLogger
}

// Restored says what a restore has made.
type Restored struct {
	Head     sqllog.Head
	Rows     int64 // kept rows
	Snapshot int64 // id of the snapshot it began with, 0 for none
	Bytes    int64 // downloaded
}

// Restore makes a log from the newest snapshot inside the target and the chunks
// after it. After an error, or a crash, there is no log at Path. ErrNoHistory:
// the prefix holds nothing, or nothing that reaches back to the target.
func Restore(ctx context.Context, cfg RestoreConfig) (Restored, error) {
	if cfg.Logger == nil {
		cfg.Logger = logrus.StandardLogger()
	}
	var pause backoff
	for last := int64(-1); ; {
		out, err := restoreOnce(ctx, cfg)
		if !errors.Is(err, errMoved) {
			return out, err
		}
		if out.Snapshot == last {
			return Restored{}, fmt.Errorf("%w: the snapshot at %d, or what follows it, is missing: %w", ErrCorruptChain, last, err)
		}
		last = out.Snapshot
		cfg.Logger.WithError(err).Info("retention has moved on; the restore begins anew")
		if err := pause.pause(ctx); err != nil {
			return Restored{}, err
		}
	}
}

// restoration is one attempt to restore.
type restoration struct {
	cfg      RestoreConfig
	cluster  clusterFile
	loader   *sqllog.Loader
	tracker  *tracker
	batch    []sqllog.Row
	bytes    int
	head     sqllog.Head
	rows     int64
	snapshot Manifest
	base     sqllog.Compaction // of the snapshot
}

func restoreOnce(ctx context.Context, cfg RestoreConfig) (_ Restored, err error) {
	r := &restoration{cfg: cfg, head: sqllog.Head{Revision: 1}}
	if err = retry(ctx, func() (err error) {
		r.cluster, err = readCluster(ctx, cfg.Store)
		return err
	}); err != nil {
		if errors.Is(err, object.ErrNotFound) {
			return Restored{}, fmt.Errorf("%w: the prefix is empty", ErrNoHistory)
		}
		return Restored{}, err
	}
	if err = r.open(ctx); err != nil {
		return Restored{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.loader.Abort())
		}
	}()
	if r.snapshot.ID > 0 {
		if err = r.loadSnapshot(ctx); err != nil {
			return Restored{Snapshot: r.snapshot.ID}, err
		}
	}
	if err = r.loadChunks(ctx); err != nil {
		return Restored{Snapshot: r.snapshot.ID}, err
	}
	if want := cfg.Target.Revision; r.head.Revision < want {
		return Restored{}, fmt.Errorf("%w: it ends at revision %d, before %d", ErrNoHistory, r.head.Revision, want)
	}
	if err = r.flush(); err != nil {
		return Restored{}, err
	}
	if err = r.loader.Finish(r.head, r.base); err != nil {
		return Restored{}, err
	}
	r.tracker.finish()
	return Restored{Head: r.head, Rows: r.rows, Snapshot: r.snapshot.ID, Bytes: r.tracker.bytes.Load()}, nil
}

// open chooses the snapshot to begin with and opens the new log.
func (r *restoration) open(ctx context.Context) error {
	all, start, err := r.cluster.snapshots(ctx, r.cfg.Store)
	if err != nil {
		return err
	}
	for _, m := range all {
		if r.cfg.Target.covers(m) {
			r.snapshot = m
		}
	}
	if r.snapshot.ID == 0 && start > 0 {
		return fmt.Errorf("%w: no snapshot is old enough, and chunks go back to row %d only", ErrNoHistory, start+1)
	}
	config := sqllog.Config{Path: r.cfg.Path, Cluster: r.cluster.cluster(), Logger: r.cfg.Logger}
	if r.cfg.NewCluster {
		config.Cluster = 0
	}
	r.tracker = newTracker(r.cfg, r.snapshot)
	r.loader, err = sqllog.NewLoader(ctx, config)
	return err
}

func (r *restoration) loadSnapshot(ctx context.Context) error {
	src := newRangedReader(ctx, r.cfg.Store, r.snapshot.Object, r.snapshot.Size, partsInFlight)
	defer src.Close()
	err := readSnapshot(src, r.snapshot, r.tracker.got, func(h rowfile.Header) error {
		r.base = h.Compaction
		return nil
	}, r.add)
	if err != nil {
		return err
	}
	r.head = r.snapshot.Head()
	return nil
}

// errReached ends the reading of chunks at the target.
var errReached = errors.New("target reached")

func (r *restoration) loadChunks(ctx context.Context) error {
	_, err := readChain(ctx, r.cfg.Store, r.cluster.cluster(), r.head, r.tracker.got, func(c chunk) error {
		for i := range c.rows {
			row := &c.rows[i]
			if r.cfg.Target.ends(row) {
				return errReached
			}
			if err := r.add(row); err != nil {
				return err
			}
			r.head = sqllog.Head{ID: row.ID, Epoch: row.Epoch, Revision: row.Revision}
		}
		return nil
	})
	if errors.Is(err, errReached) {
		return nil
	}
	return err
}

// loadRows and loadBytes are how many rows, and bytes of them, are handed to the
// loader at a time.
const (
	loadRows  = 4096
	loadBytes = 8 << 20
)

// add hands a row, whose memory is the caller's, to the loader.
func (r *restoration) add(row *sqllog.Row) error {
	kept := *row
	kept.Key, kept.Value = append([]byte(nil), row.Key...), append([]byte(nil), row.Value...)
	r.batch = append(r.batch, kept)
	r.bytes += len(row.Key) + len(row.Value)
	if len(r.batch) < loadRows && r.bytes < loadBytes {
		return nil
	}
	return r.flush()
}

func (r *restoration) flush() error {
	if len(r.batch) == 0 {
		return nil
	}
	if err := r.loader.Add(r.batch); err != nil {
		return err
	}
	r.rows += int64(len(r.batch))
	r.tracker.loaded(r.rows, r.batch[len(r.batch)-1].ID)
	r.batch, r.bytes = r.batch[:0], 0
	return nil
}
