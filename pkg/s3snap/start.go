package s3snap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/s3snap/rowfile"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// attachTimeout is how long a node that may start without object storage waits
// for it.
const attachTimeout = 5 * time.Second

// starter brings a log and a chain together; doc.go has its table.
type starter struct {
	cfg       Config
	log       *sqllog.Log
	writer    Writer
	bootstrap string // version of the object that the log was loaded from
	adopted   bool   // rows of the chain were taken over
	chain     *Chain // nil while object storage does not answer
	asked     bool   // the first request was sent
	probed    bool

	looked  time.Duration // on the clock: before the chain's end was read
	clocked bool          // looked is set

	// cluster: of several nodes, so that nobody leads by starting. in gives the epoch
	// in which rows up to one are written to the log; nil means their own.
	cluster bool
	in      func(last sqllog.Epoch) (sqllog.Epoch, error)
}

// Open opens the log at a path and the chain of a prefix, brings them together,
// and becomes Primary where doc.go says so. It blocks until object storage
// answers, or ctx ends, where the node cannot do without it.
func Open(ctx context.Context, cfg Config) (*sqllog.Log, *Archive, error) {
	if err := cfg.validate(); err != nil {
		return nil, nil, err
	}
	s := &starter{cfg: cfg.withDefaults()}
	if err := s.open(ctx); err != nil {
		if s.log != nil {
			err = errors.Join(err, s.log.Close())
		}
		return nil, nil, err
	}
	return s.log, newArchive(s), nil
}

func (s *starter) open(ctx context.Context) error {
	if err := s.openLog(ctx); err != nil {
		return err
	}
	if s.log != nil {
		if err := s.resumeAdoption(); err != nil {
			return err
		}
	} else if err := s.openFromStore(ctx); err != nil {
		return err
	}
	relation, err := s.meet(ctx)
	switch {
	case err != nil && s.mayStartAlone(err):
		s.waiting(nil)
		s.cfg.Logger.WithError(err).Warn("object storage does not answer; the node starts without it and uploads later")
		return nil
	case err != nil:
		return err
	}
	return s.settle(ctx, relation)
}

// mayStartAlone reports whether a node with this log may serve before it has
// seen the chain.
func (s *starter) mayStartAlone(err error) bool {
	return !s.cfg.CommitByChunk && !s.adopted && (errors.Is(err, ErrUnavailable) || transient(err))
}

// openLog opens the log if there is one with rows. One without is as good as
// none, and is removed: its cluster may not be the prefix's.
func (s *starter) openLog(ctx context.Context) error {
	info, err := os.Stat(s.cfg.Path)
	if errors.Is(err, os.ErrNotExist) || (err == nil && info.Size() == 0) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find log: %w", err)
	}
	if s.log, err = sqllog.Open(ctx, s.logConfig(0)); err != nil {
		return err
	}
	s.writer = NewWriter(s.log.Identity())
	if s.log.Head().ID > 0 {
		return nil
	}
	err = s.log.Close()
	s.log = nil
	if err != nil {
		return err
	}
	return removeLog(s.cfg.Path)
}

func (s *starter) logConfig(cluster uint64) sqllog.Config {
	return sqllog.Config{Path: s.cfg.Path, SlowThreshold: s.cfg.SlowThreshold, Logger: s.cfg.Logger, Cluster: cluster}
}

// openFromStore makes the log from what is in object storage, or a new one. It
// waits for object storage: without it nobody knows whether there is a history.
func (s *starter) openFromStore(ctx context.Context) error {
	s.cfg.Logger.Info("no log on this disk; looking for one in object storage")
	var cluster clusterFile
	err := s.retryLoud(ctx, func() (err error) {
		if err = s.probe(ctx); err != nil {
			return err
		}
		cluster, err = readCluster(ctx, s.cfg.Store)
		return err
	})
	switch {
	case errors.Is(err, object.ErrNotFound):
		return s.openNew(ctx)
	case err != nil:
		return err
	}
	if err := s.mayUse(cluster); err != nil {
		return err
	}
	if err := s.beginAdoption(); err != nil {
		return err
	}
	err = s.retryLoud(ctx, func() error {
		_, err := Restore(ctx, RestoreConfig{Store: s.cfg.Store, Path: s.cfg.Path, Progress: s.cfg.Progress, Logger: s.cfg.Logger})
		return err
	})
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return s.reopen(ctx, cluster.cluster())
}

