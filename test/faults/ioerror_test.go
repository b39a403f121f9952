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
	for _, api := range []string{profileNetsy, profileEtcd} {
		t.Run(api, func(t *testing.T) {
			p := newPatient(t, t.TempDir(), api)
			p.writeUntil(t, "first", func() error { return limitFiles(p.proc.pid(), true) }, rpctypes.ErrUnhealthy)
			p.requireRefusing(t, rpctypes.ErrUnhealthy, pb.AlarmType_CORRUPT)
			ok(t, limitFiles(p.proc.pid(), false))
			p.requireRecovered(t)
		})
	}
}

// TestImmutableFilesAreRefusedAndReadsServed makes the files of the log immutable for a while.
func TestImmutableFilesAreRefusedAndReadsServed(t *testing.T) {
	d := ext4(t, 64)
	p := newPatient(t, d.data(), profileEtcd)
	set := func(on bool) error {
		return errors.Join(setImmutable(p.database()+"-wal", on), setImmutable(p.database(), on))
	}
	p.writeUntil(t, "first", func() error { return set(true) }, rpctypes.ErrUnhealthy)
	p.requireRefusing(t, rpctypes.ErrUnhealthy, pb.AlarmType_CORRUPT)
	ok(t, set(false))
	p.requireRecovered(t)
}

// TestDeadDiskIsReportedAndLosesNothing takes the disk away for good under writers. The process stays and says what is
// wrong; another one on the same disk, once that is back, has every acknowledged write.
func TestDeadDiskIsReportedAndLosesNothing(t *testing.T) {
	d := ext4(t, 64)
	p := newPatient(t, d.data(), profileEtcd)
	cut := func() error { return errors.Join(p.proc.freeze(), d.cut(), p.proc.thaw()) }
	p.writeUntil(t, "first", cut, rpctypes.ErrUnhealthy)
	if err := p.try(); !errors.Is(err, rpctypes.ErrUnhealthy) {
		t.Errorf("write ended with %v", err)
	}
	p.requireStatus(t, http.StatusServiceUnavailable, "false", 0, pb.AlarmType_CORRUPT)
	requireNoPanic(t, p.proc)
	p.proc.kill()
	ok(t, d.again())
	ok(t, p.start())
	p.requireRecovered(t)
}

// TestDeletedWriteAheadLogIsMovedIntoTheDatabaseAtTheEnd deletes the write-ahead log of a store that runs. An orderly end
// must still bring all of it into the database.
func TestDeletedWriteAheadLogIsMovedIntoTheDatabaseAtTheEnd(t *testing.T) {
	p := newPatient(t, t.TempDir(), profileEtcd)
	s := newSquad("deleted", 16, p.clients(t, 4), *flagSeed, true)
	s.start(t.Context(), 500)
	ok(t, s.await())
	ok(t, os.Remove(p.database()+"-wal"))
	p.take(s.end(1))
	ok(t, s.fault())
	p.examine(t)
	_, err := p.proc.terminate()
	ok(t, err)
	requireNoPanic(t, p.proc)
	ok(t, p.start())
	p.requireRecovered(t)
}
