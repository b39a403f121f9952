package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// One transaction of bbolt holds this many entries, or a little over this many
// bytes: it keeps them in memory until its end.
const (
	txEntries = 20_000
	txBytes   = 8 << 20
)

// WriteEtcdDB writes an etcd database file with a checksum at its end, as
// `etcdctl snapshot save` does: `etcdutl snapshot restore` takes it. It appears
// under its name, for its owner only, when it is complete and synced; ErrExists
// if the name is taken. ctx ends it with its own error.
func WriteEtcdDB(ctx context.Context, path string, src Source) (Summary, error) {
	s, err := writeEtcd(ctx, path, src)
	if err != nil {
		return Summary{}, fmt.Errorf("write etcd database: %w", err)
	}
	return s, nil
}

func writeEtcd(ctx context.Context, path string, src Source) (Summary, error) {
	var s Summary
	err := writeFile(path, func(partial string) error {
		sv, err := takeSurvey(ctx, src, false)
		if err != nil {
			return err
		}
		if s, err = writeDB(ctx, partial, sv); err != nil {
			return err
		}
		return appendChecksum(ctx, partial)
	})
	return s, err
}

// writeFile has write make a file beside path, syncs it and gives it its name.
func writeFile(path string, write func(partial string) error) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%w: %s", ErrExists, path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.partial")
	if err != nil {
		return err
	}
	partial := f.Name()
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(partial))
		}
	}()
	if err := f.Close(); err != nil {
		return err
	}
	if err := write(partial); err != nil {
		return err
	}
	if err := syncFile(partial); err != nil {
		return err
	}
	if err := os.Rename(partial, path); err != nil {
		return err
	}
	return syncFile(dir)
}

// syncFile syncs a file, or a folder with its names.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// writeDB fills an empty file with a database. It is not synced.
func writeDB(ctx context.Context, path string, sv *survey) (s Summary, err error) {
	w, err := newDBWriter(path)
	if err != nil {
		return Summary{}, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	s = sv.summary()
	err = sv.history(ctx, func(r *sqllog.Row) error {
		s.Changes++
		return w.change(r)
	})
	if err != nil {
		return Summary{}, err
	}
	for _, id := range sv.leaseIDs() {
		if err := w.put(bucketLease, appendLeaseKey(nil, id), appendLease(nil, id, sv.leases[id])); err != nil {
			return Summary{}, err
		}
	}
	return s, w.finish(sv.compaction.Revision)
}

// dbWriter writes the entries of an etcd database in transactions of bounded
// size.
type dbWriter struct {
	db      *bolt.DB
	tx      *bolt.Tx
	entries int
	bytes   int
	buf     []byte
}

// newDBWriter makes a database with etcd's buckets of an empty file.
func newDBWriter(path string) (*dbWriter, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{
		Timeout: time.Second, NoSync: true, NoGrowSync: true, NoFreelistSync: true,
		FreelistType: bolt.FreelistMapType, PageSize: 4096,
	})
	if err != nil {
		return nil, err
	}
	w := &dbWriter{db: db}
	if err := w.begin(); err != nil {
		return nil, errors.Join(err, w.close())
	}
	for _, name := range etcdBuckets {
		if _, err := w.tx.CreateBucket([]byte(name)); err != nil {
			return nil, errors.Join(err, w.close())
		}
	}
	return w, nil
}

func (w *dbWriter) begin() (err error) {
	w.entries, w.bytes = 0, 0
	w.tx, err = w.db.Begin(true)
	return err
}

func (w *dbWriter) commit() error {
	tx := w.tx
	w.tx = nil
	return tx.Commit()
}

// put writes one entry; key and value may be reused after it.
func (w *dbWriter) put(bucket string, key, value []byte) error {
	if w.entries >= txEntries || w.bytes >= txBytes {
		if err := w.commit(); err != nil {
			return err
		}
		if err := w.begin(); err != nil {
			return err
		}
	}
	w.entries++
	w.bytes += len(key) + len(value)
	b := w.tx.Bucket([]byte(bucket))
	b.FillPercent = 1 // nearly all entries come in order
	return b.Put(key, append([]byte(nil), value...))
}

// change writes a put or delete row as etcd stores it.
func (w *dbWriter) change(r *sqllog.Row) error {
	kv := mvccpb.KeyValue{Key: r.Key}
	deleted := r.Kind == sqllog.KindDelete
	if !deleted {
		kv.Value, kv.Lease, kv.Version = r.Value, r.Lease, r.Version
		kv.CreateRevision, kv.ModRevision = int64(r.CreateRevision), int64(r.Revision)
	}
	var err error
	if w.buf, err = (proto.MarshalOptions{}).MarshalAppend(w.buf[:0], &kv); err != nil {
		return err
	}
	return w.put(bucketKey, appendRevision(nil, r.Revision, r.Sub, deleted), w.buf)
}

// finish writes the meta bucket and commits. A compaction is entered as done.
func (w *dbWriter) finish(compact sqllog.Revision) error {
	one := binary.BigEndian.AppendUint64(nil, 1) // restoring sets both anew
	meta := map[string][]byte{metaIndex: one, metaTerm: one, metaVersion: []byte(EtcdStorageVersion)}
	if compact > 0 {
		meta[metaScheduled] = appendRevision(nil, compact, 0, false)
		meta[metaFinished] = meta[metaScheduled]
	}
	for k, v := range meta {
		if err := w.put(bucketMeta, []byte(k), v); err != nil {
			return err
		}
	}
	return w.commit()
}

// close closes the database; what is not committed is lost.
func (w *dbWriter) close() error {
	var err error
	if w.tx != nil {
		err = w.tx.Rollback()
		w.tx = nil
	}
	return errors.Join(err, w.db.Close())
}

// appendChecksum adds the SHA-256 of a file to it.
func appendChecksum(ctx context.Context, path string) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	n, err := io.Copy(h, contextReader{ctx, f})
	if err != nil {
		return err
	}
	_, err = f.WriteAt(h.Sum(nil), n)
	return err
}
