package server

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// snapshotFolder is the folder in Config.SnapshotDir that a snapshot is made
	// in. It exists while one is made and sent.
	snapshotFolder = "snapshot.tmp"
	// snapshotBlob is how many bytes of a snapshot go into one message, as in etcd.
	snapshotBlob = 32 << 10
)

var errNoSnapshotter = status.Error(codes.Unimplemented, "etcdserver: Snapshot is not supported by this node")

// snapshots makes one snapshot at a time.
type snapshots struct {
	dir  string
	turn chan struct{} // holds one token while nobody has the turn
}

// newSnapshots removes what a crash has left in a folder.
func newSnapshots(cfg Config) *snapshots {
	s := &snapshots{dir: filepath.Join(cfg.SnapshotDir, snapshotFolder), turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	if cfg.Snapshotter != nil {
		if err := os.RemoveAll(s.dir); err != nil {
			cfg.Logger.WithError(err).Warn("removing an old snapshot")
		}
	}
	return s
}

// take waits for the turn and makes the folder. release removes it.
func (s *snapshots) take(ctx context.Context) (release func() error, err error) {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	release = func() error {
		defer func() { s.turn <- struct{}{} }()
		return os.RemoveAll(s.dir)
	}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		s.turn <- struct{}{}
		return nil, fmt.Errorf("make a folder for the snapshot: %w", err)
	}
	return release, nil
}

// Snapshot sends an etcd database file of what is committed, in messages of
// 32 KiB, and its SHA-256 as the last message. The file is made first; a second
// call waits until the first is done.
func (s *maintenanceServer) Snapshot(_ *pb.SnapshotRequest, stream pb.Maintenance_SnapshotServer) (err error) {
	if s.cfg.Snapshotter == nil {
		return errNoSnapshotter
	}
	ctx, cancel := s.streamContext(stream.Context())
	defer cancel(nil)
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		err = toGRPC(err)
	}()
	release, err := s.snapshots.take(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if failed := release(); failed != nil {
			s.cfg.Logger.WithError(failed).Warn("removing a snapshot")
		}
	}()
	start := time.Now()
	path, version, err := s.cfg.Snapshotter.WriteSnapshot(ctx, s.snapshots.dir)
	if err != nil {
		return err
	}
	size, err := sendSnapshot(ctx, path, version, stream.Send)
	if err == nil {
		s.cfg.Logger.WithFields(logrus.Fields{"bytes": size, "took": time.Since(start)}).Info("sent a snapshot")
	}
	return err
}

// sendSnapshot sends a file that ends with its SHA-256 and returns its size.
func sendSnapshot(ctx context.Context, path, version string, send func(*pb.SnapshotResponse) error) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("open the snapshot: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("open the snapshot: %w", err)
	}
	left := info.Size() - sha256.Size
	if left < 0 {
		return 0, rpctypes.ErrGRPCCorrupt
	}
	for left > 0 {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if err := sendBlob(f, min(left, snapshotBlob), &left, version, send); err != nil {
			return 0, err
		}
	}
	checksum := int64(sha256.Size)
	return info.Size(), sendBlob(f, checksum, &checksum, version, send)
}

// sendBlob sends the next n bytes, of which *left are left. Each message has
// bytes of its own: gRPC may still read them after Send.
func sendBlob(f io.Reader, n int64, left *int64, version string, send func(*pb.SnapshotResponse) error) error {
	b := make([]byte, n)
	if _, err := io.ReadFull(f, b); err != nil {
		return fmt.Errorf("read the snapshot: %w", err)
	}
	*left -= n
	return send(&pb.SnapshotResponse{RemainingBytes: uint64(*left), Blob: b, Version: version})
}
