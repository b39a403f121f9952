package replicate

import (
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// ttlOf is what is left of a lease, in seconds, as a node says.
func (n *testNode) ttlOf(id int64) int64 {
	n.w.Helper()
	resp, err := n.m.LeaseTimeToLive(within(patient), &pb.LeaseTimeToLiveRequest{ID: id})
	if err != nil {
		n.w.Fatalf("lease at %s: %v", n.name, err)
	}
	return resp.TTL
}

// writtenWithin is the time between the oldest and the newest row, by the wall clocks of
// those who wrote them.
func (n *testNode) writtenWithin() time.Duration {
	var oldest, newest int64
	err := n.log.Scan(ctx, 0, n.log.Head().ID, func(r *sqllog.Row) error {
		if oldest == 0 {
			oldest, newest = r.WrittenAt, r.WrittenAt
		}
		oldest, newest = min(oldest, r.WrittenAt), max(newest, r.WrittenAt)
		return nil
	})
	if err != nil {
		n.w.Fatal(err)
	}
	return time.Duration(newest-oldest) * time.Millisecond
}

// TestWallClocksThatJump: those of the Primary and of Replicas, an hour forward and back,
// and over elections. Nobody is elected for it, leases neither end nor last longer, and
// clients are served as ever.
func TestWallClocksThatJump(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.trio()
	const ttl = 600 // seconds; less than the clocks jump, more than the test takes
	if _, err := b.m.LeaseGrant(within(patient), &pb.LeaseGrantRequest{ID: 5, TTL: ttl}); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	check := func(when string, nodes ...*testNode) {
		t.Helper()
		for _, n := range nodes {
			n.put("key", n.name+when)
			if got := n.get("key"); got != n.name+when {
				t.Errorf("%s: %s reads %q", when, n.name, got)
			}
			if left, least := n.ttlOf(5), ttl-int64(time.Since(started)/time.Second)-2; left > ttl || left < least {
				t.Errorf("%s: %s says that the lease has %d s left, want %d to %d", when, n.name, left, least, ttl)
			}
		}
	}
	epoch := w.cluster().Epoch
	for _, n := range []*testNode{a, b, c} {
		for _, by := range []time.Duration{time.Hour, -time.Hour, 0} {
			n.wall.Set(by)
			check("the clock of "+n.name+" jumps", a, b, c)
		}
	}
	if now := w.cluster(); now.Epoch != epoch || len(now.Members) != 3 {
		t.Errorf("the clocks led to epoch %d, from %d, and voters %v", now.Epoch, epoch, now.Members)
	}
	b.wall.Set(time.Hour)
	c.wall.Set(-time.Hour)
	a.stop()
	p := w.primary(a)
	started = time.Now().Add(-time.Second)
	check("after an election", b, c)
	p.wall.Set(-p.wall.Off())
	check("after a jump of the next primary", b, c)
	a.start()
	p.stop()
	w.primary(p)
	for _, n := range w.nodes {
		if n.running {
			check("after another election", n)
		}
	}
	if span := a.writtenWithin(); span < time.Hour {
		t.Errorf("the rows are written within %s: no clock has jumped", span)
	}
}
