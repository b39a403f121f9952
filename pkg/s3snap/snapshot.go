package s3snap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/s3snap/rowfile"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Source is a log that a snapshot is taken of.
type Source interface {
	// Scan gives the kept rows in (after, upTo] in order of id.
	Scan(ctx context.Context, after, upTo sqllog.ID, fn func(*sqllog.Row) error) error
	// Compaction is what the log records of rows that are no longer in it.
	Compaction() sqllog.Compaction
	// HoldRemoval keeps rows from being removed until release is called.
	HoldRemoval() (release func())
}

var _ Source = (*sqllog.Log)(nil)

// takeSnapshot makes the snapshot of a log at what at returns, which is called
// once removal is held. It uploads it, reads it back, and names it. A snapshot
// that is there already is returned as it is. p is nil where nothing else is to be
// spared.
func takeSnapshot(ctx context.Context, p *pace, store object.Store, w Writer, log Source, at func() sqllog.Head) (Manifest, error) {
	release := log.HoldRemoval()
	defer release()
	head := at()
	if c := log.Compaction(); c.Revision > head.Revision {
		return Manifest{}, fmt.Errorf("rows up to revision %d are compacted, and only those up to %d are uploaded", c.Revision, head.Revision)
	}
	if m, err := readManifest(ctx, store, manifestKey(head.ID)); !errors.Is(err, object.ErrNotFound) {
		if err == nil {
			err = m.covers(w, head)
		}
		return m, err
	}
	m := Manifest{
		Format: formatVersion, ClusterID: fmt.Sprintf("%016x", w.Cluster),
		Object: fmt.Sprintf("%s"+positionPattern+"-%016x%s", snapshotPrefix, head.ID, rand.Uint64(), rowsSuffix),
		ID:     int64(head.ID), Epoch: int64(head.Epoch), Revision: int64(head.Revision),
		CreatedAt: time.Now().UnixMilli(),
	}
	if err := uploadSnapshot(ctx, p, store, w, log, &m); err != nil {
		return Manifest{}, errors.Join(fmt.Errorf("upload snapshot: %w", err), discard(store, m.Object))
	}
	release()
	err := retry(ctx, func() error { return verifySnapshot(ctx, p, store, m) })
	if err != nil {
		return Manifest{}, errors.Join(fmt.Errorf("verify snapshot: %w", err), discard(store, m.Object))
	}
	return nameSnapshot(ctx, store, m)
}

// nameSnapshot creates the manifest. If there is one of the same id already, that
// is the snapshot.
func nameSnapshot(ctx context.Context, store object.Store, m Manifest) (Manifest, error) {
	key := manifestKey(sqllog.ID(m.ID))
	err := retry(ctx, func() error { return createJSON(ctx, store, key, m) })
	if err == nil {
		return m, nil
	}
	if !errors.Is(err, object.ErrPrecondition) {
		return Manifest{}, err
	}
	there, err := readManifest(ctx, store, key)
	if err == nil && there.Object != m.Object {
		err = errors.Join(there.covers(Writer{Cluster: clusterFile{ClusterID: m.ClusterID}.cluster()}, m.Head()), discard(store, m.Object))
	}
	return there, err
}

// discardTimeout bounds discard: a stop may wait for it. Retention deletes what is
// left.
const discardTimeout = time.Second

// discard deletes an object that nothing names.
func discard(store object.Store, key string) error {
	ctx, cancel := context.WithTimeout(context.Background(), discardTimeout)
	defer cancel()
	if err := store.Delete(ctx, key); err != nil {
		return fmt.Errorf("discard %s: %w", key, err)
	}
	return nil
}

// uploadSnapshot streams the rows up and completes the manifest.
func uploadSnapshot(ctx context.Context, p *pace, store object.Store, w Writer, log Source, m *Manifest) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, pipe := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := writeSnapshot(ctx, p, pipe, w, log, m)
		_ = pipe.CloseWithError(err)
		written <- err
	}()
	info, err := store.Upload(ctx, m.Object, r)
	_ = r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	if scanErr := <-written; scanErr != nil && err == nil {
		err = scanErr
	}
	m.Size = info.Size
	return err
}

