package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/client"
	"github.com/kinsy/kinsy/test/harness/history"
	"github.com/kinsy/kinsy/test/harness/ledger"
	"github.com/kinsy/kinsy/test/harness/load"
	"github.com/kinsy/kinsy/test/harness/process"
	"github.com/kinsy/kinsy/test/harness/registers"
)

const (
	siegeWriters   = 9
	siegeRegisters = 9
)

// siege is a cluster under load to which something happens.
type siege struct {
	*cluster
	t        *testing.T
	rng      *rand.Rand
	probes   []*clientv3.Client // one for each node
	squad    *ledger.Squad
	crowd    *registers.Crowd
	leases   load.Load
	holders  []*holder
	watches  []*history.Follower
	watched  []error
	watching sync.WaitGroup
	unwatch  context.CancelFunc
	counts   map[string]int
	longest  time.Duration // until all was well again
	lately   time.Duration // the same for the last hardship
}

// hardship is something that happens to a cluster; it is over when do returns but for what heal does.
type hardship struct {
	name string
	do   func(s *siege) error
	disk bool // it needs file systems of the nodes' own
}

// TestFaultsForMinutes lets clients work at every node of a cluster while its nodes are killed, stopped, cut off and lose their
// disks. Nothing acknowledged may be lost, no read may be stale, no watch may miss or repeat anything, and all must be well again
// once the faults stop.
func TestFaultsForMinutes(t *testing.T) {
	minutes := number(envMinutes, 1)
	t.Run("majority", func(t *testing.T) { lastFor(t, minutes*3/5) })
	t.Run("two", func(t *testing.T) { lastFor(t, minutes/5, "--quorum", "1") })
	t.Run("object store", func(t *testing.T) { lastFor(t, minutes/5, "--quorum", "0") })
}

// lastFor besieges a cluster for some minutes.
func lastFor(t *testing.T, minutes float64, flags ...string) {
	s := newSiege(t, flags...)
	deeds := s.chosen(hardships())
	for i, end := 0, time.Now().Add(time.Duration(minutes*float64(time.Minute))); time.Now().Before(end); i++ {
		if i%len(deeds) == 0 {
			s.rng.Shuffle(len(deeds), func(a, b int) { deeds[a], deeds[b] = deeds[b], deeds[a] })
		}
		deed := deeds[i%len(deeds)]
		s.counts[deed.name]++
		began := time.Now()
		err := deed.do(s)
		if err == nil {
			err = s.calm()
		}
		t.Logf("%s: %s at %s, well %s later", began.UTC().Format("15:04:05.000"), deed.name, time.Since(began).Round(time.Millisecond), s.lately.Round(time.Millisecond))
		if err := errors.Join(err, s.squad.Err(), s.crowd.Err(), s.leases.Err()); err != nil {
			t.Fatalf("seed %d, hardship %d (%s): %v\n%s", *flagSeed, i+1, deed.name, err, s.dump(t))
		}
	}
	s.finish()
}

// chosen are the hardships that can happen here, and that were asked for.
func (s *siege) chosen(list []hardship) []hardship {
	return slices.DeleteFunc(list, func(h hardship) bool {
		if h.disk && len(s.disks) == 0 {
			s.t.Logf("left out, since no file system can be mounted here: %s", h.name)
			return true
		}
		return !strings.Contains(h.name, os.Getenv(envOnly))
	})
}

func newSiege(t *testing.T, flags ...string) *siege {
	c := newClusterOnDisks(t, append(flags, "--snapshot-rows", "5000")...)
	s := &siege{cluster: c, t: t, rng: rand.New(rand.NewPCG(*flagSeed, 1)), counts: map[string]int{}}
	if err := c.start(); err != nil {
		t.Fatalf("%v\n%s", err, c.dump(t))
	}
	conns := c.clients()
	s.probes = c.clients()
	s.squad = newSquad("siege", siegeWriters, conns, s.rng.Uint64())
	s.crowd = newCrowd(siegeRegisters, conns, s.rng.Uint64())
	ctx, stop := context.WithCancel(t.Context())
	s.unwatch = stop
	s.watched = make([]error, len(c.nodes))
	for i, cl := range c.clients() {
		f := history.NewFollower("", 1)
		s.watches = append(s.watches, f)
		s.watching.Go(func() { s.watched[i] = f.Stay(ctx, cl) })
	}
	s.squad.Start(t.Context())
	s.crowd.Start(t.Context())
	s.holders = newHolders(conns)
	startHolders(t.Context(), &s.leases, s.holders)
	return s
}

