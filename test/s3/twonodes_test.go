package s3

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kinsy/kinsy/test/harness/client"
	"github.com/kinsy/kinsy/test/harness/faultproxy"
	"github.com/kinsy/kinsy/test/harness/ledger"
	"github.com/kinsy/kinsy/test/harness/process"
	"github.com/kinsy/kinsy/test/harness/registers"
)

const (
	twoLatency = 5 * time.Millisecond
	// fenceLimit is how long a node that lost its place may take to notice and to end.
	fenceLimit = 15 * time.Second
	// startsAtOnce is how often two nodes are started together.
	startsAtOnce = 5
)

// TestTwoNodesOnOnePrefix starts a second process on the prefix of one that serves, each with a data folder of its own
// and clients of its own. From the takeover on exactly one acknowledges: the other is fenced, says so and ends.
func TestTwoNodesOnOnePrefix(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.proxy.Set(faultproxy.Plan{Latency: twoLatency})
	first, second := w.node(quorumStore), w.node(quorumStore)
	ok(t, first.Start())
	p := newPair(t, first, second)
	p.start(t, 0)
	ok(t, p.squads[0].Await(first.Proc.While(t.Context()), 200))
	seen := watchReadyz(first)
	ok(t, second.Start())
	p.start(t, 1)
	ok(t, p.squads[1].Await(second.Proc.While(t.Context()), 200))
	requireFenced(t, first, seen)
	ok(t, p.squads[1].Await(second.Proc.While(t.Context()), 200))
	p.check(t, second, 1)
}

// TestTwoNodesStartAtOnce starts both at the same time, with clients at both from the beginning: one of them ends, the
// other serves. On a prefix with a history the loser is fenced; on an empty one it may also be too late for a cluster.
func TestTwoNodesStartAtOnce(t *testing.T) {
	t.Parallel()
	for _, used := range []bool{true, false} {
		for round := range startsAtOnce {
			t.Run(fmt.Sprintf("used %t, %d", used, round), func(t *testing.T) { startBoth(t, used) })
		}
	}
}

func startBoth(t *testing.T, used bool) {
	w := newWorld(t)
	w.proxy.Set(faultproxy.Plan{Latency: twoLatency})
	base := int64(1)
	if used {
		before := w.node(quorumStore)
		ok(t, before.Start())
		var err error
		base, err = fill(t.Context(), before.Client(t), "/before/", 20)
		ok(t, err)
		_, err = before.Proc.Terminate(stopLimit)
		ok(t, err)
	}
	nodes := []*process.Node{w.node(quorumStore), w.node(quorumStore)}
	for _, n := range nodes {
		ok(t, n.Launch())
	}
	p := newPair(t, nodes[0], nodes[1])
	p.start(t, 0)
	p.start(t, 1)
	timer := time.NewTimer(fenceLimit)
	defer timer.Stop()
	winner := 0
	select {
	case <-nodes[0].Proc.Ended:
		winner = 1
	case <-nodes[1].Proc.Ended:
	case <-timer.C:
		t.Fatalf("both nodes run\n%s\n%s", nodes[0].Proc.Tail(), nodes[1].Proc.Tail())
	}
	loser := nodes[1-winner]
	said := loser.Proc.Output()
	named := strings.Contains(said, "fenced") || !used && strings.Contains(said, "another")
	if code := loser.Proc.ExitCode(); code <= 0 || !named {
		t.Errorf("the other node ended with code %d\n%s", code, loser.Proc.Tail())
	}
	ok(t, nodes[winner].AwaitReady(client.WaitLimit))
	ok(t, p.squads[winner].Await(nodes[winner].Proc.While(t.Context()), 200))
	p.check(t, nodes[winner], base)
}

// pair is two nodes, each under a load of its own. The histories are judged together.
type pair struct {
	squads [2]*ledger.Squad
	crowds [2]*registers.Crowd
}

func newPair(t *testing.T, nodes ...*process.Node) *pair {
	p := &pair{}
	for i, n := range nodes {
		conns := n.Clients(t, siegeClients)
		p.squads[i] = newSquad(fmt.Sprintf("node%d", i), siegeWriters, conns, *flagSeed+uint64(i))
		p.crowds[i] = newCrowd(siegeRegisters, conns, *flagSeed+10+uint64(i))
	}
	return p
}

func (p *pair) start(t *testing.T, i int) {
	p.squads[i].Start(t.Context())
	p.crowds[i].Start(t.Context())
}

// check ends the load and checks what clients of both nodes were told against the history that the winner has.
func (p *pair) check(t *testing.T, winner *process.Node, base int64) {
	all := &ledger.Ledger{Base: base}
	for i := range p.squads {
		p.squads[i].GiveUp()
		all.Merge(p.squads[i].End(base))
		ok(t, p.squads[i].Err())
		ok(t, p.crowds[i].End())
	}
	v, events, err := all.Verify(t.Context(), winner.Client(t))
	ok(t, err)
	t.Log(v)
	judge(t, events, p.crowds[:]...)
}

// watchReadyz asks /readyz of a node until its process ends, and tells whether an answer named the fence.
func watchReadyz(n *process.Node) <-chan string {
	seen := make(chan string, 1)
	proc := n.Proc
	go func() {
		last := "nothing"
		for proc.Running() {
			code, body, err := n.Get("/readyz")
			if err != nil {
				continue
			}
			last = fmt.Sprintf("%d %q", code, body)
			if code == 503 && strings.Contains(body, "fenced") {
				break
			}
		}
		seen <- last
	}()
	return seen
}

// requireFenced requires that a node says that it is fenced, and ends with an error.
func requireFenced(t *testing.T, n *process.Node, seen <-chan string) {
	t.Helper()
	code, err := n.Proc.Exit(fenceLimit)
	ok(t, err)
	if code <= 0 {
		t.Errorf("the fenced node ended with code %d", code)
	}
	if said := <-seen; !strings.Contains(said, "fenced") {
		t.Errorf("/readyz of the fenced node said last: %s", said)
	}
	if !strings.Contains(n.Proc.Output(), "fenced") {
		t.Errorf("the fenced node does not say why it ended:\n%s", n.Proc.Tail())
	}
	process.RequireNoPanic(t, n.Proc)
}
