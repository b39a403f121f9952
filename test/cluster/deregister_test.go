package cluster

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kinsy/kinsy/test/harness/client"
	"github.com/kinsy/kinsy/test/harness/process"
)

// goneFor is what --deregister-after is in these tests.
const goneFor = 3 * time.Second

// voters says whether the Primary counts so many votes.
func (c *cluster) voters(want int) error {
	p, err := c.primary()
	if err != nil {
		return err
	}
	is, err := c.metric(p, "kinsy_voters")
	if err == nil && int(is) != want {
		err = fmt.Errorf("%s counts %v voters, want %d", p.Name, is, want)
	}
	return err
}

// awaitVoters returns once there are so many.
func (c *cluster) awaitVoters(want int) error {
	return client.Until(goneFor+settleLimit, 10*time.Millisecond, func() error { return c.voters(want) })
}

// keepsVoters returns an error if there are not so many all the time, of which a node without a Primary says nothing.
func (c *cluster) keepsVoters(want int, d time.Duration) error {
	for end := time.Now().Add(d); time.Now().Before(end); {
		p, err := c.primary()
		if err == nil {
			var is float64
			if is, err = c.metric(p, "kinsy_voters"); err == nil && int(is) != want {
				return fmt.Errorf("%s counts %v voters, want %d", p.Name, is, want)
			}
		}
		if err := client.Wait(c.t.Context(), 50*time.Millisecond); err != nil {
			return err
		}
	}
	return c.voters(want)
}

// listed are the ids of the members by name, as a node that runs tells.
func (c *cluster) listed(at *process.Node) map[string]uint64 {
	c.t.Helper()
	ctx, cancel := client.Within(c.t.Context())
	defer cancel()
	resp, err := at.Client(c.t).MemberList(ctx)
	ok(c.t, err)
	ids := map[string]uint64{}
	for _, m := range resp.Members {
		ids[m.Name] = m.ID
	}
	return ids
}

// aReplica is a node that is not Primary.
func (c *cluster) aReplica() *process.Node {
	c.t.Helper()
	p, err := c.awaitPrimary()
	ok(c.t, err)
	return c.others(p)[0]
}

// dumped adds what the nodes have written to an error.
func (c *cluster) dumped(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("%v\n%s", err, c.dump(c.t))
	}
}

// TestDeregistration: a node that is gone for longer than --deregister-after loses its vote and its place in the list of
// members, not before; when it comes back, killed or frozen, it votes again by itself, with the member id that it had.
func TestDeregistration(t *testing.T) {
	c := newCluster(t, "--deregister-after", goneFor.String())
	c.dumped(c.start())
	for name, gone := range map[string]struct{ goes, comes func(*process.Node) error }{
		"killed": {func(n *process.Node) error { n.Proc.Kill(); return nil }, (*process.Node).Launch},
		"frozen": {c.freeze, c.thaw},
	} {
		n := c.aReplica()
		other := slices.DeleteFunc(slices.Clone(c.nodes), func(o *process.Node) bool { return o == n })[0]
		before := c.listed(other)
		ok(t, gone.goes(n))
		c.dumped(c.keepsVoters(3, goneFor-500*time.Millisecond))
		c.dumped(c.awaitVoters(2))
		c.dumped(client.Until(settleLimit, 100*time.Millisecond, func() error {
			if ids := c.listed(other); len(ids) != 2 || ids[n.Name] != 0 {
				return fmt.Errorf("members are %v after %s was gone for long", ids, n.Name)
			}
			return nil
		}))
		ok(t, c.writable(other, settleLimit))
		ok(t, gone.comes(n))
		if err := c.settled(2 * settleLimit); err != nil {
			t.Fatalf("%s does not vote again: %v\n%s", name, err, c.dump(t))
		}
		c.dumped(client.Until(settleLimit, 100*time.Millisecond, func() error {
			if after := c.listed(other); fmt.Sprint(after) != fmt.Sprint(before) {
				return fmt.Errorf("members are %v, and were %v", after, before)
			}
			return nil
		}))
	}
	c.requireUse()
}

// TestDeregistrationThatIsNotSafe: of three voters two are gone for long. Both keep their votes, until one of them is back:
// then the other one loses its.
func TestDeregistrationThatIsNotSafe(t *testing.T) {
	c := newCluster(t, "--deregister-after", goneFor.String())
	c.dumped(c.start())
	p, err := c.awaitPrimary()
	ok(t, err)
	gone := c.others(p)
	for _, n := range gone {
		n.Proc.Kill()
	}
	ok(t, c.writable(p, settleLimit)) // by object storage
	c.dumped(c.keepsVoters(3, 2*goneFor))
	ok(t, gone[0].Launch())
	c.dumped(c.awaitVoters(2))
	ok(t, gone[1].Launch())
	c.dumped(c.settled(2 * settleLimit))
	c.requireUse()
}

// TestNoDeregistration: with --deregister-after 0 a node that is gone keeps its vote.
func TestNoDeregistration(t *testing.T) {
	c := newCluster(t, "--deregister-after", "0")
	c.dumped(c.start())
	n := c.aReplica()
	n.Proc.Kill()
	c.dumped(c.keepsVoters(3, 2*goneFor))
	if at := c.others(n)[0]; len(c.listed(at)) != 3 {
		t.Errorf("members are %v", c.listed(at))
	}
	ok(t, n.Launch())
	c.dumped(c.settled(settleLimit))
}
