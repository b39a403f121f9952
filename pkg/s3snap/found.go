package s3snap

import (
	"context"
	"errors"
	"fmt"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// found creates cluster.json and returns where the chain begins: at its start if
// the log has all its rows, else at a snapshot of it. at names the newest
// committed row. p is nil while nobody writes.
func found(ctx context.Context, p *pace, store object.Store, w Writer, log Source, bootstrap string, at func() sqllog.Head) (sqllog.Head, error) {
	return foundAs(ctx, p, store, w, log, clusterFile{Bootstrap: bootstrap}, at)
}

// foundAs is found where cluster.json says more than that.
func foundAs(ctx context.Context, p *pace, store object.Store, w Writer, log Source, file clusterFile, at func() sqllog.Head) (sqllog.Head, error) {
	base := sqllog.Head{Revision: 1}
	release := log.HoldRemoval()
	defer release()
	if err := vacant(ctx, store, w); err != nil {
		return base, err
	}
	whole, err := isWhole(ctx, p, log, at().ID)
	if err != nil {
		return base, err
	}
	if file.Bootstrap != "" || !whole {
		m, err := takeSnapshot(ctx, p, store, w, log, at)
		if err != nil {
			return base, err
		}
		base = m.Head()
	}
	file.ClusterID, file.Base = formatHex(w.Cluster), int64(base.ID)
	err = retry(ctx, func() error { return createCluster(ctx, store, file) })
	if errors.Is(err, object.ErrPrecondition) {
		err = begun(ctx, store, w, base)
	}
	return base, err
}

// isWhole reports whether a log has all rows up to an id.
func isWhole(ctx context.Context, p *pace, log Source, upTo sqllog.ID) (bool, error) {
	next := sqllog.ID(1)
	p.begin()
	err := log.Scan(ctx, 0, upTo, func(r *sqllog.Row) error {
		if r.ID != next {
			return errFound
		}
		next++
		return p.step(ctx)
	})
	if err != nil && !errors.Is(err, errFound) {
		return false, err
	}
	return next == upTo+1, nil
}

// vacant refuses a prefix that holds a history and no cluster.json: a new one
// beside it would be mixed up with it.
func vacant(ctx context.Context, store object.Store, w Writer) error {
	what, err := remains(ctx, store, w)
	if err != nil || what == "" {
		return err
	}
	err = retry(ctx, func() error {
		_, err := readCluster(ctx, store)
		return err
	})
	if errors.Is(err, object.ErrNotFound) {
		return fmt.Errorf("%w: it holds %s and no %s; put that back, or use another prefix", ErrCorruptChain, what, clusterKey)
	}
	return err // another node has begun just now
}

// remains names what a prefix holds of a history that is not this log's beginning,
// "" for nothing.
func remains(ctx context.Context, store object.Store, w Writer) (what string, err error) {
	err = retry(ctx, func() error {
		return store.List(ctx, chunkPrefix, "", func(info object.Info) error {
			if _, ok := parseChunkKey(info.Key); ok {
				return errFound
			}
			return nil
		})
	})
	if errors.Is(err, errFound) {
		return "chunks", nil
	}
	if err != nil {
		return "", fmt.Errorf("list chunks: %w", err)
	}
	if floor, err := readFloorAgain(ctx, store); err != nil || floor > 0 {
		return floorKey, err
	}
	all, err := Snapshots(ctx, store)
	for _, m := range all {
		if (clusterFile{ClusterID: m.ClusterID}).cluster() != w.Cluster {
			what = "snapshots of cluster " + m.ClusterID
		}
	}
	return what, err
}

// begun judges the cluster.json that was there when it was to be created.
func begun(ctx context.Context, store object.Store, w Writer, base sqllog.Head) error {
	var there clusterFile
	err := retry(ctx, func() (err error) {
		there, err = readCluster(ctx, store)
		return err
	})
	switch {
	case err != nil:
		return err
	case there.cluster() != w.Cluster:
		return fmt.Errorf("%w: another node has begun cluster %s on it just now", ErrOtherCluster, there.ClusterID)
	case there.Base != int64(base.ID):
		return fmt.Errorf("%w: the chain was begun after row %d just now, not %d; start the node again", ErrFenced, there.Base, base.ID)
	}
	return nil
}
