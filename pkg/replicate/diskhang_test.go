package replicate

import (
	"strings"
	"sync"
	"testing"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// hang has appends give no answer until the test lets them, or ends.
func (n *testNode) hang() (release func()) {
	gate := make(chan struct{})
	release = sync.OnceFunc(func() {
		n.log.failAppends(nil)
		close(gate)
	})
	n.w.Cleanup(release)
	n.log.failAppends(func([]sqllog.Row) (bool, error) {
		<-gate
		return false, nil
	})
	return release
}

// TestPrimaryWhoseDiskHangs: another node is elected while it hangs; then it follows.
func TestPrimaryWhoseDiskHangs(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.trio()
	release := a.hang()
	pending := call(func() error {
		_, err := a.tryPut(within(patient), "unknown", "x")
		return err
	})
	w.eventually("a write", func() bool { // one that the old Primary has got waits for its disk
		_, err := b.tryPut(within(10*testSuspicion), "key", "b")
		return err == nil
	})
	if p := w.primary(a); c.get("key") != "b" {
		t.Errorf("%s leads", p.name)
	}
	w.eventually("the reason in the status", func() bool {
		s := a.m.Status()
		return !s.Healthy && strings.Contains(strings.Join(s.Errors, ";"), "disk has not answered")
	})
	release()
	if err := <-pending; err == nil {
		t.Error("the old Primary has acknowledged a write")
	}
	a.put("key", "a")
	w.same(a, b, c)
	w.eventually("health", func() bool { return a.m.Status().Healthy })
}

// TestAllDisksHang: nobody has taken the rows, so that nobody is elected, and they are
// committed when the disks answer.
func TestAllDisksHang(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.trio()
	before := w.cluster().Epoch
	var releases []func()
	for _, n := range w.nodes {
		releases = append(releases, n.hang())
	}
	pending := call(func() error {
		_, err := b.tryPut(within(patient), "key", "x")
		return err
	})
	w.eventually("a disk that hangs", func() bool { return a.m.hangs() && b.m.hangs() && c.m.hangs() })
	w.elapse(5)
	stillWaits(t, "the write", pending)
	for _, release := range releases {
		release()
	}
	want(t, "the write", <-pending, nil)
	if e := w.cluster().Epoch; e != before {
		t.Errorf("%d elections were held", e-before)
	}
	w.same(a, b, c)
}

// TestReplicaWhoseDiskHangs: it does not count, and says why, until the disk answers.
func TestReplicaWhoseDiskHangs(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.trio()
	release := c.hang()
	a.put("key", "1")
	w.eventually("a Primary that does not count on it", func() bool { return !a.m.healthy(c.id) })
	if s := c.m.Status(); s.Healthy || !strings.Contains(strings.Join(s.Errors, ";"), "disk has not answered") {
		t.Errorf("status is %+v", s)
	}
	if a.put("key", "2"); b.get("key") != "2" {
		t.Error("reads are stale")
	}
	release()
	w.same(a, b, c)
	w.eventually("health", func() bool { return c.m.Status().Healthy && a.m.healthy(c.id) })
}
