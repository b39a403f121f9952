package replicate

import (
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/peer"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// TestClusterGrowsWhileItServes: the first node alone is a working cluster, others
// join it; every node takes writes, shows them at once, and reads what others were
// told.
func TestClusterGrowsWhileItServes(t *testing.T) {
	w := newWorld(t)
	a := w.add("a").awaitLead()
	a.put("alone", "1")
	b := w.add("b")
	w.voters(a, b)
	a.put("two", "2")
	c := w.add("c")
	w.voters(a, b, c)
	nodes := []*testNode{a, b, c}
	for i := range 30 {
		writer, reader := nodes[i%3], nodes[(i/3)%3]
		value := fmt.Sprint(i)
		writer.put("key", value)
		if got := writer.local("key"); got != value {
			t.Fatalf("node %s shows %q after its client wrote %q", writer.name, got, value)
		}
		if got := reader.get("key"); got != value {
			t.Fatalf("node %s reads %q after %q was acknowledged at %s", reader.name, got, value, writer.name)
		}
	}
	w.same(a, b, c)
	for _, n := range nodes {
		if n.get("alone") != "1" || n.get("two") != "2" {
			t.Errorf("node %s lacks what was written before it joined", n.name)
		}
	}
}

// TestPrimaryVanishes: the others elect another Primary, nothing acknowledged is lost,
// and the old one follows when it is back.
func TestPrimaryVanishes(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.trio()
	for i := range 10 {
		[]*testNode{a, b, c}[i%3].put(fmt.Sprint("before", i), "x")
	}
	a.stop()
	p := w.primary(a)
	b.put("after", "b")
	c.put("after too", "c")
	for i := range 10 {
		if p.get(fmt.Sprint("before", i)) != "x" {
			t.Fatalf("write %d was acknowledged and is lost", i)
		}
	}
	a.start()
	a.awaitFollow(w.primary(a))
	if a.get("after") != "b" || a.get("after too") != "c" {
		t.Error("the node that came back reads stale")
	}
	w.same(a, b, c)
}

// TestRestartShowsNothingUnheard: rows of the log that were not recorded as committed
// are not shown before a Primary has said that they are.
func TestRestartShowsNothingUnheard(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.trio()
	a.put("key", "value")
	w.same(a, b, c)
	c.stop()
	w.isolate(c, true)
	c.start()
	if log, shown := c.log.Head().ID, c.index.Head().ID; shown >= log {
		t.Fatalf("row %d of %d is shown", shown, log)
	}
	if _, err := c.tryGet(within(3*testSuspicion), "key"); err == nil {
		t.Error("a node that hears nobody answers a linearizable read")
	}
	if got := c.local("key"); got != "" {
		t.Errorf("a restart shows %q", got)
	}
	w.isolate(c, false)
	if got := c.get("key"); got != "value" {
		t.Errorf("after it heard: %q", got)
	}
	w.same(a, b, c)
}

// TestHigherPromise: a Primary that a voter cannot follow holds an election.
func TestHigherPromise(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.trio()
	c.stop()
	log, err := sqllog.Open(ctx, sqllog.Config{Path: c.path, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	high := log.Promised() + 3
	if _, err := log.Promise(high); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	c.start()
	w.eventually("an epoch that all can follow", func() bool { return w.cluster().Epoch >= high })
	p := w.primary()
	for _, n := range []*testNode{a, b, c} {
		n.put("key", n.name)
		if n != p {
			n.awaitFollow(p)
		}
	}
	w.same(a, b, c)
}

// TestFollowRefused: by a node that is not Primary, and by one of a lower epoch than is
// promised, which then holds an election.
func TestFollowRefused(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.trio()
	before := w.cluster().Epoch
	s := &stream{net: w.net, replica: b.id, primary: c.id, open: peer.FollowOpen{Promised: before}}
	if err := c.m.Follow(ctx, streamSource{s}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a Replica serves rows: %v", err)
	}
	s = &stream{net: w.net, replica: b.id, primary: a.id, open: peer.FollowOpen{Promised: before + 1}}
	if err := a.m.Follow(ctx, streamSource{s}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a Primary serves one that has promised a higher epoch: %v", err)
	}
	w.eventually("an election", func() bool { return w.cluster().Epoch > before })
	a.put("key", "value")
	w.same(a, b, c)
}

// TestVoterThatIsGone is taken away after a time, and comes back as one that joins.
func TestVoterThatIsGone(t *testing.T) {
	w := newWorld(t)
	w.setup = func(c *MemberConfig) { c.DeregisterAfter = 3 * testSuspicion }
	a, b, c := w.trio()
	c.stop()
	w.voters(a, b)
	a.put("key", "value")
	c.start()
	w.voters(a, b, c)
	if got := c.get("key"); got != "value" {
		t.Errorf("the node that came back has %q", got)
	}
}

// TestLostDisk: a node with a new disk is another voter, and the old one is taken away.
func TestLostDisk(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.trio()
	a.put("key", "value")
	c.stop()
	w.gone.Store(c.id, true)
	d := w.add("c again")
	w.voters(a, b, d)
	if got := d.get("key"); got != "value" {
		t.Errorf("the new disk has %q", got)
	}
	a.stop()
	w.primary(a)
	if got := d.get("key"); got != "value" {
		t.Errorf("the new disk has %q after an election", got)
	}
	w.same(b, d)
}

// TestCompaction: every node removes the rows, whoever was asked.
func TestCompaction(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.trio()
	var rev int64
	for i := range 50 {
		rev = a.put("key", fmt.Sprint(i))
	}
	w.same(a, b, c)
	most := c.index.Rows()
	if _, err := b.m.Compact(within(patient), rev, true); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*testNode{a, b, c} {
		w.eventually("removal at "+n.name, func() bool { return n.index.Rows() <= most-49+1 })
		if n.get("key") != "49" {
			t.Errorf("node %s lost the newest value", n.name)
		}
	}
	w.same(a, b, c)
	c.stop() // a restart reads what was kept
	c.start()
	w.same(a, b, c)
}

// TestLeases are the Primary's, and outlive it.
func TestLeases(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.trio()
	limit := within(patient)
	if _, err := b.m.LeaseGrant(limit, &pb.LeaseGrantRequest{ID: 5, TTL: 600}); err != nil {
		t.Fatal(err)
	}
	leased := &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{
		RequestPut: &pb.PutRequest{Key: []byte("leased"), Value: []byte("x"), Lease: 5},
	}}}}
	if _, err := c.m.Txn(limit, leased); err != nil {
		t.Fatal(err)
	}
	if ttl, err := c.m.LeaseKeepAlive(limit, 5); err != nil || ttl != 600 {
		t.Errorf("keep-alive: %d, %v", ttl, err)
	}
	_, err := c.m.LeaseKeepAlive(limit, 6)
	want(t, "keep-alive of none", err, mvcc.ErrLeaseNotFound)
	a.stop()
	w.primary(a)
	left, err := b.m.LeaseTimeToLive(limit, &pb.LeaseTimeToLiveRequest{ID: 5, Keys: true})
	if err != nil || left.GrantedTTL != 600 || len(left.Keys) != 1 {
		t.Errorf("after the election: %v, %v", left, err)
	}
	if _, err := c.m.LeaseRevoke(limit, &pb.LeaseRevokeRequest{ID: 5}); err != nil {
		t.Fatal(err)
	}
	if got := b.get("leased"); got != "" {
		t.Errorf("the key of a revoked lease is %q", got)
	}
	if _, err := b.m.LeaseGrant(limit, &pb.LeaseGrantRequest{ID: 7, TTL: 1}); err != nil {
		t.Fatal(err)
	}
	w.eventually("the end of a lease", func() bool {
		all, err := c.m.LeaseLeases(limit)
		return err == nil && len(all.Leases) == 0
	})
}

// TestVotersAreLookedUp: the Primary is lost before the others know that the row is
// committed that makes one of them a voter.
func TestVotersAreLookedUp(t *testing.T) {
	w := newWorld(t)
	a := w.add("a").awaitLead()
	b := w.add("b")
	w.voters(a, b)
	c := w.add("c")
	w.eventually("a third voter", func() bool { return len(w.cluster().Members) == 3 && !w.cluster().Changing })
	a.stop()
	for _, n := range []*testNode{b, c} { // as if they had not heard of it
		n.m.control.do(func(core *elect.Core, _ time.Duration) {
			cl := core.Cluster()
			cl.Members = []elect.NodeID{a.id, b.id}
			core.SetMembers(cl)
		})
	}
	w.primary(a)
	b.put("key", "value")
	if got := c.get("key"); got != "value" {
		t.Errorf("read %q", got)
	}
}
