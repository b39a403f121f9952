package faults

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"golang.org/x/sys/unix"

	"github.com/kinsy/kinsy/test/harness/process"
)

// limitFiles makes every write beyond the first byte of a file fail for a process, or takes that back. It needs no
// privilege and no file system of its own.
func limitFiles(pid int, on bool) error {
	limit := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if on {
		limit.Cur = 1
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &limit, nil); err != nil {
		return fmt.Errorf("limit file size: %w", err)
	}
	return nil
}

// TestFailingWritesAreRefusedAndReadsServed has the operating system refuse every write to a file for a while.
func TestFailingWritesAreRefusedAndReadsServed(t *testing.T) {
	t.Parallel()
	for _, api := range []string{process.ProfileNetsy, process.ProfileEtcd} {
		t.Run(api, func(t *testing.T) {
			p := newPatient(t, t.TempDir(), api)
			p.writeUntil(t, "first", func() error { return limitFiles(p.Proc.PID(), true) }, rpctypes.ErrUnhealthy)
			p.requireRefusing(t, rpctypes.ErrUnhealthy, pb.AlarmType_CORRUPT)
			ok(t, limitFiles(p.Proc.PID(), false))
			p.requireRecovered(t)
		})
	}
}

// TestImmutableFilesAreRefusedAndReadsServed makes the files of the log immutable for a while.
func TestImmutableFilesAreRefusedAndReadsServed(t *testing.T) {
	t.Parallel()
	d := ext4(t, 64)
	p := newPatient(t, d.data(), process.ProfileEtcd)
	set := func(on bool) error {
		return errors.Join(setImmutable(p.Database()+"-wal", on), setImmutable(p.Database(), on))
	}
	p.writeUntil(t, "first", func() error { return set(true) }, rpctypes.ErrUnhealthy)
	p.requireRefusing(t, rpctypes.ErrUnhealthy, pb.AlarmType_CORRUPT)
	ok(t, set(false))
	p.requireRecovered(t)
}

// TestDeadDiskIsReportedAndLosesNothing takes the disk away for good under writers. The process stays and says what is
// wrong; another one on the same disk, once that is back, has every acknowledged write.
func TestDeadDiskIsReportedAndLosesNothing(t *testing.T) {
	t.Parallel()
	d := ext4(t, 64)
	p := newPatient(t, d.data(), process.ProfileEtcd)
	cut := func() error { return errors.Join(p.Proc.Freeze(), d.cut(), p.Proc.Thaw()) }
	p.writeUntil(t, "first", cut, rpctypes.ErrUnhealthy)
	if err := p.try(); !errors.Is(err, rpctypes.ErrUnhealthy) {
		t.Errorf("write ended with %v", err)
	}
	p.requireStatus(t, http.StatusServiceUnavailable, "false", 0, pb.AlarmType_CORRUPT)
	process.RequireNoPanic(t, p.Proc)
	p.Proc.Kill()
	ok(t, d.again())
	ok(t, p.Start())
	p.requireRecovered(t)
}

// TestDeletedWriteAheadLogIsMovedIntoTheDatabaseAtTheEnd deletes the write-ahead log of a store that runs. An orderly end
// must still bring all of it into the database.
func TestDeletedWriteAheadLogIsMovedIntoTheDatabaseAtTheEnd(t *testing.T) {
	t.Parallel()
	p := newPatient(t, t.TempDir(), process.ProfileEtcd)
	s := newSquad("deleted", 16, p.Clients(t, 4), *flagSeed, true)
	s.Start(t.Context())
	ok(t, s.Await(t.Context(), 500))
	ok(t, os.Remove(p.Database()+"-wal"))
	p.take(s.End(1))
	ok(t, s.Err())
	p.examine(t)
	_, err := p.Proc.Terminate(stopLimit)
	ok(t, err)
	process.RequireNoPanic(t, p.Proc)
	ok(t, p.Start())
	p.requireRecovered(t)
}
