package s3

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/client"
	"github.com/kinsy/kinsy/test/harness/faultproxy"
	"github.com/kinsy/kinsy/test/harness/history"
	"github.com/kinsy/kinsy/test/harness/ledger"
	"github.com/kinsy/kinsy/test/harness/process"
	"github.com/kinsy/kinsy/test/harness/registers"
)

const (
	siegeWriters   = 8
	siegeRegisters = 6
	siegeClients   = 4 // connections that they share
	siegeLatency   = 2 * time.Millisecond
	// recoverLimit is how long after the last fault a write must succeed and /readyz say so.
	recoverLimit = 10 * time.Second
)

// siege is a node under load whose store misbehaves.
type siege struct {
	t        *testing.T
	w        *world
	n        *process.Node
	rng      *rand.Rand
	probe    *clientv3.Client
	squad    *ledger.Squad
	crowd    *registers.Crowd
	truth    *truth
	probes   int
	counts   map[string]int // what was done to it
	recovery time.Duration  // the longest
}

// plans are the hardships, one after the other in random order.
func plans() []faultproxy.Plan {
	type chances = map[faultproxy.Fault]float64
	return []faultproxy.Plan{
		{Name: "errors", Chance: chances{faultproxy.ServerError: 0.15, faultproxy.SlowDown: 0.15, faultproxy.ErrorAfter: 0.1}},
		{Name: "cuts", Chance: chances{faultproxy.CutBefore: 0.1, faultproxy.CutRequest: 0.1, faultproxy.CutResponse: 0.1, faultproxy.LostAnswer: 0.1}},
		{Name: "open outcomes", LateBy: 3 * time.Second,
			Chance: chances{faultproxy.LostAnswer: 0.15, faultproxy.ErrorAfter: 0.15, faultproxy.Twice: 0.15, faultproxy.Late: 0.1}},
		{Name: "late", LateBy: 2 * time.Second, Chance: chances{faultproxy.Late: 0.5, faultproxy.Twice: 0.2}},
		{Name: "delays", MaxDelay: 800 * time.Millisecond, Chance: chances{faultproxy.Delay: 0.5}},
		{Name: "no answers", Chance: chances{faultproxy.Hold: 0.02, faultproxy.HoldAnswer: 0.02}},
		{Name: "throttling", Rate: 5},
		{Name: "everything", LateBy: time.Second, MaxDelay: 200 * time.Millisecond, Rate: 100, Chance: chances{
			faultproxy.ServerError: 0.05, faultproxy.SlowDown: 0.05, faultproxy.CutBefore: 0.05, faultproxy.CutRequest: 0.05, faultproxy.CutResponse: 0.05,
			faultproxy.LostAnswer: 0.05, faultproxy.ErrorAfter: 0.05, faultproxy.Late: 0.05, faultproxy.Twice: 0.05, faultproxy.Delay: 0.1}},
		faultproxy.Outage(),
		faultproxy.Silence(),
	}
}

// TestFaultsForMinutes lets clients work while the store misbehaves and recovers, again and again, and the process is
// killed now and then, with and without its disk. Nothing acknowledged may be lost, nothing may be stuck once the faults
// stop, and /readyz must tell the truth throughout.
func TestFaultsForMinutes(t *testing.T) {
	t.Parallel()
	length := time.Duration(number(envMinutes, 1) * float64(time.Minute))
	s := newSiege(t)
	steady := history.NewFollower("", 1)
	watching, stopWatching := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() { watched <- steady.Stay(watching, s.n.Client(t)) }()
	s.squad.Start(t.Context())
	s.crowd.Start(t.Context())
	s.truth = newTruth(t.Context(), s.n, s.squad.Last)
	hardships := plans()
	for i, end := 0, time.Now().Add(length); time.Now().Before(end); i++ {
		if i%len(hardships) == 0 {
			s.rng.Shuffle(len(hardships), func(a, b int) { hardships[a], hardships[b] = hardships[b], hardships[a] })
		}
		plan := hardships[i%len(hardships)]
		if err := errors.Join(s.hardship(plan), s.calm(), s.truth.lies(), s.squad.Err(), s.crowd.Err()); err != nil {
			t.Fatalf("seed %d, hardship %d (%s): %v\n%s", *flagSeed, i+1, plan.Name, err, s.n.KeepDump(t))
		}
	}
	ok(t, s.truth.end())
	events := s.finish(steady)
	stopWatching()
	ok(t, <-watched)
	judge(t, events, s.crowd)
}

