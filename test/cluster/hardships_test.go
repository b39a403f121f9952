package cluster

import (
	"fmt"
	"time"

	"github.com/kinsy/kinsy/test/harness/faultproxy"
	"github.com/kinsy/kinsy/test/harness/process"
)

// stopLimit is how long kinsy may take to end after SIGTERM.
const stopLimit = 15 * time.Second

// longStop is longer than all time-outs of a cluster.
const longStop = 4 * time.Second

// hardships are all that can happen here; cuts only where the nodes have networks of their own.
func hardships() []hardship {
	list := []hardship{
		{name: "kill primary", do: onPrimary((*siege).restart)},
		{name: "kill replica", do: onReplica((*siege).restart)},
		{name: "kill primary, gone for a while", do: onPrimary((*siege).restartLater)},
		{name: "kill replica, gone for a while", do: onReplica((*siege).restartLater)},
		{name: "kill a majority", do: (*siege).killMajority},
		{name: "kill all", do: (*siege).killAll},
		{name: "stop primary", do: onPrimary((*siege).stopFor)},
		{name: "stop replica", do: onReplica((*siege).stopFor)},
		{name: "stop primary for a moment", do: onPrimary((*siege).stutter)},
		{name: "stop replica for a moment", do: onReplica((*siege).stutter)},
		{name: "lose disk of primary", do: onPrimary((*siege).loseDisk)},
		{name: "lose disk of replica", do: onReplica((*siege).loseDisk)},
		{name: "rolling restart", do: (*siege).rollingRestart},
		{name: "object store out", do: (*siege).outage},
		{name: "object store slow", do: (*siege).slowStore},
		{name: "object store out, primary killed", do: (*siege).outageAndKill},
		{name: "object store unreliable", do: (*siege).unreliable},
		{name: "object store unreliable, primary killed", do: onPrimary((*siege).unreliableAndKill)},
		{name: "kill primary, then in the election", do: onPrimary((*siege).killInElection)},
		{name: "stop primary, kill in the election", do: onPrimary((*siege).stopAndKill)},
	}
	list = append(list, diskHardships()...)
	if lab.separate {
		list = append(list,
			hardship{name: "cut replica off", do: onReplica((*siege).cutOff)},
			hardship{name: "cut primary off", do: onPrimary((*siege).cutOff)},
			hardship{name: "cut primary from nodes", do: onPrimary((*siege).cutFromNodes)},
			hardship{name: "cut primary from store", do: onPrimary((*siege).cutFromStore)},
			hardship{name: "primary hears nobody", do: onPrimary((*siege).deafen)},
			hardship{name: "nobody hears primary", do: onPrimary((*siege).mute)},
			hardship{name: "replica hears nobody", do: onReplica((*siege).deafen)},
			hardship{name: "nobody hears replica", do: onReplica((*siege).mute)},
			hardship{name: "cut between two", do: (*siege).cutTwo},
			hardship{name: "cut everybody from store", do: (*siege).cutStore},
			hardship{name: "cut between two, kill the third", do: (*siege).cutTwoAndKill},
		)
	}
	return list
}

func onPrimary(do func(*siege, *process.Node) error) func(*siege) error {
	return func(s *siege) error {
		n, err := s.awaitPrimary()
		if err != nil {
			return err
		}
		return do(s, n)
	}
}

func onReplica(do func(*siege, *process.Node) error) func(*siege) error {
	return func(s *siege) error {
		n, err := s.replica()
		if err != nil {
			return err
		}
		return do(s, n)
	}
}

func (s *siege) kill(n *process.Node) {
	n.Proc.Kill()
	process.RequireNoPanic(s.t, n.Proc)
}

func (s *siege) restart(n *process.Node) error {
	s.kill(n)
	return n.Launch()
}

func (s *siege) restartLater(n *process.Node) error {
	s.kill(n)
	if err := s.pause(time.Second, 3*time.Second); err != nil {
		return err
	}
	return n.Launch()
}

