package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/pkg/replicate"
)

// fakeSnapshot writes random bytes and their checksum.
type fakeSnapshot struct {
	body    []byte
	fail    error
	started chan string   // the folder of each call
	hold    chan struct{} // a call returns when it is closed, or its context ends; nil: at once
}

func newFakeSnapshot(t testing.TB, size int) *fakeSnapshot {
	t.Helper()
	b := make([]byte, size)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(b)
	return &fakeSnapshot{body: b, started: make(chan string, 8)}
}

func (f *fakeSnapshot) WriteSnapshot(ctx context.Context, dir string) (string, string, error) {
	path := filepath.Join(dir, "db")
	sum := sha256.Sum256(f.body)
	err := os.WriteFile(path, append(bytes.Clone(f.body), sum[:]...), 0o600)
	f.started <- dir
	if f.hold != nil {
		select {
		case <-f.hold:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	return path, "3.6.0", errors.Join(err, f.fail)
}

func withSnapshot(t testing.TB, f *fakeSnapshot) func(*Config) {
	t.Helper()
	dir := t.TempDir()
	return func(c *Config) { c.Snapshotter, c.SnapshotDir = f, dir }
}

// receive reads a whole stream.
func receive(stream pb.Maintenance_SnapshotClient) (list []*pb.SnapshotResponse, err error) {
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		list = append(list, r)
	}
}

func (h *harness) snapshot(ctx context.Context) ([]*pb.SnapshotResponse, error) {
	stream, err := pb.NewMaintenanceClient(h.conn).Snapshot(ctx, &pb.SnapshotRequest{})
	if err != nil {
		return nil, err
	}
	return receive(stream)
}

// stopAll returns when no handler is running any more.
func stopAll(t *testing.T, h *harness) {
	t.Helper()
	if err := h.GracefulStop(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

func wantGone(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the folder %s is left: %v", filepath.Base(dir), err)
	}
}

func TestSnapshotFraming(t *testing.T) {
	for _, size := range []int{0, 1, snapshotBlob - 1, snapshotBlob, snapshotBlob + 1, 5 * snapshotBlob} {
		f := newFakeSnapshot(t, size)
		h := start(t, ProfileEtcd, withSnapshot(t, f))
		list, err := h.snapshot(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		if want := (size+snapshotBlob-1)/snapshotBlob + 1; len(list) != want {
			t.Fatalf("%d bytes came in %d messages, want %d", size, len(list), want)
		}
		var got []byte
		for i, r := range list[:len(list)-1] {
			got = append(got, r.Blob...)
			if len(r.Blob) > snapshotBlob || r.RemainingBytes != uint64(size-len(got)) || r.Version != "3.6.0" {
				t.Fatalf("message %d: %d bytes, %d remain, version %q", i, len(r.Blob), r.RemainingBytes, r.Version)
			}
		}
		last, sum := list[len(list)-1], sha256.Sum256(f.body)
		if !bytes.Equal(got, f.body) || !bytes.Equal(last.Blob, sum[:]) || last.RemainingBytes != 0 || last.Version != "3.6.0" {
			t.Fatalf("%d bytes: the content or the last message %v is wrong", size, last)
		}
		stopAll(t, h)
		wantGone(t, <-f.started)
	}
}

func TestSnapshotIsRefused(t *testing.T) {
	h := start(t, ProfileEtcd)
	if _, err := h.snapshot(testContext(t)); status.Code(err) != codes.Unimplemented {
		t.Fatalf("without a Snapshotter: %v", err)
	}
	h = start(t, ProfileNetsy, withSnapshot(t, newFakeSnapshot(t, 1)))
	if _, err := h.snapshot(testContext(t)); status.Code(err) != codes.Unimplemented {
		t.Fatalf("in the netsy profile: %v", err)
	}
}

func TestSnapshotErrors(t *testing.T) {
	f := newFakeSnapshot(t, 1)
	f.fail = replicate.ErrNoSpace
	h := start(t, ProfileEtcd, withSnapshot(t, f))
	_, err := h.snapshot(testContext(t))
	wantError(t, err, rpctypes.ErrGRPCNoSpace)
	stopAll(t, h)
	wantGone(t, <-f.started)
}

// A second call waits for the first; one that is canceled while it waits, or
// while its file is made, leaves nothing.
func TestSnapshotsTakeTurns(t *testing.T) {
	f := newFakeSnapshot(t, 1)
	f.hold = make(chan struct{})
	h := start(t, ProfileEtcd, withSnapshot(t, f))
	ctx, cancel := context.WithCancel(testContext(t))
	first := make(chan error, 1)
	go func() {
		_, err := h.snapshot(ctx)
		first <- err
	}()
	dir := <-f.started
	second := make(chan error, 1)
	go func() {
		_, err := h.snapshot(testContext(t))
		second <- err
	}()
	canceled, stop := context.WithCancel(testContext(t))
	stop()
	if _, err := h.snapshot(canceled); status.Code(err) != codes.Canceled {
		t.Fatalf("canceled while it waits: %v", err)
	}
	select {
	case <-f.started:
		t.Fatal("two snapshots are made at once")
	default:
	}
	cancel()
	if err := <-first; status.Code(err) != codes.Canceled {
		t.Fatalf("canceled while the file is made: %v", err)
	}
	<-f.started
	close(f.hold)
	if err := <-second; err != nil {
		t.Fatal(err)
	}
	stopAll(t, h)
	wantGone(t, dir)
}

func TestSnapshotEndsWithTheServer(t *testing.T) {
	f := newFakeSnapshot(t, 1)
	f.hold = make(chan struct{})
	h := start(t, ProfileEtcd, withSnapshot(t, f))
	over := make(chan error, 1)
	go func() {
		_, err := h.snapshot(testContext(t))
		over <- err
	}()
	dir := <-f.started
	stopAll(t, h)
	wantError(t, <-over, rpctypes.ErrGRPCStopped)
	wantGone(t, dir)
}

func TestSnapshotOfACrashIsRemoved(t *testing.T) {
	f := newFakeSnapshot(t, 1)
	var dir string
	h := start(t, ProfileEtcd, withSnapshot(t, f), func(c *Config) {
		dir = filepath.Join(c.SnapshotDir, snapshotFolder)
		if err := os.MkdirAll(filepath.Join(dir, "x"), 0o700); err != nil {
			t.Fatal(err)
		}
	})
	wantGone(t, dir)
	if _, err := h.snapshot(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

func TestSnapshotterNeedsAFolder(t *testing.T) {
	cfg := testConfig(newFakeEngine(), ProfileEtcd)
	cfg.Snapshotter = newFakeSnapshot(t, 0)
	if cfg.Validate() == nil {
		t.Fatal("a Snapshotter without SnapshotDir passes")
	}
}