// WriteSnapshot writes a log as a snapshot file, at its head. Removal is held
// meanwhile.
func WriteSnapshot(ctx context.Context, out io.Writer, w Writer, log interface {
	Source
	Head() sqllog.Head
}) (Manifest, error) {
	release := log.HoldRemoval()
	defer release()
	head := log.Head()
	m := Manifest{
		Format: formatVersion, ClusterID: fmt.Sprintf("%016x", w.Cluster),
		ID: int64(head.ID), Epoch: int64(head.Epoch), Revision: int64(head.Revision), CreatedAt: time.Now().UnixMilli(),
	}
	return m, writeSnapshot(ctx, nil, out, w, log, &m)
}

// writeSnapshot writes the kept rows up to m's head and counts them in m.
func writeSnapshot(ctx context.Context, p *pace, out io.Writer, w Writer, log Source, m *Manifest) error {
	compaction := log.Compaction()
	m.CompactRevision = int64(compaction.Revision)
	file, err := rowfile.NewWriter(out, rowfile.Header{
		Kind: rowfile.KindSnapshot, Cluster: w.Cluster, Node: w.Node, Incarnation: w.Incarnation,
		First: 1, Head: m.Head(), Compaction: compaction, Written: m.CreatedAt,
	})
	if err != nil {
		return err
	}
	p.begin()
	err = log.Scan(ctx, 0, sqllog.ID(m.ID), func(r *sqllog.Row) error {
		m.Rows++
		m.LastWrittenAt = max(m.LastWrittenAt, r.WrittenAt)
		if r.Kind == sqllog.KindCompact {
			m.CompactRevision = int64(r.CreateRevision)
		}
		if err := file.Add(r); err != nil {
			return err
		}
		return p.step(ctx)
	})
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	return file.Close()
}

// VerifySnapshot downloads a snapshot and checks every byte of it.
func VerifySnapshot(ctx context.Context, store object.Store, m Manifest) error {
	return verifySnapshot(ctx, nil, store, m)
}

func verifySnapshot(ctx context.Context, p *pace, store object.Store, m Manifest) error {
	ahead := partsInFlight
	if p != nil {
		ahead = 1
	}
	src := newRangedReader(ctx, store, m.Object, m.Size, ahead)
	defer src.Close()
	var rows int64
	p.begin()
	err := readSnapshot(src, m, nil, func(rowfile.Header) error { return nil }, func(*sqllog.Row) error {
		rows++
		return p.step(ctx)
	})
	if err == nil && rows != m.Rows {
		return fmt.Errorf("%w: %s has %d rows instead of %d", ErrCorruptChain, m.Object, rows, m.Rows)
	}
	return err
}

// readSnapshot calls begin with the header and fn with every row of a snapshot, as
// src gives it. The rows are to be trusted once it returns nil. got is told of
// downloaded bytes.
func readSnapshot(src io.Reader, m Manifest, got func(int64), begin func(rowfile.Header) error, fn func(*sqllog.Row) error) error {
	in := src
	if got != nil {
		in = countingReader{src, got}
	}
	h, err := readRowFile(in, begin, fn)
	if errors.Is(err, object.ErrNotFound) {
		return fmt.Errorf("%w: %s", errMoved, m.Object)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", m.Object, err)
	}
	if h.Kind != rowfile.KindSnapshot || h.Head != m.Head() || fmt.Sprintf("%016x", h.Cluster) != m.ClusterID {
		return fmt.Errorf("%w: %s is not what its manifest says", ErrCorruptChain, m.Object)
	}
	return nil
}

// readRowFile reads a file of rows from a stream.
func readRowFile(in io.Reader, begin func(rowfile.Header) error, fn func(*sqllog.Row) error) (rowfile.Header, error) {
	file, err := rowfile.NewReader(in)
	if err != nil {
		return rowfile.Header{}, err
	}
	h := file.Header()
	if err := begin(h); err != nil {
		return h, err
	}
	for {
		row, err := file.Next()
		if errors.Is(err, io.EOF) {
			return h, nil
		}
		if err != nil {
			return h, err
		}
		if err := fn(row); err != nil {
			return h, err
		}
	}
}

// countingReader tells how many bytes were read.
type countingReader struct {
	io.Reader
	got func(int64)
}

func (r countingReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.got(int64(n))
	return n, err
}
