package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kinsy/kinsy/test/harness/client"
	"github.com/kinsy/kinsy/test/harness/process"
)

// ends returns when a node that must not take part has ended by itself, and says why.
func ends(n *process.Node, why ...string) error {
	code, err := n.Proc.Exit(process.StartLimit)
	if err != nil {
		return fmt.Errorf("%s goes on: %w", n.Name, err)
	}
	for _, text := range why {
		if out := n.Proc.Output(); code == 0 || !strings.Contains(out, text) {
			return fmt.Errorf("%s has ended with code %d without saying %q\n%s", n.Name, code, text, n.Proc.Tail())
		}
	}
	return nil
}

// twin is another process with a copy of a node's disk, at addresses of its own. The node must not run.
func (c *cluster) twin(n *process.Node) (*process.Node, error) {
	it := process.NewNode(c.t, process.Config{Binary: lab.wrappers[c.index(n)], Name: n.Name + "-twin"})
	peers := process.FreeAddress(c.t)
	if lab.separate {
		host := c.host(n)
		it.Addr, it.Metrics, peers = host+":3379", host+":3381", host+":3380"
	}
	it.Flags = slices.Clone(n.Flags)
	i := slices.Index(it.Flags, "--peer-listen-address")
	if i < 0 {
		return nil, errors.New("no peer address: the test is wrong")
	}
	it.Flags[i+1] = peers
	return it, copyFolder(n.Dir, it.Dir)
}

// copyFolder copies the files of a data folder of which no process runs.
func copyFolder(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	return os.CopyFS(to, os.DirFS(from))
}

// TestCopiesOfADisk: of two processes with copies of one disk only one takes part, whether the other is started while it
// runs or at the same time, and the other says why. The cluster goes on.
func TestCopiesOfADisk(t *testing.T) {
	c := newCluster(t)
	c.dumped(c.start())
	n := c.aReplica()
	n.Proc.Kill()
	twin, err := c.twin(n)
	ok(t, err)
	ok(t, n.Start())
	ok(t, twin.Launch())
	c.dumped(ends(twin, "another process is this node", "has the same disk"))
	c.dumped(c.settled(settleLimit))

	n.Proc.Kill()
	ok(t, n.Launch())
	ok(t, twin.Launch())
	c.dumped(client.Until(process.StartLimit, 10*time.Millisecond, func() error {
		if n.Proc.Running() && twin.Proc.Running() {
			return errors.New("both run")
		}
		return nil
	}))
	if !n.Proc.Running() {
		n, twin = twin, n
	}
	c.dumped(ends(twin, "another process is this node", "has the same disk"))
	c.dumped(n.AwaitReady(settleLimit))
	ok(t, c.writable(n, settleLimit))
}

// TestDiskFromAnOldCopy: that node does not start, and says what to do; with an empty disk it does.
func TestDiskFromAnOldCopy(t *testing.T) {
	c := newCluster(t)
	c.dumped(c.start())
	n := c.aReplica()
	n.Proc.Kill()
	old, err := c.twin(n)
	ok(t, err)
	for range 2 {
		ok(t, n.Start())
		c.dumped(c.settled(settleLimit))
		for range 10 { // a start does not know of the newest row that it is committed
			ok(t, c.writable(n, settleLimit))
		}
		n.Proc.Kill()
	}
	ok(t, n.Wipe())
	ok(t, copyFolder(old.Dir, n.Dir))
	ok(t, n.Launch())
	c.dumped(ends(n, "the log is an old copy", "delete it"))
	ok(t, n.Wipe())
	ok(t, n.Launch())
	c.dumped(c.settled(settleLimit))
	c.requireUse()
}
