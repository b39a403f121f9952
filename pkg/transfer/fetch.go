package transfer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

const (
	// fetchPage is how many keys are read at once.
	fetchPage = 500
	// fetchTries is how often a read of all keys begins when compaction overtakes
	// it.
	fetchTries = 5
)

// FetchOptions says how Fetch reads a server.
type FetchOptions struct {
	// Dir is the folder for the temporary file, which takes as much space as the
	// server's database; empty means the system's.
	Dir string
	// Prefix restricts the keys, and has them read one by one. Servers that know
	// ranges by prefix only, such as kine, need "/".
	Prefix string
	// LeaseTTL, in seconds, is for leases whose TTL the server does not tell;
	// without it such a server is ErrLeaseTTL.
	LeaseTTL int64
	// DropAuth: see ReadOptions.
	DropAuth bool
}

// Fetch reads a running server into a sink: its database by the Snapshot RPC,
// with all history that is kept, or, where that is not answered or not
// permitted, every key at one revision. The summary warns of the latter.
func (c *Client) Fetch(ctx context.Context, sink Sink, opts FetchOptions) (Summary, error) {
	dir, err := os.MkdirTemp(opts.Dir, "kinsy-fetch-")
	if err != nil {
		return Summary{}, fmt.Errorf("fetch: %w", err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "db")
	var warning string
	err = errNoSnapshot
	if opts.Prefix == "" {
		err = c.saveSnapshot(ctx, path)
	}
	if errors.Is(err, errNoSnapshot) {
		warning = "the keys were read one by one: their values and revisions are those of one moment, without history"
		err = c.fetchKeys(c.auth(ctx), path, opts)
	}
	if err != nil {
		return Summary{}, fmt.Errorf("fetch: %w", err)
	}
	s, err := ReadEtcdDB(ctx, path, sink, ReadOptions{DropAuth: opts.DropAuth})
	if err == nil && warning != "" {
		s.Warnings = append(s.Warnings, warning)
	}
	return s, err
}

// errNoSnapshot: the server does not give its database away.
var errNoSnapshot = errors.New("no snapshot")

// SaveSnapshot writes what the Snapshot RPC gives to a new file, as `etcdctl
// snapshot save` does, and verifies its checksum. ErrExists, ErrDamaged.
func (c *Client) SaveSnapshot(ctx context.Context, path string) error {
	err := writeFile(path, func(partial string) error { return c.saveSnapshot(ctx, partial) })
	if err != nil {
		return fmt.Errorf("save snapshot: %w", err)
	}
	return nil
}

func (c *Client) saveSnapshot(ctx context.Context, path string) (err error) {
	ctx, cancel := context.WithCancel(c.auth(ctx))
	defer cancel()
	stream, err := c.maint.Snapshot(ctx, &pb.SnapshotRequest{})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size := int64(0)
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if code := status.Code(err); size == 0 && (code == codes.Unimplemented || code == codes.PermissionDenied) {
			return fmt.Errorf("%w: %w", errNoSnapshot, err)
		}
		if err != nil {
			return err
		}
		n, err := f.Write(r.Blob)
		if err != nil {
			return err
		}
		size += int64(n)
	}
	if size%sectorSize != checksumSize {
		return damaged("the snapshot ends after %d bytes, without a checksum", size)
	}
	_, err = verifyChecksum(ctx, f, size)
	return err
}

// fetchKeys reads all keys at one revision into an etcd database file, which
// sorts them by revision.
func (c *Client) fetchKeys(ctx context.Context, path string, opts FetchOptions) error {
	for try := 1; ; try++ {
		f := &fetcher{c: c, opts: opts, leases: map[int64]struct{}{}}
		err := f.run(ctx, path)
		if !isError(err, rpctypes.ErrGRPCCompacted) || try == fetchTries {
			return err
		}
	}
}

// fetcher is one attempt to read all keys.
type fetcher struct {
	c      *Client
	opts   FetchOptions
	w      *dbWriter
	leases map[int64]struct{}
}

