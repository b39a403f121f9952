package s3snap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Keys of objects.
const (
	clusterKey      = "cluster.json"
	floorKey        = "floor.json"
	chunkPrefix     = "chunks/"
	snapshotPrefix  = "snapshots/"
	manifestSuffix  = ".json"
	rowsSuffix      = ".rows"
	bootstrapKey    = "bootstrap.snapshot"
	electorKey      = "elector.json"
	membersKey      = "members.json"
	nodePrefix      = "nodes/"
	formatVersion   = 1
	maxJSONBytes    = 1 << 20
	maxChunkBytes   = 1 << 30 // of a stored chunk; a group is far smaller
	positionPattern = "%020d"
)

func chunkKey(first sqllog.ID) string {
	return chunkPrefix + fmt.Sprintf(positionPattern, first)
}

// parseChunkKey reads the position out of a chunk's key.
func parseChunkKey(key string) (sqllog.ID, bool) {
	return parsePosition(strings.TrimPrefix(key, chunkPrefix))
}

func parsePosition(s string) (sqllog.ID, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || fmt.Sprintf(positionPattern, n) != s {
		return 0, false
	}
	return sqllog.ID(n), true
}

// snapshots are those of the cluster after which the chain is there, the oldest
// first, and the id after which it is. Retention may have left older snapshots,
// and deleted what follows them. errMoved: it has deleted those that were found, or
// there are none though the chain does not begin at its start.
func (c clusterFile) snapshots(ctx context.Context, store object.Store) (all []Manifest, start sqllog.ID, err error) {
	// The floor is read before the names: the snapshot that it was raised to, or a
	// newer one, is among them.
	floor, err := readFloorAgain(ctx, store)
	if err != nil {
		return nil, 0, err
	}
	start = max(floor, sqllog.ID(c.Base))
	if all, err = Snapshots(ctx, store); err != nil {
		return nil, 0, err
	}
	all = slices.DeleteFunc(all, func(m Manifest) bool {
		return sqllog.ID(m.ID) < start || clusterFile{ClusterID: m.ClusterID}.cluster() != c.cluster()
	})
	if len(all) == 0 && start > 0 {
		return nil, 0, fmt.Errorf("%w: there is no snapshot at %d or above", errMoved, start)
	}
	return all, start, nil
}

// newestOf finds the newest snapshot of the cluster among manifests that is at an id
// or below, and from which the chain is there, as it is after start. It reads one
// manifest as a rule: an election waits for it.
func (c clusterFile) newestOf(ctx context.Context, store object.Store, manifests []string, start, id sqllog.ID) (head sqllog.Head, ok bool, err error) {
	for _, key := range slices.Backward(manifests) {
		if key > manifestKey(id) || key < manifestKey(start) {
			continue
		}
		m, err := readManifest(ctx, store, key)
		switch {
		case errors.Is(err, object.ErrNotFound):
			continue
		case err != nil:
			return head, false, err
		case clusterFile{ClusterID: m.ClusterID}.cluster() == c.cluster():
			return m.Head(), true, nil
		}
	}
	return head, false, nil
}

// readCluster reads cluster.json; object.ErrNotFound if there is none.
func readCluster(ctx context.Context, store object.Store) (clusterFile, error) {
	c, _, err := readClusterInfo(ctx, store)
	return c, err
}

func readClusterInfo(ctx context.Context, store object.Store) (clusterFile, object.Info, error) {
	var c clusterFile
	info, err := readJSON(ctx, store, clusterKey, &c)
	if err != nil {
		return clusterFile{}, object.Info{}, err
	}
	if err := c.check(); err != nil {
		return clusterFile{}, object.Info{}, err
	}
	return c, info, nil
}

// raiseEpoch asks for an epoch above all that were asked for, and at least one.
// Where an answer is lost it may skip some.
func raiseEpoch(ctx context.Context, store object.Store, least sqllog.Epoch) (epoch sqllog.Epoch, err error) {
	err = retry(ctx, func() error {
		for {
			c, info, err := readClusterInfo(ctx, store)
			if err != nil {
				return err
			}
			epoch = max(sqllog.Epoch(c.Epoch)+1, least)
			c.Epoch = int64(epoch)
			err = putJSON(ctx, store, clusterKey, c, object.Condition{IfVersion: info.Version})
			if !errors.Is(err, object.ErrPrecondition) {
				return err
			}
		}
	})
	return epoch, err
}

