package sqllog

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
)

// Config says where a log is and how it reports.
type Config struct {
	// Path is the SQLite file. Its folder must exist.
	Path string
	// Cluster is the id of the cluster that a new log is made for; 0 chooses one at
	// random. An existing log of another cluster is refused; with 0 none is.
	Cluster uint64
	// SlowThreshold: a statement or commit that takes longer is logged. 0 logs
	// none.
	SlowThreshold time.Duration
	// Logger receives the log's messages; nil means logrus' standard logger.
	Logger logrus.FieldLogger

	// Seams for tests.
	vfs string    // SQLite's file layer; empty means the ordinary one
	wal walLimits // zero means the defaults
}

// Log is a log on SQLite. Its methods may be called concurrently; writes are
// serialised. After Close all of them fail with ErrClosed.
type Log struct {
	cfg Config
	d   *dialect

	// mu is held through every write. No other lock is taken under it.
	mu      sync.Mutex
	w       *writer // nil after a Recover that could not open one
	closed  bool
	broken  error // why no write is taken before Recover has succeeded
	removed Head  // the newest row that compaction has taken away
	holds   int   // of HoldRemoval, not yet released
	// released is signalled when holds falls to 0 and when the log is closed.
	released *sync.Cond

	identity Identity // never changed once the log is open

	head       atomic.Pointer[Head]
	compaction atomic.Pointer[Compaction] // as meta has it
	promise    atomic.Int64               // as meta has it; changed under mu
	noted      atomic.Pointer[Head]       // of NoteCommitted
	recorded   ID                         // of it, as meta has it; under mu
	recordedAt time.Time                  // when; under mu
	opened     Head                       // what Committed tells; never changed once the log is open

	readers *readers
	ckpt    *checkpointer
	metrics *metrics

	closing  sync.Once
	closeErr error
}

// Open opens the log, creates it where the file is absent or empty, and brings
// its schema up to date. A file of something else, of a newer version or of
// another cluster is refused untouched (ErrForeign, ErrNewer, ErrOtherCluster); a
// damaged one is ErrCorrupt, and Salvage says what is left of it. Open may block
// for as long as SQLite needs to recover its write-ahead log.
func Open(ctx context.Context, cfg Config) (*Log, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = logrus.StandardLogger()
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("find log file: %w", err)
	}
	cfg.Path = path
	d, err := newSQLiteDialect()
	if err != nil {
		return nil, err
	}
	steps, err := migrations(d.name)
	if err != nil {
		return nil, err
	}
	version, err := probeSQLite(cfg, len(steps))
	if err != nil {
		return nil, fmt.Errorf("open log %s: %w", path, err)
	}
	l := &Log{cfg: cfg, d: d, metrics: newMetrics()}
	l.released = sync.NewCond(&l.mu)
	if err := l.open(version == 0, steps[version:]); err != nil {
		return nil, errors.Join(fmt.Errorf("open log %s: %w", path, err), l.Close())
	}
	return l, nil
}

func (l *Log) open(create bool, steps []migration) error {
	w, err := openWriter(l.cfg, l.d, create)
	if err != nil {
		return err
	}
	l.w = w
	if err := w.migrate(l.d, steps); err != nil {
		return err
	}
	// Always: the process that created the file may have ended before this.
	if err := syncDir(l.cfg.Path); err != nil {
		return err
	}
	if err := w.prepareTables(l.d); err != nil {
		return err
	}
	s, err := w.loadState()
	if err != nil {
		return err
	}
	if l.identity, err = w.loadIdentity(l.cfg.Cluster); err != nil {
		return err
	}
	l.head.Store(&s.head)
	l.removed = s.removed
	l.promise.Store(int64(s.promise))
	l.compaction.Store(&s.compaction)
	if err := l.openCommitted(s.head); err != nil {
		return err
	}
	if l.readers, err = openReaders(l.cfg, l.d); err != nil {
		return err
	}
	l.ckpt, err = startCheckpointer(l)
	return err
}

// Head names the newest row ever appended; in an empty log its ID and Epoch are
// 0 and its Revision is 1.
func (l *Log) Head() Head { return *l.head.Load() }

// Compaction is what Remove has last recorded, or, where its outcome is unknown,
// was last given. A compact row that a scan finds is newer. What it refers to must
// not be changed.
func (l *Log) Compaction() Compaction { return *l.compaction.Load() }

// Path is the absolute path of the database file.
func (l *Log) Path() string { return l.cfg.Path }

// Close refuses new calls, waits for those under way, moves the write-ahead log
// into the database file and closes it. Everything acknowledged is durable
// before. Closing again waits for the first call and returns what it returned.
func (l *Log) Close() error {
	l.closing.Do(func() { l.closeErr = l.close() })
	return l.closeErr
}

func (l *Log) close() error {
	l.mu.Lock()
	l.closed = true
	l.released.Broadcast()
	l.mu.Unlock()
	var errs []error
	if l.ckpt != nil {
		errs = append(errs, l.ckpt.close())
	}
	if l.readers != nil {
		errs = append(errs, l.readers.close())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.w != nil {
		errs = append(errs, l.w.close())
		l.w = nil
	}
	return errors.Join(errs...)
}

// writeLocked runs fn in a transaction of the writer, one at a time.
func (l *Log) writeLocked(fn func(w *writer) error) error {
	if l.broken != nil {
		return fmt.Errorf("log is not recovered: %w", l.broken)
	}
	start := time.Now()
	err := l.w.tx(func() error { return fn(l.w) })
	l.slow(start, "slow log write")
	return err
}

// moveHeadLocked is writeLocked for what moves the head: after ErrIO the head is
// unknown, and every write is refused until Recover has told it.
func (l *Log) moveHeadLocked(fn func(w *writer) error) error {
	err := l.writeLocked(fn)
	if l.broken == nil && errors.Is(err, ErrIO) {
		l.broken = err
	}
	return err
}

func (l *Log) slow(start time.Time, msg string) {
	took := time.Since(start)
	if l.cfg.SlowThreshold > 0 && took > l.cfg.SlowThreshold {
		l.cfg.Logger.WithField("took", took).Warn(msg)
	}
}

// Recover opens the writer anew after a failed write and tells what the
// database holds now. It proves that the disk takes writes again by a durable
// one of its own, which also settles a write whose outcome was unknown. Only the
// caller knows whether rows above what it has acknowledged are to be kept or
// truncated. After an error writes stay refused, and Recover may be called again.
func (l *Log) Recover(ctx context.Context) (Head, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return Head{}, ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return Head{}, err
	}
	s, err := l.recoverLocked()
	l.broken = err
	if err != nil {
		return Head{}, fmt.Errorf("recover log: %w", err)
	}
	l.promise.Store(int64(s.promise))
	l.head.Store(&s.head)
	l.removed = s.removed
	l.compaction.Store(&s.compaction)
	l.ckpt.start()
	return s.head, nil
}

func (l *Log) recoverLocked() (state, error) {
	if l.w != nil {
		if err := l.w.close(); err != nil {
			l.cfg.Logger.WithError(err).Debug("closing the failed writer")
		}
		l.w = nil
	}
	w, err := openWriter(l.cfg, l.d, false)
	if err != nil {
		return state{}, err
	}
	if err := w.prepareTables(l.d); err != nil {
		return state{}, errors.Join(err, w.close())
	}
	l.w = w
	now := []byte(time.Now().UTC().Format(time.RFC3339Nano))
	if err := w.tx(func() error { return w.putMeta(metaRecovered, now) }); err != nil {
		return state{}, err
	}
	return w.loadState()
}