func (f *fetcher) run(ctx context.Context, path string) (err error) {
	if err := os.Truncate(path, 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if f.w, err = newDBWriter(path); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.w.close()) }()
	revision, err := f.keys(ctx)
	if err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	if err := f.listLeases(ctx); err != nil {
		return fmt.Errorf("read leases: %w", err)
	}
	return f.w.finish(sqllog.Revision(revision))
}

// keys reads page after page, all at the revision of the first.
func (f *fetcher) keys(ctx context.Context) (int64, error) {
	r := &pb.RangeRequest{Limit: fetchPage}
	r.Key, r.RangeEnd = prefixRange(f.opts.Prefix)
	for last := []byte(nil); ; {
		page, err := f.c.kv.Range(ctx, r)
		if err != nil {
			return 0, err
		}
		if r.Revision == 0 {
			r.Revision = page.Header.GetRevision()
		}
		for _, kv := range page.Kvs {
			if bytes.Compare(kv.Key, last) <= 0 || kv.ModRevision < 1 || kv.ModRevision > r.Revision {
				return 0, damaged("the server gives key %.40q of revision %d after %.40q, at revision %d",
					kv.Key, kv.ModRevision, last, r.Revision)
			}
			last = kv.Key
			if err := f.key(kv); err != nil {
				return 0, err
			}
		}
		if !page.More || len(page.Kvs) == 0 {
			return r.Revision, nil
		}
		r.Key = append(bytes.Clone(last), 0)
	}
}

// key stores one key at the next free position of its revision. What other
// servers do not fill in is made up.
func (f *fetcher) key(kv *mvccpb.KeyValue) error {
	row := sqllog.Row{
		Kind: sqllog.KindPut, Revision: sqllog.Revision(kv.ModRevision), Key: kv.Key, Value: kv.Value,
		CreateRevision: sqllog.Revision(kv.CreateRevision), Version: max(kv.Version, 1), Lease: kv.Lease,
	}
	if row.CreateRevision < 1 || row.CreateRevision > row.Revision {
		row.CreateRevision = row.Revision
	}
	if row.Lease != 0 {
		f.leases[row.Lease] = struct{}{}
	}
	row.Sub = f.w.nextSub(row.Revision)
	return f.w.change(&row)
}

// nextSub is the first free position of a revision.
func (w *dbWriter) nextSub(rev sqllog.Revision) int64 {
	c := w.tx.Bucket([]byte(bucketKey)).Cursor()
	k, _ := c.Seek(appendRevision(nil, rev+1, 0, false))
	if k == nil {
		k, _ = c.Last()
	} else {
		k, _ = c.Prev()
	}
	if len(k) < revisionBytes || binary.BigEndian.Uint64(k) != uint64(rev) {
		return 0
	}
	return int64(binary.BigEndian.Uint64(k[9:])) + 1
}

// listLeases stores the leases that keys name and, where the server tells them,
// the others.
func (f *fetcher) listLeases(ctx context.Context) error {
	all, err := f.c.lease.LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
	if err != nil && status.Code(err) != codes.Unimplemented {
		return err
	}
	for _, l := range all.GetLeases() {
		f.leases[l.ID] = struct{}{}
	}
	for id := range f.leases {
		ttl, err := f.leaseTTL(ctx, id)
		if err != nil {
			return err
		}
		if err := f.w.put(bucketLease, appendLeaseKey(nil, id), appendLease(nil, id, ttl)); err != nil {
			return err
		}
	}
	return nil
}

// leaseTTL is the TTL as granted. A lease that has expired since the keys were
// read gets the shortest.
func (f *fetcher) leaseTTL(ctx context.Context, id int64) (int64, error) {
	r, err := f.c.lease.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: id})
	switch {
	case err == nil:
		return max(r.GrantedTTL, minLeaseTTL), nil
	case status.Code(err) == codes.NotFound:
		return minLeaseTTL, nil
	case status.Code(err) != codes.Unimplemented:
		return 0, err
	case f.opts.LeaseTTL > 0:
		return f.opts.LeaseTTL, nil
	}
	return 0, fmt.Errorf("%w: lease %016x", ErrLeaseTTL, uint64(id))
}
