package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// ReadOptions changes what ReadEtcdDB accepts.
type ReadOptions struct {
	// DropAuth takes a database whose authentication is on, without its users,
	// roles and rights.
	DropAuth bool
}

// ReadEtcdDB reads an etcd database file, or what `etcdctl snapshot save` made,
// into a sink. A checksum at the end is verified before the first row is added.
// The file must not change meanwhile: that of a running etcd does. ErrForeign,
// ErrDamaged, ErrNewer, ErrAuth; ctx ends it with its own error.
func ReadEtcdDB(ctx context.Context, path string, sink Sink, opts ReadOptions) (Summary, error) {
	f, err := os.Open(path)
	if err != nil {
		return Summary{}, fmt.Errorf("open etcd database: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Summary{}, fmt.Errorf("open etcd database: %w", err)
	}
	s, err := readEtcd(ctx, f, info.Size(), sink, opts)
	if err != nil {
		return Summary{}, fmt.Errorf("read etcd database %s: %w", path, err)
	}
	return s, nil
}

// readEtcd is ReadEtcdDB of size bytes.
func readEtcd(ctx context.Context, r io.ReaderAt, size int64, sink Sink, opts ReadOptions) (Summary, error) {
	d := &etcdDB{buckets: map[string]boltBucket{}}
	size, err := verifyChecksum(ctx, r, size)
	if err != nil {
		return Summary{}, err
	}
	if d.file, err = openBolt(r, size); err != nil {
		return Summary{}, err
	}
	err = d.file.buckets(func(name []byte, b boltBucket) error {
		d.buckets[string(name)] = b
		return nil
	})
	if err != nil {
		return Summary{}, err
	}
	for _, name := range []string{bucketKey, bucketMeta} {
		if _, ok := d.buckets[name]; !ok {
			return Summary{}, fmt.Errorf("%w: the database has no bucket %q, so it is not etcd's", ErrForeign, name)
		}
	}
	if err := d.readMeta(); err != nil {
		return Summary{}, err
	}
	d.b = newBuilder(ctx, sink, d.compact)
	if err := d.checkDropped(opts); err != nil {
		return Summary{}, err
	}
	if err := d.each(bucketLease, d.lease); err != nil {
		return Summary{}, err
	}
	if err := d.each(bucketKey, d.change); err != nil {
		return Summary{}, err
	}
	return d.b.finish(d.marker)
}

// verifyChecksum verifies the checksum at the end, where there is one, and
// returns the size without it.
func verifyChecksum(ctx context.Context, r io.ReaderAt, size int64) (int64, error) {
	switch size % sectorSize {
	case 0:
		return size, nil
	case checksumSize:
	default:
		return 0, fmt.Errorf("%w: %d bytes are no whole database", ErrForeign, size)
	}
	size -= checksumSize
	want := make([]byte, checksumSize)
	if _, err := r.ReadAt(want, size); err != nil {
		return 0, fmt.Errorf("read checksum: %w", err)
	}
	h := sha256.New()
	if _, err := io.Copy(h, contextReader{ctx, io.NewSectionReader(r, 0, size)}); err != nil {
		return 0, fmt.Errorf("verify checksum: %w", err)
	}
	if !bytes.Equal(h.Sum(nil), want) {
		return 0, damaged("the SHA-256 at its end is not that of the rest")
	}
	return size, nil
}

// contextReader ends with the error of its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}

// etcdDB is one database being read.
type etcdDB struct {
	file    *boltFile
	buckets map[string]boltBucket
	b       *builder
	compact sqllog.Revision
	marker  sqllog.Revision // newest revision of an entry without a key
}

// each calls fn with the entries of a bucket; there are none in one that does
// not exist.
func (d *etcdDB) each(bucket string, fn func(k, v []byte) error) error {
	b, ok := d.buckets[bucket]
	if !ok {
		return nil
	}
	if err := d.file.entries(b, fn); err != nil {
		return fmt.Errorf("bucket %s: %w", bucket, err)
	}
	return nil
}

// readMeta finds the compacted revision: that of a compaction that was decided
// on, even if etcd was not done with it.
func (d *etcdDB) readMeta() error {
	return d.each(bucketMeta, func(k, v []byte) error {
		switch string(k) {
		case metaScheduled, metaFinished:
			rev, _, _, err := parseRevision(v)
			if err != nil {
				return err
			}
			d.compact = max(d.compact, rev)
		case metaVersion:
			return checkStorageVersion(string(v))
		}
		return nil
	})
}

// checkStorageVersion refuses what is no etcd 3: within it formats are
// compatible.
func checkStorageVersion(version string) error {
	major, _, ok := strings.Cut(version, ".")
	n, err := strconv.Atoi(major)
	if !ok || err != nil {
		return damaged("storage version %q", version)
	}
	if n > 3 {
		return fmt.Errorf("%w: storage version %s", ErrNewer, version)
	}
	return nil
}

// checkDropped warns of what kinsy has no place for.
func (d *etcdDB) checkDropped(opts ReadOptions) error {
	enabled := false
	err := d.each(bucketAuth, func(k, v []byte) error {
		if string(k) == authEnabled {
			enabled = len(v) > 0 && v[0] == 1
		}
		return nil
	})
	if err != nil {
		return err
	}
	if enabled && !opts.DropAuth {
		return ErrAuth
	}
	if enabled {
		d.b.warn("authentication was enabled in etcd; kinsy has none")
	}
	for _, bucket := range []string{bucketUsers, bucketRoles, bucketAlarm} {
		n := 0
		if err := d.each(bucket, func(_, _ []byte) error { n++; return nil }); err != nil {
			return err
		}
		if n > 0 {
			d.b.warn("%d entries of etcd's bucket %s were left out", n, bucket)
		}
	}
	return nil
}

func (d *etcdDB) lease(k, v []byte) error {
	id, ttl, err := parseLease(v)
	if err != nil {
		return err
	}
	if want := appendLeaseKey(nil, id); !bytes.Equal(k, want) {
		return damaged("lease %016x is stored under %x", uint64(id), k)
	}
	return d.b.addLease(id, ttl)
}

func (d *etcdDB) change(k, v []byte) error {
	c := change{kv: &mvccpb.KeyValue{}}
	var err error
	if c.rev, c.sub, c.deleted, err = parseRevision(k); err != nil {
		return err
	}
	if err := proto.Unmarshal(v, c.kv); err != nil {
		return damaged("the value of revision %d is no KeyValue", c.rev)
	}
	if len(c.kv.ProtoReflect().GetUnknown()) > 0 {
		return fmt.Errorf("%w: the value of revision %d has unknown fields", ErrNewer, c.rev)
	}
	if len(v) == 0 && !c.deleted {
		// `etcdutl snapshot restore --bump-revision` leaves such an entry.
		d.marker = max(d.marker, c.rev)
		d.b.warn("revision %d has no key: it was made by a bump of the revision, and HashKV differs from etcd's", c.rev)
		return nil
	}
	return d.b.addChange(c)
}
