package s3snap

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Manifest names a snapshot: all rows that were kept at its id.
type Manifest struct {
	Format    int    `json:"format"`
	ClusterID string `json:"cluster_id"` // 16 hexadecimal digits
	Object    string `json:"object"`     // key of the rows, relative to the prefix
	Size      int64  `json:"size"`       // of that object in bytes
	ID        int64  `json:"id"`
	Epoch     int64  `json:"epoch"`
	Revision  int64  `json:"revision"`
	// CompactRevision is the lowest revision that the snapshot can show.
	CompactRevision int64 `json:"compact_revision"`
	Rows            int64 `json:"rows"`
	CreatedAt       int64 `json:"created_at"` // milliseconds since the Unix epoch
	// LastWrittenAt is when the newest row that it holds was written.
	LastWrittenAt int64 `json:"last_written_at"`
}

// Head names the newest row that the snapshot covers.
func (m Manifest) Head() sqllog.Head {
	return sqllog.Head{ID: sqllog.ID(m.ID), Epoch: sqllog.Epoch(m.Epoch), Revision: sqllog.Revision(m.Revision)}
}

// Created is when the snapshot was taken.
func (m Manifest) Created() time.Time { return time.UnixMilli(m.CreatedAt) }

// covers returns an error unless the snapshot is of a writer's cluster and at a row
// of its log.
func (m Manifest) covers(w Writer, head sqllog.Head) error {
	if (clusterFile{ClusterID: m.ClusterID}).cluster() != w.Cluster || m.Head() != head {
		return fmt.Errorf("%w: %s is of another log", ErrCorruptChain, manifestKey(head.ID))
	}
	return nil
}

// manifestKey is where the snapshot at an id is named.
func manifestKey(id sqllog.ID) string {
	return snapshotPrefix + fmt.Sprintf(positionPattern, id) + manifestSuffix
}

// check refuses a manifest that contradicts its name.
func (m Manifest) check(key string) error {
	cluster := clusterFile{ClusterID: m.ClusterID}.cluster()
	if key != manifestKey(sqllog.ID(m.ID)) || cluster == 0 || m.Epoch < 0 || m.Revision < 1 || m.Size <= 0 ||
		!strings.HasPrefix(m.Object, snapshotPrefix) || !strings.HasSuffix(m.Object, rowsSuffix) {
		return fmt.Errorf("%w: %s is not a snapshot's", ErrCorruptChain, key)
	}
	return nil
}

// manifestKeys lists the names of snapshots, the oldest first.
func manifestKeys(ctx context.Context, store object.Store) (keys []string, err error) {
	err = retry(ctx, func() error {
		keys = keys[:0]
		return store.List(ctx, snapshotPrefix, "", func(info object.Info) error {
			if isManifest(info.Key) {
				keys = append(keys, info.Key)
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	return keys, nil
}

// Snapshots lists the snapshots of a prefix, the oldest first.
func Snapshots(ctx context.Context, store object.Store) ([]Manifest, error) {
	keys, err := manifestKeys(ctx, store)
	if err != nil {
		return nil, err
	}
	all := make([]Manifest, 0, len(keys))
	for _, key := range keys {
		m, err := readManifest(ctx, store, key)
		if errors.Is(err, object.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

func isManifest(key string) bool {
	name, ok := strings.CutSuffix(strings.TrimPrefix(key, snapshotPrefix), manifestSuffix)
	if !ok {
		return false
	}
	_, ok = parsePosition(name)
	return ok
}

func readManifest(ctx context.Context, store object.Store, key string) (m Manifest, err error) {
	err = retry(ctx, func() error {
		m = Manifest{}
		_, err := readJSON(ctx, store, key, &m)
		return err
	})
	if err != nil {
		return Manifest{}, err
	}
	return m, m.check(key)
}
