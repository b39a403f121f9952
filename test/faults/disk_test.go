package faults

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// disk is a file system of the test's own.
type disk struct {
	dir   string // where it is mounted
	image string // file that holds it; empty for one in memory
}

// tmpfs mounts a file system in memory. The test is skipped where that is not permitted.
func tmpfs(t *testing.T, size string) *disk {
	t.Helper()
	d := &disk{dir: t.TempDir()}
	if err := unix.Mount("tmpfs", d.dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("no file system of limited size can be mounted here: %v", err)
	}
	t.Cleanup(func() { d.unmount(t) })
	return d
}

// ext4 mounts a file system on an image file. The test is skipped where that is not permitted.
func ext4(t *testing.T, megabytes int64) *disk {
	t.Helper()
	base := t.TempDir()
	d := &disk{dir: filepath.Join(base, "mounted"), image: filepath.Join(base, "image")}
	ok(t, os.Mkdir(d.dir, 0o700))
	ok(t, os.WriteFile(d.image, nil, 0o600))
	ok(t, os.Truncate(d.image, megabytes<<20))
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", d.image).CombinedOutput(); err != nil {
		t.Skipf("no ext4 file system can be made here: %v %s", err, out)
	}
	if err := d.mount(); err != nil {
		t.Skipf("no image can be mounted here: %v", err)
	}
	t.Cleanup(func() { d.unmount(t) })
	return d
}

func (d *disk) mount() error {
	if out, err := exec.Command("mount", "-o", "loop", d.image, d.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("mount: %w %s", err, out)
	}
	return nil
}

func (d *disk) unmount(t *testing.T) {
	t.Helper()
	if err := unix.Unmount(d.dir, 0); err != nil {
		t.Errorf("unmount %s: %v", d.dir, err)
	}
}

// data is the data folder on the disk.
func (d *disk) data() string { return filepath.Join(d.dir, "data") }

func (d *disk) ballast() string { return filepath.Join(d.dir, "ballast") }

// fill leaves no byte free.
func (d *disk) fill() error {
	f, err := os.OpenFile(d.ballast(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for size := 1 << 16; size > 0; {
		if _, err := f.Write(bytes.Repeat([]byte{1}, size)); err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				return err
			}
			size /= 2
		}
	}
	return nil
}

func (d *disk) free() error { return os.Remove(d.ballast()) }

const (
	ioctlShutdown    = 0x8004587d // EXT4_IOC_SHUTDOWN
	shutdownNoFlush  = 2          // nothing more reaches the disk, not even the file system's own log
	flagImmutable    = 0x10       // FS_IMMUTABLE_FL
	ioctlGetFileFlag = 0x80086601 // FS_IOC_GETFLAGS
	ioctlSetFileFlag = 0x40086602 // FS_IOC_SETFLAGS
)

// cut takes the disk away as a power failure does: what was not synced is lost, and every access fails. The process that
// uses it must be frozen: ext4 tells an fsync that meets the cut half-way that it has succeeded.
func (d *disk) cut() error {
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	how := uint32(shutdownNoFlush)
	return ioctl(f, ioctlShutdown, unsafe.Pointer(&how))
}

// again mounts the disk anew, as it was when it was cut.
func (d *disk) again() error {
	if err := unix.Unmount(d.dir, 0); err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	return d.mount()
}

// setImmutable makes every write to a file fail, or takes that back.
func setImmutable(path string, on bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var flags int64
	if err := ioctl(f, ioctlGetFileFlag, unsafe.Pointer(&flags)); err != nil {
		return err
	}
	if flags &^= flagImmutable; on {
		flags |= flagImmutable
	}
	return ioctl(f, ioctlSetFileFlag, unsafe.Pointer(&flags))
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	if _, _, code := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg)); code != 0 {
		return os.NewSyscallError("ioctl", code)
	}
	return nil
}
