package replicate

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer"
)

// disk is a copy of the log of a node that does not run.
type disk map[string][]byte

func (n *testNode) copyDisk() disk {
	n.w.Helper()
	d := disk{}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		body, err := os.ReadFile(n.path + suffix)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			n.w.Fatal(err)
		}
		d[suffix] = body
	}
	return d
}

// bringBack puts a copy in the place of the log.
func (n *testNode) bringBack(d disk) {
	n.w.Helper()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(n.path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			n.w.Fatal(err)
		}
		if body, ok := d[suffix]; ok {
			if err := os.WriteFile(n.path+suffix, body, 0o600); err != nil {
				n.w.Fatal(err)
			}
		}
	}
}

// TestDiskBroughtBackInItsEpoch: from a copy that lacks rows for which the disk gave
// receipts to the Primary of now. The node ends, and says why; the rows that counted on
// it go up at once; with an empty disk it joins.
func TestDiskBroughtBackInItsEpoch(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.trio()
	a.put("key", "old")
	w.same(a, b, c)
	c.stop()
	old := c.copyDisk()
	c.start()
	c.awaitFollow(a)
	epoch := w.cluster().Epoch
	for i := range 20 {
		a.put("key", fmt.Sprint(i))
	}
	w.eventually("its receipts", func() bool {
		held, _, ok := a.m.followers.held(c.id)
		return ok && held == a.log.Head().ID
	})
	c.stop()
	c.bringBack(old)
	c.start()
	select {
	case err := <-c.fatal:
		want(t, "the node with the old disk", err, ErrOldDisk)
	case <-within(patient).Done():
		t.Fatal("the node with the old disk goes on")
	}
	if !w.logged("a replica has lost rows that it had on its disk") {
		t.Error("the primary does not say it")
	}
	w.eventually("the upload of what counted on it", func() bool { return a.archive.Uploaded() >= a.log.Head().ID })
	if now := w.cluster().Epoch; now != epoch {
		t.Errorf("epoch %d follows %d", now, epoch)
	}
	c.stop()
	w.gone.Store(c.id, true)
	d := w.add("c again")
	w.voters(a, b, d)
	if got := d.get("key"); got != "19" {
		t.Errorf("read %q", got)
	}
}

// TestReplicaMayOpenFromItsReceipt, or from a later row, again and again: a crash loses
// nothing that a receipt was given for. One row less is refused.
func TestReplicaMayOpenFromItsReceipt(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.trio()
	for i := range 5 {
		a.put("key", fmt.Sprint(i))
		c.stop()
		c.start()
		c.awaitFollow(a)
		w.same(a, b, c)
	}
	held, _, ok := a.m.followers.held(c.id)
	if !ok || held < 1 {
		t.Fatalf("receipt of row %d, %v", held, ok)
	}
	c.stop()
	open := peer.FollowOpen{Promised: w.cluster().Epoch, Last: elect.Position{ID: held - 1, Epoch: historyOf(a.index.Epochs()).EpochAt(held - 1)}}
	again := w.net.endpoint(c.id)
	defer again.cancel()
	s, err := again.Follow(within(patient), a.id, open)
	if status.Code(err) != codes.DataLoss {
		t.Errorf("one row less: %v", err)
	}
	if err == nil {
		s.Close()
	}
	c.start()
	c.awaitFollow(a)
	w.same(a, b, c)
}