// probe proves, once, that object storage honours conditional writes.
func (s *starter) probe(ctx context.Context) error {
	if s.probed {
		return nil
	}
	if !s.asked {
		s.asked = true
		s.waiting(fmt.Errorf("%w yet", ErrUnavailable))
	}
	if err := object.Probe(ctx, s.cfg.Store); err != nil {
		return fmt.Errorf("probe object storage: %w", err)
	}
	s.probed = true
	s.waiting(nil)
	return nil
}

// openNew makes the first log of a new cluster, from bootstrap.snapshot if there
// is one.
func (s *starter) openNew(ctx context.Context) error {
	err := s.retryLoud(ctx, func() (err error) {
		s.bootstrap, err = s.loadBootstrap(ctx)
		return err
	})
	if err != nil && !errors.Is(err, object.ErrNotFound) {
		return fmt.Errorf("load %s: %w", bootstrapKey, err)
	}
	return s.reopen(ctx, s.cfg.Cluster)
}

func (s *starter) reopen(ctx context.Context, cluster uint64) (err error) {
	if s.log, err = sqllog.Open(ctx, s.logConfig(cluster)); err != nil {
		return err
	}
	s.writer = NewWriter(s.log.Identity())
	return nil
}

// loadBootstrap makes the log from bootstrap.snapshot and returns that object's
// version.
func (s *starter) loadBootstrap(ctx context.Context) (string, error) {
	src, info, err := s.cfg.Store.Get(ctx, bootstrapKey, 0, -1)
	if err != nil {
		return "", err
	}
	defer src.Close()
	if err := s.beginAdoption(); err != nil { // its epochs are those of other Primaries
		return "", err
	}
	_, err = LoadSnapshot(ctx, src, sqllog.Config{Path: s.cfg.Path, Cluster: s.cfg.Cluster, Logger: s.cfg.Logger})
	return info.Version, err
}

// findBootstrap finds the object again that the log was loaded from by a start that
// went no further.
func (s *starter) findBootstrap(ctx context.Context) error {
	if !s.adopted || s.bootstrap != "" {
		return nil
	}
	return s.retryLoud(ctx, func() error {
		src, info, err := s.cfg.Store.Get(ctx, bootstrapKey, 0, 0)
		if err == nil {
			err = src.Close()
			s.bootstrap = info.Version
		}
		if errors.Is(err, object.ErrNotFound) {
			return nil
		}
		return err
	})
}

// LoadSnapshot makes a log from a snapshot file. cfg.Cluster 0 makes it one of a
// new cluster.
func LoadSnapshot(ctx context.Context, src io.Reader, cfg sqllog.Config) (head sqllog.Head, err error) {
	loader, err := sqllog.NewLoader(ctx, cfg)
	if err != nil {
		return sqllog.Head{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, loader.Abort())
		}
	}()
	batch := &restoration{loader: loader, tracker: newTracker(RestoreConfig{Logger: cfg.Logger}, Manifest{})}
	h, err := readRowFile(src, func(h rowfile.Header) error {
		if h.Kind != rowfile.KindSnapshot {
			return fmt.Errorf("%w: the file holds a chunk, not a snapshot", ErrCorruptChain)
		}
		return nil
	}, batch.add)
	if err == nil {
		err = batch.flush()
	}
	if err == nil {
		err = loader.Finish(h.Head, h.Compaction)
	}
	return h.Head, err
}

// retryLoud is retry, and says when it has to wait, and for what.
func (s *starter) retryLoud(ctx context.Context, fn func() error) error {
	waits := false
	err := retry(ctx, func() error {
		err := fn()
		if transient(err) {
			if !waits {
				s.cfg.Logger.WithError(err).Warn("object storage does not answer; the node waits for it")
			}
			waits = true
			s.waiting(err)
		}
		return err
	})
	if waits && err == nil {
		s.cfg.Logger.Info("object storage answers; the node goes on")
		s.waiting(nil)
	}
	return err
}

func (s *starter) waiting(why error) {
	if s.cfg.Waiting != nil {
		s.cfg.Waiting(why)
	}
}

// removeLog removes a log without rows.
func removeLog(path string) error {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove empty log: %w", err)
		}
	}
	return nil
}