func (s *siege) killMajority() error {
	list := s.others(s.any())
	for _, n := range list {
		s.kill(n)
	}
	if err := s.pause(100*time.Millisecond, 3*time.Second); err != nil {
		return err
	}
	for _, n := range list {
		if err := n.Launch(); err != nil {
			return err
		}
	}
	return nil
}

func (s *siege) killAll() error {
	for _, n := range s.nodes {
		s.kill(n)
	}
	for _, i := range s.rng.Perm(len(s.nodes)) {
		if err := s.nodes[i].Launch(); err != nil {
			return err
		}
		if err := s.pause(time.Millisecond, 500*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func (s *siege) stopFor(n *process.Node) error {
	if err := s.freeze(n); err != nil {
		return err
	}
	if err := s.pause(longStop, longStop+2*time.Second); err != nil {
		return err
	}
	return s.thaw(n)
}

// stutter stops a node for times about the suspicion time.
func (s *siege) stutter(n *process.Node) error {
	for range 3 {
		if err := s.freeze(n); err != nil {
			return err
		}
		if err := s.pause(100*time.Millisecond, 1200*time.Millisecond); err != nil {
			return err
		}
		if err := s.thaw(n); err != nil {
			return err
		}
		if err := s.pause(10*time.Millisecond, 300*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// loseDisk kills a node and takes its disk away. All others hold what it acknowledged, or a majority of them does.
func (s *siege) loseDisk(n *process.Node) error {
	s.kill(n)
	if err := n.Wipe(); err != nil {
		return err
	}
	if err := s.pause(time.Millisecond, 2*time.Second); err != nil {
		return err
	}
	return n.Launch()
}

func (s *siege) rollingRestart() error {
	for _, i := range s.rng.Perm(len(s.nodes)) {
		n := s.nodes[i]
		took, err := n.Proc.Terminate(stopLimit)
		if err != nil {
			return err
		}
		process.RequireNoPanic(s.t, n.Proc)
		if err := n.Start(); err != nil {
			return err
		}
		if err := s.settled(settleLimit); err != nil {
			return fmt.Errorf("after the restart of %s, which had ended in %s: %w", n.Name, took, err)
		}
	}
	return nil
}

func (s *siege) outage() error {
	s.proxy.Set(faultproxy.Outage())
	return s.pause(2*time.Second, 5*time.Second)
}

// slowStore lets requests take about as long as the suspicion time.
func (s *siege) slowStore() error {
	s.proxy.Set(faultproxy.Plan{Name: "slow", Latency: 300 * time.Millisecond, MaxDelay: time.Second, Chance: map[faultproxy.Fault]float64{
		faultproxy.Delay: 0.5, faultproxy.LostAnswer: 0.1, faultproxy.ServerError: 0.1}})
	n := s.any()
	if s.rng.IntN(2) == 0 {
		if err := s.restart(n); err != nil {
			return err
		}
	}
	return s.pause(2*time.Second, 5*time.Second)
}

func (s *siege) outageAndKill() error {
	p, err := s.awaitPrimary()
	if err != nil {
		return err
	}
	s.proxy.Set(faultproxy.Outage())
	if err := s.pause(100*time.Millisecond, time.Second); err != nil {
		return err
	}
	s.kill(p)
	if err := s.pause(time.Second, 3*time.Second); err != nil {
		return err
	}
	return p.Launch()
}

// cutFor drops packets for some seconds.
func (s *siege) cutFor(cuts ...cut) error {
	if err := lab.cut(cuts...); err != nil {
		return err
	}
	if err := s.pause(2*time.Second, 5*time.Second); err != nil {
		return err
	}
	return lab.heal()
}

// peersOf are the hosts of the other nodes.
func (s *siege) peersOf(n *process.Node) (hosts []string) {
	for _, other := range s.others(n) {
		hosts = append(hosts, s.host(other))
	}
	return hosts
}

func (c *cluster) cutsOff(n *process.Node) (cuts []cut) {
	for _, other := range c.others(n) {
		cuts = append(cuts, between(c.host(n), c.host(other))...)
	}
	return append(cuts, between(c.host(n), storeHost)...)
}

func (s *siege) cutOff(n *process.Node) error { return s.cutFor(s.cutsOff(n)...) }

func (s *siege) cutFromNodes(n *process.Node) error {
	return s.cutFor(s.cutsOff(n)[:2*(len(s.nodes)-1)]...)
}

func (s *siege) cutFromStore(n *process.Node) error {
	return s.cutFor(between(s.host(n), storeHost)...)
}

func (s *siege) deafen(n *process.Node) error {
	var cuts []cut
	for _, host := range s.peersOf(n) {
		cuts = append(cuts, cut{host, s.host(n)})
	}
	return s.cutFor(cuts...)
}

func (s *siege) mute(n *process.Node) error {
	var cuts []cut
	for _, host := range s.peersOf(n) {
		cuts = append(cuts, cut{s.host(n), host})
	}
	return s.cutFor(cuts...)
}

func (s *siege) cutTwo() error {
	rest := s.others(s.any())
	return s.cutFor(between(s.host(rest[0]), s.host(rest[1]))...)
}

func (s *siege) cutStore() error {
	var cuts []cut
	for _, n := range s.nodes {
		cuts = append(cuts, cut{s.host(n), storeHost})
	}
	return s.cutFor(cuts...)
}

// hardStore does everything that an object store may do.
func hardStore() faultproxy.Plan {
	return faultproxy.Plan{Name: "unreliable", Latency: storeLatency, MaxDelay: 300 * time.Millisecond, LateBy: 2 * time.Second, Chance: map[faultproxy.Fault]float64{
		faultproxy.ServerError: 0.05, faultproxy.SlowDown: 0.05, faultproxy.CutBefore: 0.03, faultproxy.CutRequest: 0.03, faultproxy.CutResponse: 0.03,
		faultproxy.LostAnswer: 0.08, faultproxy.ErrorAfter: 0.08, faultproxy.Late: 0.05, faultproxy.Twice: 0.05, faultproxy.Delay: 0.1}}
}

func (s *siege) unreliable() error {
	s.proxy.Set(hardStore())
	return s.pause(3*time.Second, 6*time.Second)
}

func (s *siege) unreliableAndKill(n *process.Node) error {
	s.proxy.Set(hardStore())
	if err := s.pause(100*time.Millisecond, time.Second); err != nil {
		return err
	}
	if err := s.restart(n); err != nil {
		return err
	}
	return s.pause(3*time.Second, 6*time.Second)
}

// killInElection kills the Primary, and soon another node, and starts both again.
func (s *siege) killInElection(n *process.Node) error {
	if err := s.restart(n); err != nil {
		return err
	}
	for range 3 {
		if err := s.pause(50*time.Millisecond, 600*time.Millisecond); err != nil {
			return err
		}
		if err := s.restart(s.any()); err != nil {
			return err
		}
	}
	return nil
}

// stopAndKill stops the Primary, and kills another node when an election may be under way.
func (s *siege) stopAndKill(n *process.Node) error {
	if err := s.freeze(n); err != nil {
		return err
	}
	if err := s.pause(500*time.Millisecond, 1200*time.Millisecond); err != nil {
		return err
	}
	rest := s.others(n)
	if err := s.restart(rest[s.rng.IntN(len(rest))]); err != nil {
		return err
	}
	if err := s.pause(100*time.Millisecond, 3*time.Second); err != nil {
		return err
	}
	return s.thaw(n)
}

func (s *siege) cutTwoAndKill() error {
	n := s.any()
	rest := s.others(n)
	if err := lab.cut(between(s.host(rest[0]), s.host(rest[1]))...); err != nil {
		return err
	}
	if err := s.pause(100*time.Millisecond, 2*time.Second); err != nil {
		return err
	}
	if err := s.restart(n); err != nil {
		return err
	}
	return s.cutFor()
}