// createCluster creates cluster.json; object.ErrPrecondition if there is one.
func createCluster(ctx context.Context, store object.Store, c clusterFile) error {
	c.Format = formatVersion
	return createJSON(ctx, store, clusterKey, c)
}

// floorFile is floor.json.
type floorFile struct {
	Format int   `json:"format"`
	Floor  int64 `json:"floor"`
}

// readFloor tells up to which position the chain is closed, and the state of the
// object that says so (zero if there is none yet).
func readFloor(ctx context.Context, store object.Store) (sqllog.ID, object.Info, error) {
	var f floorFile
	info, err := readJSON(ctx, store, floorKey, &f)
	switch {
	case errors.Is(err, object.ErrNotFound):
		return 0, object.Info{}, nil
	case err != nil:
		return 0, object.Info{}, err
	case f.Floor < 0:
		return 0, object.Info{}, fmt.Errorf("%w: %s names a negative position", ErrCorruptChain, floorKey)
	}
	return sqllog.ID(f.Floor), info, nil
}

// readFloorAgain is readFloor, tried again where the store does not answer.
func readFloorAgain(ctx context.Context, store object.Store) (floor sqllog.ID, err error) {
	err = retry(ctx, func() error {
		floor, _, err = readFloor(ctx, store)
		return err
	})
	return floor, err
}

// raiseFloor closes the positions up to floor, and returns the object's state
// after that: its time is the store's present.
func raiseFloor(ctx context.Context, store object.Store, floor sqllog.ID) (object.Info, error) {
	for {
		now, info, err := readFloor(ctx, store)
		if err != nil {
			return object.Info{}, err
		}
		if info.Version != "" && now >= floor {
			floor = now
		}
		cond := object.Condition{IfVersion: info.Version, IfAbsent: info.Version == ""}
		err = putJSON(ctx, store, floorKey, floorFile{Format: formatVersion, Floor: int64(floor)}, cond)
		if errors.Is(err, object.ErrPrecondition) {
			continue
		}
		if err != nil {
			return object.Info{}, fmt.Errorf("raise floor: %w", err)
		}
		_, info, err = readFloor(ctx, store)
		return info, err
	}
}

// readJSON reads one of the small objects. An unknown format is ErrNewerFormat.
func readJSON(ctx context.Context, store object.Store, key string, into any) (object.Info, error) {
	body, info, err := object.ReadAll(ctx, store, key, maxJSONBytes)
	if err != nil {
		return object.Info{}, err
	}
	if object.IsEncrypted(body) {
		return object.Info{}, fmt.Errorf("%w: %s; give --object-store-key-file", ErrEncrypted, key)
	}
	var format struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(body, &format); err != nil || format.Format < 1 {
		return object.Info{}, fmt.Errorf("%w: %s is not readable", ErrCorruptChain, key)
	}
	if format.Format > formatVersion {
		return object.Info{}, fmt.Errorf("%w: %s has format %d", ErrNewerFormat, key, format.Format)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return object.Info{}, fmt.Errorf("%w: %s: %w", ErrCorruptChain, key, err)
	}
	return info, nil
}

func createJSON(ctx context.Context, store object.Store, key string, v any) error {
	return putJSON(ctx, store, key, v, object.Condition{IfAbsent: true})
}

func putJSON(ctx context.Context, store object.Store, key string, v any, cond object.Condition) error {
	_, err := putJSONVersion(ctx, store, key, v, cond)
	return err
}

// putJSONVersion is putJSON that tells the version of what was written.
func putJSONVersion(ctx context.Context, store object.Store, key string, v any, cond object.Condition) (version string, err error) {
	body, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	if version, err = store.Put(ctx, key, append(body, '\n'), cond); err != nil {
		return "", fmt.Errorf("write %s: %w", key, err)
	}
	return version, nil
}
