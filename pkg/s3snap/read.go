package s3snap

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/s3snap/rowfile"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Bounds of reading the chain: chunks downloaded at once, and the bytes of those
// that are held, if what is stored is inflated by so much.
const (
	readAhead   = 32
	readBytes   = 256 << 20
	readInflate = 8
)

// chunk is a chunk as it was read.
type chunk struct {
	key    string
	header rowfile.Header
	rows   []sqllog.Row
}

// fetch is a chunk on its way.
type fetch struct {
	info   object.Info
	weight int64
	done   chan struct{}
	chunk  chunk // set, or err, before done is closed
	err    error
}

// chainReader reads the chain of one cluster.
type chainReader struct {
	store   object.Store
	cluster uint64
	budget  *semaphore.Weighted
	got     func(bytes int64) // told of each download; nil for none
}

// readChain calls fn with every chunk after a row of the chain, in order, and
// returns the chain's end. Chunks are downloaded and decoded ahead of fn, several
// at once. errMoved: retention has deleted what was to be read.
func readChain(ctx context.Context, store object.Store, cluster uint64, after sqllog.Head, got func(int64), fn func(chunk) error) (sqllog.Head, error) {
	r := &chainReader{store: store, cluster: cluster, budget: semaphore.NewWeighted(readBytes), got: got}
	group, ctx := errgroup.WithContext(ctx)
	queue := make(chan *fetch, readAhead)
	group.Go(func() error {
		defer close(queue)
		return r.list(ctx, after.ID, func(info object.Info) error { return r.enqueue(ctx, group, queue, info) })
	})
	end := after
	group.Go(func() error {
		for f := range queue {
			select {
			case <-f.done:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := r.consume(ctx, f, &end, fn); err != nil {
				return err
			}
		}
		return nil
	})
	err := group.Wait()
	return end, err
}

// list calls fn with every chunk above an id, and goes on after a failure.
func (r *chainReader) list(ctx context.Context, above sqllog.ID, fn func(object.Info) error) error {
	after := chunkKey(above)
	return retry(ctx, func() error {
		return r.store.List(ctx, chunkPrefix, after, func(info object.Info) error {
			if err := fn(info); err != nil {
				return err
			}
			after = info.Key
			return nil
		})
	})
}

// enqueue starts the download of a chunk.
func (r *chainReader) enqueue(ctx context.Context, group *errgroup.Group, queue chan<- *fetch, info object.Info) error {
	f := &fetch{info: info, weight: min(readInflate*info.Size, readBytes), done: make(chan struct{})}
	if err := r.budget.Acquire(ctx, f.weight); err != nil {
		return err
	}
	select {
	case queue <- f:
	case <-ctx.Done():
		return ctx.Err()
	}
	group.Go(func() error {
		f.chunk, f.err = readChunk(ctx, r.store, info.Key)
		close(f.done)
		return nil
	})
	return nil
}

// consume checks that a chunk follows the end, and hands it to fn.
func (r *chainReader) consume(ctx context.Context, f *fetch, end *sqllog.Head, fn func(chunk) error) error {
	defer r.budget.Release(f.weight)
	if err := f.err; err != nil {
		if errors.Is(err, object.ErrNotFound) {
			return fmt.Errorf("%w: %s", errMoved, f.info.Key)
		}
		return err
	}
	if r.got != nil {
		r.got(f.info.Size)
	}
	if err := r.follows(ctx, f.chunk, *end); err != nil {
		return err
	}
	if err := fn(f.chunk); err != nil {
		return err
	}
	*end = f.chunk.header.Head
	return nil
}

// follows checks that a chunk is the next one of this chain.
func (r *chainReader) follows(ctx context.Context, c chunk, end sqllog.Head) error {
	h := c.header
	switch {
	case h.Cluster != r.cluster:
		return fmt.Errorf("%w: %s is of cluster %016x", ErrCorruptChain, c.key, h.Cluster)
	case h.First > end.ID+1:
		floor, err := readFloorAgain(ctx, r.store)
		if err != nil {
			return err
		}
		if floor > end.ID {
			return fmt.Errorf("%w: the chain begins after %d", errMoved, floor)
		}
		return fmt.Errorf("%w: no chunk between row %d and %s", ErrCorruptChain, end.ID, c.key)
	case h.First != end.ID+1, h.Before != end.Epoch, h.Head.Revision < end.Revision:
		return fmt.Errorf("%w: %s does not follow row %d of epoch %d", ErrCorruptChain, c.key, end.ID, end.Epoch)
	}
	return nil
}

// readChunk downloads and verifies one chunk, and tries again where the store
// does not answer.
func readChunk(ctx context.Context, store object.Store, key string) (chunk, error) {
	var body []byte
	err := retry(ctx, func() (err error) {
		body, _, err = object.ReadAll(ctx, store, key, maxChunkBytes)
		return err
	})
	if err != nil {
		return chunk{}, err
	}
	h, rows, err := rowfile.Decode(body)
	switch {
	case errors.Is(err, rowfile.ErrNewer):
		return chunk{}, fmt.Errorf("%w: %s: %w", ErrNewerFormat, key, err)
	case errors.Is(err, rowfile.ErrEncrypted):
		return chunk{}, fmt.Errorf("%w: %s; give --object-store-key-file", ErrEncrypted, key)
	case err != nil:
		return chunk{}, fmt.Errorf("%w: %s: %w", ErrCorruptChain, key, err)
	}
	if first, ok := parseChunkKey(key); !ok || first != h.First || h.Kind != rowfile.KindChunk {
		return chunk{}, fmt.Errorf("%w: %s holds rows from %d on", ErrCorruptChain, key, h.First)
	}
	return chunk{key: key, header: h, rows: rows}, nil
}