func newSiege(t *testing.T) *siege {
	w := newWorld(t)
	s := &siege{t: t, w: w, n: w.node(quorumStore, "--snapshot-rows", "5000"), rng: rand.New(rand.NewPCG(*flagSeed, 1)), counts: map[string]int{}}
	w.proxy.Set(faultproxy.Plan{Latency: siegeLatency})
	ok(t, s.n.Start())
	conns := s.n.Clients(t, siegeClients)
	s.probe = s.n.Client(t)
	s.squad = newSquad("siege", siegeWriters, conns, s.rng.Uint64())
	s.crowd = newCrowd(siegeRegisters, conns, s.rng.Uint64())
	return s
}

// hardship lets one plan be in force for some seconds, and perhaps kills the process meanwhile. It need not serve then,
// but it must not end by itself.
func (s *siege) hardship(plan faultproxy.Plan) error {
	s.truth.setCalm(false)
	s.counts[plan.Name]++
	s.w.proxy.Set(plan)
	length := s.between(2*time.Second, 4*time.Second)
	if plan.Name == "outage" || plan.Name == "silence" {
		length = s.between(2*time.Second, 10*time.Second)
	}
	if s.rng.IntN(3) > 0 {
		return s.n.Proc.Pause(s.t.Context(), length)
	}
	first := time.Duration(s.rng.Float64() * float64(length))
	if err := s.n.Proc.Pause(s.t.Context(), first); err != nil {
		return err
	}
	if err := s.kill(); err != nil {
		return err
	}
	return s.n.Proc.Pause(s.t.Context(), length-first)
}

func (s *siege) between(least, most time.Duration) time.Duration {
	return least + time.Duration(s.rng.Int64N(int64(most-least)))
}

// kill ends the process without warning, half of the times with its disk, and starts another one.
func (s *siege) kill() error {
	s.n.Proc.Kill()
	process.RequireNoPanic(s.t, s.n.Proc)
	s.counts["kill -9"]++
	if s.rng.IntN(2) == 0 {
		s.counts["lost disk"]++
		if err := s.n.Wipe(); err != nil {
			return err
		}
	}
	s.truth.started()
	return s.n.Launch()
}

// calm ends the faults and requires that the node recovers, and stays so. Some times the process is killed then too.
func (s *siege) calm() error {
	s.w.proxy.Set(faultproxy.Plan{Latency: siegeLatency})
	start := time.Now()
	if s.rng.IntN(4) == 0 {
		if err := s.kill(); err != nil {
			return err
		}
	}
	if err := client.Until(recoverLimit, 10*time.Millisecond, s.try); err != nil {
		return fmt.Errorf("a write %s after the faults: %w", recoverLimit, err)
	}
	if err := s.n.AwaitReady(max(recoverLimit-time.Since(start), time.Second)); err != nil {
		return err
	}
	s.recovery = max(s.recovery, time.Since(start))
	s.truth.setCalm(true)
	return s.n.Proc.Pause(s.t.Context(), s.between(500*time.Millisecond, 1500*time.Millisecond))
}

// try writes once. Its keys are not in the ledger: they are registers without a client.
func (s *siege) try() error {
	select {
	case <-s.n.Proc.Ended:
		return fmt.Errorf("%w by itself\n%s", process.ErrEnded, s.n.Proc.Tail())
	default:
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
	defer cancel()
	s.probes++
	_, err := s.probe.Put(ctx, registers.Prefix+"probe", fmt.Sprint(s.probes))
	return err
}

// finish ends the load after some writes more, and checks the ledger, the watch, the content
// and the chain.
func (s *siege) finish(steady *history.Follower) []history.Event {
	t := s.t
	ok(t, s.squad.Await(s.n.Proc.While(t.Context()), 10*siegeWriters))
	l, err := s.squad.End(1), s.squad.Err()
	ok(t, err)
	ok(t, s.crowd.End())
	ok(t, s.w.proxy.Settle(t.Context()))
	v, events, err := l.Verify(t.Context(), s.probe)
	ok(t, err)
	head := events[len(events)-1].Revision
	ok(t, steady.Await(t.Context(), head))
	ok(t, history.SameEvents(steady.UpTo(head), events))
	content := history.State{}
	ok(t, content.Apply(events))
	shown, err := history.ReadAll(t.Context(), s.probe, "", head)
	ok(t, err)
	ok(t, content.Same(shown))
	process.RequireNoPanic(t, s.n.Proc)
	c := s.w.requireChain("", head, s.probe)
	t.Logf("%v; %d revisions in %d chunks", v, head, c.chunks)
	t.Logf("%v; longest recovery %s; faults %v", s.counts, s.recovery.Round(time.Millisecond), s.w.proxy.Stats().Faults)
	return events
}
