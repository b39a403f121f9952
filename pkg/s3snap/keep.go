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

// Times of the snapshot loop.
const (
	snapshotCheck  = time.Second
	snapshotRetry  = 30 * time.Second
	retentionEvery = 10 * time.Minute
)

// keepSnapshots takes snapshots when they are due, and applies the retention.
func (t *term) keepSnapshots() {
	a := t.a
	ticker := time.NewTicker(snapshotCheck)
	defer ticker.Stop()
	k := snapshotKeeper{ctx: t.keeping}
	for {
		select {
		case <-ticker.C:
		case <-k.ctx.Done():
			return
		}
		chain := a.chain.Load()
		if chain == nil || time.Now().Before(k.notBefore) {
			continue
		}
		if err := k.step(a, chain); err != nil && k.ctx.Err() == nil {
			k.notBefore = time.Now().Add(snapshotRetry)
			a.cfg.Logger.WithError(err).Warn("snapshot or retention; it is tried again")
		}
	}
}

// ownSnapshots are the snapshots of the cluster that a prefix belongs to.
func ownSnapshots(ctx context.Context, store object.Store) ([]Manifest, error) {
	var cluster clusterFile
	err := retry(ctx, func() (err error) {
		cluster, err = readCluster(ctx, store)
		return err
	})
	if err != nil {
		return nil, err
	}
	all, _, err := cluster.snapshots(ctx, store)
	return all, err
}

// snapshotKeeper is what the snapshot loop remembers.
type snapshotKeeper struct {
	ctx       context.Context // nil means that of the Archive
	known     bool            // last is read
	last      Manifest
	since     time.Time // when rows after last were first seen
	chunks    int64     // that this process had written when last was taken
	retained  time.Time // when retention was applied
	notBefore time.Time
}

func (k *snapshotKeeper) step(a *Archive, chain *Chain) error {
	if !k.known {
		all, err := ownSnapshots(k.ctx, a.cfg.Store)
		if err != nil {
			return err
		}
		if len(all) > 0 {
			k.last = all[len(all)-1]
		}
		k.known, k.since = true, time.Now()
		if k.last.CreatedAt > 0 {
			k.since = k.last.Created()
		}
		a.lastSnapshot.Store(k.last.ID)
	}
	if a.cfg.snapshotDue(k, chain) {
		if err := k.take(a, chain); err != nil {
			return err
		}
		k.retained = time.Time{}
	}
	if time.Since(k.retained) < retentionEvery {
		return nil
	}
	k.retained = time.Now()
	return applyRetention(k.ctx, a.cfg)
}

// snapshotChunks is after how many chunks a snapshot is taken in any case: each of
// them costs a start from an empty disk a request.
const snapshotChunks = 10_000

func (c Config) snapshotDue(k *snapshotKeeper, chain *Chain) bool {
	rows, byRows, byAge := int64(chain.End().ID)-k.last.ID, c.SnapshotRows, c.SnapshotInterval
	switch {
	case rows <= 0 || (byRows <= 0 && byAge <= 0):
		return false
	case byRows > 0 && rows >= byRows, byAge > 0 && time.Since(k.since) >= byAge:
		return true
	}
	return chain.chunks()-k.chunks >= snapshotChunks
}

func (k *snapshotKeeper) take(a *Archive, chain *Chain) error {
	started, chunks := time.Now(), chain.chunks()
	ctx := k.ctx
	if ctx == nil {
		ctx = a.keeping
	}
	m, err := takeSnapshot(ctx, a.cfg.pace(), a.cfg.Store, a.writer, a.log, chain.End)
	if err != nil {
		return err
	}
	k.last, k.since, k.chunks = m, time.Now(), chunks
	a.lastSnapshot.Store(m.ID)
	a.cfg.Logger.WithField("id", m.ID).WithField("revision", m.Revision).WithField("rows", m.Rows).
		WithField("bytes", m.Size).WithField("took", time.Since(started)).Info("snapshot taken")
	return nil
}

