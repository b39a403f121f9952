package s3

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kinsy/kinsy/test/s3/faultproxy"
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
	w := newWorld(t)
	w.proxy.Set(faultproxy.Plan{Latency: twoLatency})
	first, second := w.node(quorumStore), w.node(quorumStore)
	ok(t, first.start())
	p := newPair(t, first, second)
	p.start(t, 0)
	ok(t, p.squads[0].await(t.Context(), first, 200))
	seen := watchReadyz(first)
	ok(t, second.start())
	p.start(t, 1)
	ok(t, p.squads[1].await(t.Context(), second, 200))
	requireFenced(t, first, seen)
	ok(t, p.squads[1].await(t.Context(), second, 200))
	p.check(t, second, 1)
}

// TestTwoNodesStartAtOnce starts both at the same time, with clients at both from the beginning: one of them ends, the
// other serves. On a prefix with a history the loser is fenced; on an empty one it may also be too late for a cluster.
func TestTwoNodesStartAtOnce(t *testing.T) {
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
		ok(t, before.start())
		var err error
		base, err = fill(t.Context(), before.client(t), "/before/", 20)
		ok(t, err)
		_, err = before.proc.terminate()
		ok(t, err)
	}
	nodes := []*node{w.node(quorumStore), w.node(quorumStore)}
	for _, n := range nodes {
		ok(t, n.launch())
	}
	p := newPair(t, nodes[0], nodes[1])
	p.start(t, 0)
	p.start(t, 1)
	timer := time.NewTimer(fenceLimit)
	defer timer.Stop()
	winner := 0
	select {
	case <-nodes[0].proc.ended:
		winner = 1
	case <-nodes[1].proc.ended:
	case <-timer.C:
		t.Fatalf("both nodes run\n%s\n%s", nodes[0].proc.out.tail(), nodes[1].proc.out.tail())
	}
	loser := nodes[1-winner]
	said := loser.proc.out.String()
	named := strings.Contains(said, "fenced") || !used && strings.Contains(said, "another")
	if code := loser.proc.cmd.ProcessState.ExitCode(); code <= 0 || !named {
		t.Errorf("the other node ended with code %d\n%s", code, loser.proc.out.tail())
	}
	ok(t, nodes[winner].awaitReady(waitLimit))
	ok(t, p.squads[winner].await(t.Context(), nodes[winner], 200))
	p.check(t, nodes[winner], base)
}

// pair is two nodes, each under a load of its own. The histories are judged together.
type pair struct {
	squads [2]*squad
	crowds [2]*crowd
}

func newPair(t *testing.T, nodes ...*node) *pair {
	p := &pair{}
	begin := time.Now()
	for i, n := range nodes {
		conns := n.clients(t, siegeClients)
		p.squads[i] = newSquad(fmt.Sprintf("node%d", i), siegeWriters, conns, *flagSeed+uint64(i))
		p.crowds[i] = newCrowd(siegeRegisters, conns, *flagSeed+10+uint64(i))
		for _, c := range p.crowds[i].clients {
			c.id += i * siegeRegisters // it is in the values
			c.clock = func() int64 { return time.Since(begin).Nanoseconds() }
		}
	}
	return p
}

func (p *pair) start(t *testing.T, i int) {
	p.squads[i].start(t.Context())
	p.crowds[i].start(t.Context())
}

// check ends the load and checks what clients of both nodes were told against the history that the winner has.
func (p *pair) check(t *testing.T, winner *node, base int64) {
	all := &ledger{base: base}
	var clients []*registerClient
	for i := range p.squads {
		l, err := p.squads[i].end(base, true)
		ok(t, err)
		ok(t, p.crowds[i].end())
		all.writes, all.sights, all.newest = append(all.writes, l.writes...), append(all.sights, l.sights...), max(all.newest, l.newest)
		clients = append(clients, p.crowds[i].clients...)
	}
	v, events, err := all.verify(t.Context(), winner.client(t))
	ok(t, err)
	t.Log(v)
	judge(t, clients, events)
}

// watchReadyz asks /readyz of a node until its process ends, and tells whether an answer named the fence.
func watchReadyz(n *node) <-chan string {
	seen := make(chan string, 1)
	proc := n.proc
	go func() {
		last := "nothing"
		for proc.running() {
			code, body, err := n.get("/readyz")
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
func requireFenced(t *testing.T, n *node, seen <-chan string) {
	t.Helper()
	code, err := n.proc.exit(fenceLimit)
	ok(t, err)
	if code <= 0 {
		t.Errorf("the fenced node ended with code %d", code)
	}
	if said := <-seen; !strings.Contains(said, "fenced") {
		t.Errorf("/readyz of the fenced node said last: %s", said)
	}
	if !strings.Contains(n.proc.out.String(), "fenced") {
		t.Errorf("the fenced node does not say why it ended:\n%s", n.proc.out.tail())
	}
	requireNoPanic(t, n.proc)
}
