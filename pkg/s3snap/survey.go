package s3snap

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// How many rows below the log's head chunks are looked for at first. Under load a
// chunk holds the rows of some seconds; where they are small there may be a million of
// them. Object storage names a thousand in an answer, so that either costs one request.
const (
	nearWindow = sqllog.ID(999)
	farWindow  = sqllog.ID(1) << 18
	farNames   = 1000
)

// survey is what a comparison has to know before it knows where to look: each part
// is asked for without waiting for another one. doc.go says why it may be.
type survey struct {
	cluster   clusterFile
	none      bool   // there is no cluster.json
	bootstrap string // version of the object, empty if there is none
	floor     sqllog.ID
	manifests []string // keys, the oldest first
	near, far chunkList
}

// chunkList names some of the chunks of a prefix.
type chunkList struct {
	after  sqllog.ID   // the chunks' positions are above it
	firsts []sqllog.ID // positions, up to the first one beyond a log's head
	all    bool        // none is missing
}

// errManyChunks ends a listing that is not worth more requests.
var errManyChunks = errors.New("many chunks")

// listChunks finds the chunks above a position, up to the first one beyond head, and
// gives up after so many, if that is not 0.
func listChunks(ctx context.Context, store object.Store, after, head sqllog.ID, most int) (chunkList, error) {
	l := chunkList{after: after, all: true}
	err := store.List(ctx, chunkPrefix, chunkKey(after), func(info object.Info) error {
		first, ok := parseChunkKey(info.Key)
		if !ok {
			return nil
		}
		l.firsts = append(l.firsts, first)
		switch {
		case first > head:
			return errFound
		case len(l.firsts) == most:
			return errManyChunks
		}
		return nil
	})
	switch {
	case errors.Is(err, errManyChunks):
		return chunkList{}, nil
	case err != nil && !errors.Is(err, errFound):
		return chunkList{}, fmt.Errorf("list chunks: %w", err)
	}
	return l, nil
}

// look reads what compare needs first. What cluster.json says is judged first:
// without it, or if it is another cluster's, the rest means nothing.
func (c *comparison) look(ctx context.Context) error {
	others, cancel := context.WithCancel(ctx)
	defer cancel()
	group, within := errgroup.WithContext(others)
	group.Go(func() (err error) {
		c.bootstrap, err = bootstrapVersion(within, c.store)
		return err
	})
	group.Go(func() (err error) {
		c.floor, err = readFloorAgain(within, c.store)
		return err
	})
	group.Go(func() (err error) {
		c.manifests, err = manifestKeys(within, c.store)
		return err
	})
	group.Go(func() (err error) {
		c.near, err = listChunks(within, c.store, max(0, c.head.ID-nearWindow), c.head.ID, 0)
		return err
	})
	if c.head.ID > nearWindow {
		group.Go(func() (err error) {
			c.far, err = listChunks(within, c.store, max(0, c.head.ID-farWindow), c.head.ID, farNames)
			return err
		})
	}
	err := c.readOwn(ctx)
	if err != nil {
		cancel()
	}
	if other := group.Wait(); err == nil {
		err = other
	}
	return err
}

// readOwn reads cluster.json, which must be of the log's cluster.
func (c *comparison) readOwn(ctx context.Context) (err error) {
	c.cluster, err = readCluster(ctx, c.store)
	if c.none = errors.Is(err, object.ErrNotFound); err != nil {
		return err
	}
	if id := c.log.Identity().Cluster; c.cluster.cluster() != id {
		return fmt.Errorf("%w: the prefix is of cluster %s, the log of %016x; use another prefix or another data folder",
			ErrOtherCluster, c.cluster.ClusterID, id)
	}
	return nil
}

// bootstrapVersion is the version of bootstrap.snapshot, empty if there is none.
func bootstrapVersion(ctx context.Context, store object.Store) (string, error) {
	src, info, err := store.Get(ctx, bootstrapKey, 0, 0)
	if errors.Is(err, object.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return info.Version, src.Close()
}

// above is the part above a position.
func (l chunkList) above(low sqllog.ID) chunkList {
	n := 0
	for n < len(l.firsts) && l.firsts[n] <= low {
		n++
	}
	return chunkList{after: max(l.after, low), firsts: l.firsts[n:], all: l.all}
}

// newest is the newest of the chunks that begins at or below the log's head.
func (l chunkList) newest(head sqllog.ID) (sqllog.ID, bool) {
	for i := len(l.firsts) - 1; i >= 0; i-- {
		if l.firsts[i] <= head {
			return l.firsts[i], true
		}
	}
	return 0, false
}
