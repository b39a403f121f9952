package cluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kinsy/kinsy/test/harness/client"
	"github.com/kinsy/kinsy/test/harness/process"
)

// diskSize is the size of a node's file system in bytes. Its image is sparse.
const diskSize = 512 << 20

// disk is a file system of a node's own, on an image file. It may be made to hang, and to be full.
type disk struct {
	dir string // where it is mounted

	mu     sync.Mutex
	keeper *exec.Cmd // thaws the file system when its input ends; nil while that is not frozen
	hold   io.Closer // that input
}

// noDisks tells once why there are none.
var noDisks sync.Once

// newDisk mounts a file system that goes with the test, or returns nil where that is not possible. It is mounted only where it is
// out of sight of the rest of the system: then the mount ends with the tests, whatever happens to them.
func newDisk(t testing.TB) *disk {
	t.Helper()
	if !lab.separate {
		return nil
	}
	base := t.TempDir()
	d := &disk{dir: filepath.Join(base, "mounted")}
	image := filepath.Join(base, "image")
	err := errors.Join(os.Mkdir(d.dir, 0o700), os.WriteFile(image, nil, 0o600), os.Truncate(image, diskSize),
		run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1", image))
	if err == nil {
		err = run("mount", "-o", "loop,noatime", image, d.dir)
	}
	if err != nil {
		noDisks.Do(func() { t.Logf("no file systems of the nodes' own: %v", err) })
		return nil
	}
	t.Cleanup(func() {
		if err := errors.Join(d.thaw(), unmount(d.dir)); err != nil {
			t.Error(err)
		}
	})
	return d
}

// unmount waits for who still has a hold of the file system: processes that have just been killed.
func unmount(dir string) error {
	return client.Until(2*time.Second, 20*time.Millisecond, func() error {
		if err := syscall.Unmount(dir, 0); err != nil {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
		return nil
	})
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// data is the data folder on the disk.
func (d *disk) data() string { return filepath.Join(d.dir, "data") }

func (d *disk) filler() string { return filepath.Join(d.dir, "filler") }

// freeze has every write to the file system wait, until thaw. A process of its own thaws it when this one ends before: nothing
// that waits for a frozen file system can be killed.
func (d *disk) freeze() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.keeper != nil {
		return nil
	}
	keeper := exec.Command("sh", "-c", `read -r line; exec fsfreeze -u "$0"`, d.dir)
	hold, err := keeper.StdinPipe()
	if err == nil {
		err = keeper.Start()
	}
	if err != nil {
		return fmt.Errorf("start who thaws %s: %w", d.dir, err)
	}
	d.keeper, d.hold = keeper, hold
	return run("fsfreeze", "-f", d.dir)
}

// thaw lets writes go on.
func (d *disk) thaw() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.keeper == nil {
		return nil
	}
	err := errors.Join(d.hold.Close(), d.keeper.Wait())
	d.keeper = nil
	if err != nil {
		return fmt.Errorf("thaw %s: %w", d.dir, err)
	}
	return nil
}

// fill leaves next to no room.
func (d *disk) fill() error {
	for size := uint64(diskSize); size >= 4096; size /= 2 {
		for run("fallocate", "-o", fmt.Sprint(d.filled()), "-l", fmt.Sprint(size), d.filler()) == nil {
		}
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) > 1<<20 {
		return fmt.Errorf("%s has %d blocks left, %w", d.dir, fs.Bavail, err)
	}
	return nil
}

// filled is the size of the filler.
func (d *disk) filled() int64 {
	info, err := os.Stat(d.filler())
	if err != nil {
		return 0
	}
	return info.Size()
}

// empty makes room again.
func (d *disk) empty() error {
	if err := os.Remove(d.filler()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// calmDisks ends what was done to the disks.
func (c *cluster) calmDisks() (err error) {
	for _, d := range c.disks {
		err = errors.Join(err, d.thaw(), d.empty())
	}
	return err
}

func diskHardships() []hardship {
	return []hardship{
		{name: "disk of primary hangs", do: onPrimary((*siege).hangDisk), disk: true},
		{name: "disk of replica hangs", do: onReplica((*siege).hangDisk), disk: true},
		{name: "disk of primary slow", do: onPrimary((*siege).slowDisk), disk: true},
		{name: "disk of replica slow", do: onReplica((*siege).slowDisk), disk: true},
		{name: "disk of primary full", do: onPrimary((*siege).fullDisk), disk: true},
		{name: "disk of replica full", do: onReplica((*siege).fullDisk), disk: true},
		{name: "disk of primary full, killed", do: onPrimary((*siege).fullDiskAndKill), disk: true},
		{name: "disk of replica full, primary killed", do: (*siege).fullReplicaAndKill, disk: true},
	}
}

// hangDisk lets a node's disk hang for longer than every time-out. While it does, the others must serve.
func (s *siege) hangDisk(n *process.Node) error {
	d := s.disks[n]
	if err := d.freeze(); err != nil {
		return err
	}
	if err := s.serves(n); err != nil {
		return err
	}
	if err := s.pause(longStop, longStop+2*time.Second); err != nil {
		return err
	}
	return d.thaw()
}

// slowDisk lets a node's disk hang for moments, again and again.
func (s *siege) slowDisk(n *process.Node) error {
	d := s.disks[n]
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); {
		if err := d.freeze(); err != nil {
			return err
		}
		if err := s.pause(20*time.Millisecond, 100*time.Millisecond); err != nil {
			return err
		}
		if err := d.thaw(); err != nil {
			return err
		}
		if err := s.pause(10*time.Millisecond, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// fullDisk fills a node's disk. While it is full, the others must serve.
func (s *siege) fullDisk(n *process.Node) error {
	d := s.disks[n]
	if err := d.fill(); err != nil {
		return err
	}
	if err := s.pause(2*time.Second, 5*time.Second); err != nil {
		return err
	}
	if err := s.serves(n); err != nil {
		return err
	}
	return d.empty()
}

// fullDiskAndKill kills a node on a full disk, and starts it there. It may end at the start, where it cannot write.
func (s *siege) fullDiskAndKill(n *process.Node) error {
	d := s.disks[n]
	if err := d.fill(); err != nil {
		return err
	}
	if err := s.pause(100*time.Millisecond, 2*time.Second); err != nil {
		return err
	}
	if err := s.restart(n); err != nil {
		return err
	}
	if err := s.pause(time.Second, 3*time.Second); err != nil {
		return err
	}
	if err := d.empty(); err != nil || n.Proc.Running() {
		return err
	}
	s.t.Logf("%s did not start on a full disk: %s", n.Name, n.Proc.Tail())
	return n.Launch()
}

// fullReplicaAndKill fills the disk of a Replica and kills the Primary: the third node is elected.
func (s *siege) fullReplicaAndKill() error {
	p, err := s.awaitPrimary()
	if err != nil {
		return err
	}
	full := s.others(p)[s.rng.IntN(len(s.nodes)-1)]
	if err := s.disks[full].fill(); err != nil {
		return err
	}
	if err := s.pause(time.Second, 2*time.Second); err != nil {
		return err
	}
	if err := s.restart(p); err != nil {
		return err
	}
	if err := s.serves(full); err != nil {
		return err
	}
	return s.disks[full].empty()
}

// serves requires that the nodes other than one take writes soon.
func (s *siege) serves(not *process.Node) error {
	start := time.Now()
	for i, n := range s.nodes {
		if n == not {
			continue
		}
		if err := s.takesWrite(i); err != nil {
			return fmt.Errorf("while the disk of %s is away: %w", not.Name, err)
		}
	}
	s.t.Logf("the others than %s take writes %s later", not.Name, time.Since(start).Round(time.Millisecond))
	return nil
}