func (s *siege) between(least, most time.Duration) time.Duration {
	return least + time.Duration(s.rng.Int64N(int64(most-least)))
}

// pause waits some time.
func (s *siege) pause(least, most time.Duration) error {
	return client.Wait(s.t.Context(), s.between(least, most))
}

// any is a random node.
func (s *siege) any() *process.Node { return s.nodes[s.rng.IntN(len(s.nodes))] }

// replica is a random node that is not the Primary.
func (s *siege) replica() (*process.Node, error) {
	p, err := s.awaitPrimary()
	if err != nil {
		return nil, err
	}
	rest := s.others(p)
	return rest[s.rng.IntN(len(rest))], nil
}

// calm ends what is left of the faults and requires that all is well soon: each node takes writes, and votes.
func (s *siege) calm() error {
	s.calmStore()
	if err := errors.Join(lab.heal(), s.calmDisks()); err != nil {
		return err
	}
	start := time.Now()
	for i := range s.probes {
		if err := s.takesWrite(i); err != nil {
			return fmt.Errorf("after the faults: %w", err)
		}
	}
	if err := s.settled(settleLimit); err != nil {
		return err
	}
	s.longest = max(s.longest, time.Since(start))
	s.lately = time.Since(start)
	return s.pause(300*time.Millisecond, 1500*time.Millisecond)
}

// takesWrite requires that a node takes a write soon.
func (s *siege) takesWrite(i int) error {
	name := s.nodes[i].Name
	err := client.Until(settleLimit, 10*time.Millisecond, func() error {
		_, err := put(s.t.Context(), time.Second, s.probes[i], registers.Prefix+"probe", name)
		return err
	})
	if err != nil {
		return fmt.Errorf("a write at %s: %w", name, err)
	}
	return nil
}

// finish ends the load after some writes more, and compares what the nodes, the clients and the watches tell.
func (s *siege) finish() {
	t := s.t
	ok(t, s.squad.Await(t.Context(), 5*siegeWriters))
	l := s.squad.End(1)
	ok(t, s.squad.Err())
	ok(t, s.crowd.End())
	s.leases.Stop()
	s.leases.Wait()
	ok(t, s.leases.Err())
	for _, probe := range s.probes {
		ok(t, client.Until(leaseTTL*time.Second+settleLimit, 100*time.Millisecond, func() error { return gone(t.Context(), probe) }))
	}
	ok(t, s.proxy.Settle(t.Context()))
	v, events, err := l.Verify(t.Context(), s.probes[0], s.probes[1:]...)
	if err != nil {
		t.Fatalf("seed %d: %v\n%s", *flagSeed, err, s.dump(t))
	}
	head := events[len(events)-1].Revision
	for i, f := range s.watches {
		if err := f.Await(t.Context(), head); err != nil {
			t.Fatalf("seed %d: watch at %s: %v (%v)\n%s", *flagSeed, s.nodes[i].Name, err, s.watched[i], s.dump(t))
		}
		ok(t, history.SameEvents(f.UpTo(head), events))
	}
	s.unwatch()
	s.watching.Wait()
	ok(t, errors.Join(s.watched...))
	content := history.State{}
	ok(t, content.Apply(events))
	for _, probe := range s.probes {
		shown, err := history.ReadAll(t.Context(), probe, "", head)
		ok(t, err)
		ok(t, content.Same(shown))
	}
	requireSameHash(t, s.probes, head)
	for _, n := range s.nodes {
		process.RequireNoPanic(t, n.Proc)
	}
	ended := 0
	for _, h := range s.holders {
		ended += h.ended
	}
	t.Logf("%d leases ended since no keep-alive came through", ended)
	t.Logf("%v; %d revisions; %v; longest recovery %s", v, head, s.counts, s.longest.Round(time.Millisecond))
	judge(t, events, s.crowd)
}