// applyRetention deletes the snapshots that nobody needs any more, and the chunks
// that the oldest kept one covers. The floor is raised first.
func applyRetention(ctx context.Context, cfg Config) error {
	all, err := ownSnapshots(ctx, cfg.Store)
	if err != nil {
		return err
	}
	keep := kept(all, cfg.SnapshotRetention, time.Now().Add(-cfg.RetentionTime))
	if len(keep) == 0 {
		return nil
	}
	oldest := sqllog.ID(keep[0].ID)
	state, err := raiseFloor(ctx, cfg.Store, oldest)
	if err != nil {
		return err
	}
	// The object was just written: its time is the present of the store's clock,
	// by which everything else is dated too.
	before := state.Modified.Add(-cfg.minAge)
	snapshots, err := deleteSnapshots(ctx, cfg.Store, keep, before)
	if err != nil {
		return fmt.Errorf("delete snapshots: %w", err)
	}
	chunks, err := deleteChunks(ctx, cfg.Store, oldest, before)
	if err != nil {
		return fmt.Errorf("delete chunks: %w", err)
	}
	if err := deleteProbes(ctx, cfg.Store, before); err != nil {
		return fmt.Errorf("delete probes: %w", err)
	}
	if snapshots+chunks > 0 {
		cfg.Logger.WithField("snapshots", snapshots).WithField("chunks", chunks).WithField("floor", oldest).Info("deleted what is out of retention")
	}
	return nil
}

// kept chooses the snapshots to keep, of all in order of id: the newest ones, those
// taken after a moment, and the newest one before it, from which that moment can
// be restored.
func kept(all []Manifest, newest int, after time.Time) []Manifest {
	first := max(len(all)-max(newest, 1), 0)
	for first > 0 && all[first].Created().After(after) {
		first--
	}
	return all[first:]
}

// deleteSnapshots deletes the snapshots that are not kept: first their names, so
// that no name is without its rows. Rows that never got a name go too.
func deleteSnapshots(ctx context.Context, store object.Store, keep []Manifest, before time.Time) (int, error) {
	needed := make(map[string]bool)
	for _, m := range keep {
		needed[m.Object], needed[manifestKey(sqllog.ID(m.ID))] = true, true
	}
	var names, rows []string
	err := store.List(ctx, snapshotPrefix, "", func(info object.Info) error {
		switch {
		case needed[info.Key] || !info.Modified.Before(before):
		case isManifest(info.Key) && info.Key > manifestKey(sqllog.ID(keep[0].ID)):
		case isManifest(info.Key):
			names = append(names, info.Key)
		case strings.HasSuffix(info.Key, rowsSuffix) && info.Key < manifestKey(sqllog.ID(keep[0].ID)):
			// Those above may get their name yet: an upload may take long, and some
			// stores date an object by its beginning.
			rows = append(rows, info.Key)
		}
		return nil
	})
	if err == nil && len(names) > 0 {
		err = store.Delete(ctx, names...)
	}
	if err == nil && len(rows) > 0 {
		err = store.Delete(ctx, rows...)
	}
	return len(names), err
}

// deleteProbes deletes what a probe has left whose writes took effect late.
func deleteProbes(ctx context.Context, store object.Store, before time.Time) error {
	var keys []string
	err := store.List(ctx, object.ProbePrefix, "", func(info object.Info) error {
		if info.Modified.Before(before) {
			keys = append(keys, info.Key)
		}
		return nil
	})
	if err == nil && len(keys) > 0 {
		err = store.Delete(ctx, keys...)
	}
	return err
}

// deleteBatch is how many chunks are deleted in one request.
const deleteBatch = 500

// errCovered ends the listing of chunks at the floor.
var errCovered = errors.New("floor reached")

// deleteChunks deletes the chunks up to an id, at which there is a snapshot, that
// were written before a moment. The oldest go first, so that there is no gap.
func deleteChunks(ctx context.Context, store object.Store, upTo sqllog.ID, before time.Time) (int, error) {
	var keys []string
	deleted := 0
	flush := func() error {
		if len(keys) == 0 {
			return nil
		}
		err := store.Delete(ctx, keys...)
		deleted += len(keys)
		keys = nil
		return err
	}
	err := store.List(ctx, chunkPrefix, "", func(info object.Info) error {
		first, ok := parseChunkKey(info.Key)
		if !ok {
			return nil
		}
		if first > upTo || !info.Modified.Before(before) {
			return errCovered
		}
		if keys = append(keys, info.Key); len(keys) < deleteBatch {
			return nil
		}
		return flush()
	})
	if err != nil && !errors.Is(err, errCovered) {
		return deleted, err
	}
	return deleted, flush()
}
