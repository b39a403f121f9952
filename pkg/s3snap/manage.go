package s3snap

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Save takes a snapshot of what object storage holds at its end, for which no node
// is needed: it restores to a log at path, which must not exist, and is left to the
// caller.
func Save(ctx context.Context, store object.Store, path string, log logrus.FieldLogger, progress func(Progress)) (Manifest, error) {
	if _, err := Restore(ctx, RestoreConfig{Store: store, Path: path, Progress: progress, Logger: log}); err != nil {
		return Manifest{}, err
	}
	l, err := sqllog.Open(ctx, sqllog.Config{Path: path, Logger: log})
	if err != nil {
		return Manifest{}, err
	}
	var m Manifest
	if head := l.Head(); head.ID == 0 {
		err = fmt.Errorf("%w: there are no rows", ErrNoHistory)
	} else {
		m, err = takeSnapshot(ctx, nil, store, NewWriter(l.Identity()), l, l.Head)
	}
	return m, errors.Join(err, l.Close())
}

// Seed begins the chain of a log on a prefix without a history: a snapshot of all
// of it is its base. ErrExists if the prefix has a history. After an error nothing
// of the log is left there, unless it is open whether a write took effect.
func Seed(ctx context.Context, store object.Store, log *sqllog.Log) error {
	_, err := readCluster(ctx, store)
	if err == nil {
		return fmt.Errorf("%w: the prefix has a history", ErrExists)
	}
	if !errors.Is(err, object.ErrNotFound) {
		return err
	}
	if err := object.Probe(ctx, store); err != nil {
		return err
	}
	w := NewWriter(log.Identity())
	m, err := takeSnapshot(ctx, nil, store, w, log, log.Head)
	if err != nil {
		return err
	}
	err = retry(ctx, func() error {
		return createCluster(ctx, store, clusterFile{ClusterID: formatHex(w.Cluster), Base: m.ID})
	})
	if err == nil {
		return nil
	}
	return unseed(ctx, store, w.Cluster, m, err)
}

// unseedLimit bounds the look at a prefix whose seeding has failed.
const unseedLimit = 5 * time.Second

// unseed settles what has become of a seed whose last write failed: it returns nil
// if it took effect, else it removes the snapshot.
func unseed(ctx context.Context, store object.Store, cluster uint64, m Manifest, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unseedLimit)
	defer cancel()
	there, err := readCluster(ctx, store)
	switch {
	case err == nil && there.cluster() == cluster:
		return nil
	case err == nil:
		cause = fmt.Errorf("%w: another node has begun cluster %s on it just now", ErrExists, there.ClusterID)
	case !errors.Is(err, object.ErrNotFound):
		return cause
	}
	return errors.Join(cause, discard(store, manifestKey(m.Head().ID)), discard(store, m.Object))
}

// Verified says what Verify has read.
type Verified struct {
	Snapshots, Chunks int
	Rows              int64 // of the chunks
	// From is the row after which the chunks begin, End the newest one.
	From, End sqllog.Head
}

// Verify reads every snapshot of a prefix that retention keeps, and every chunk after the oldest one, and
// checks every byte, and that the chunks follow each other. told is called after
// each snapshot; nil for nobody.
func Verify(ctx context.Context, store object.Store, told func(Manifest)) (Verified, error) {
	v := Verified{From: sqllog.Head{Revision: 1}}
	cluster, err := readCluster(ctx, store)
	if errors.Is(err, object.ErrNotFound) {
		return v, fmt.Errorf("%w: the prefix is empty", ErrNoHistory)
	}
	if err != nil {
		return v, err
	}
	var all []Manifest
	for tries := 1; ; tries++ {
		all, _, err = cluster.snapshots(ctx, store)
		if !errors.Is(err, errMoved) || tries == movedTries {
			break
		}
	}
	if err != nil {
		return v, err
	}
	if len(all) > 0 {
		v.From = all[0].Head()
	}
	for _, m := range all {
		if err := VerifySnapshot(ctx, store, m); err != nil {
			return v, fmt.Errorf("snapshot at %d: %w", m.ID, err)
		}
		v.Snapshots++
		if told != nil {
			told(m)
		}
	}
	v.End, err = readChain(ctx, store, cluster.cluster(), v.From, nil, func(c chunk) error {
		v.Chunks++
		v.Rows += int64(len(c.rows))
		return nil
	})
	return v, err
}
