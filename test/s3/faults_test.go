package s3

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/s3/faultproxy"
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
	n        *node
	rng      *rand.Rand
	probe    *clientv3.Client
	squad    *squad
	crowd    *crowd
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
	length := time.Duration(number(envMinutes, 1) * float64(time.Minute))
	s := newSiege(t)
	steady := newFollower(1)
	watching, stopWatching := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() { watched <- steady.stay(watching, s.n.client(t)) }()
	s.squad.start(t.Context())
	s.crowd.start(t.Context())
	s.truth = newTruth(t.Context(), s.n, func() time.Time { return time.Unix(0, s.squad.lastAck.Load()) })
	hardships := plans()
	for i, end := 0, time.Now().Add(length); time.Now().Before(end); i++ {
		if i%len(hardships) == 0 {
			s.rng.Shuffle(len(hardships), func(a, b int) { hardships[a], hardships[b] = hardships[b], hardships[a] })
		}
		plan := hardships[i%len(hardships)]
		if err := errors.Join(s.hardship(plan), s.calm(), s.truth.lies(), s.squad.found(), s.crowd.found()); err != nil {
			t.Fatalf("seed %d, hardship %d (%s): %v\n%s", *flagSeed, i+1, plan.Name, err, s.n.keepDump(t))
		}
	}
	ok(t, s.truth.end())
	events := s.finish(steady)
	stopWatching()
	ok(t, <-watched)
	judge(t, s.crowd.clients, events)
}

func newSiege(t *testing.T) *siege {
	w := newWorld(t)
	s := &siege{t: t, w: w, n: w.node(quorumStore, "--snapshot-rows", "5000"), rng: rand.New(rand.NewPCG(*flagSeed, 1)), counts: map[string]int{}}
	w.proxy.Set(faultproxy.Plan{Latency: siegeLatency})
	ok(t, s.n.start())
	conns := s.n.clients(t, siegeClients)
	s.probe = s.n.client(t)
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
		return s.n.proc.pause(s.t.Context(), length)
	}
	first := time.Duration(s.rng.Float64() * float64(length))
	if err := s.n.proc.pause(s.t.Context(), first); err != nil {
		return err
	}
	if err := s.kill(); err != nil {
		return err
	}
	return s.n.proc.pause(s.t.Context(), length-first)
}

func (s *siege) between(least, most time.Duration) time.Duration {
	return least + time.Duration(s.rng.Int64N(int64(most-least)))
}

// kill ends the process without warning, half of the times with its disk, and starts another one.
func (s *siege) kill() error {
	s.n.proc.kill()
	requireNoPanic(s.t, s.n.proc)
	s.counts["kill -9"]++
	if s.rng.IntN(2) == 0 {
		s.counts["lost disk"]++
		if err := s.n.wipe(); err != nil {
			return err
		}
	}
	s.truth.started()
	return s.n.launch()
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
	if err := until(recoverLimit, 10*time.Millisecond, s.try); err != nil {
		return fmt.Errorf("a write %s after the faults: %w", recoverLimit, err)
	}
	if err := s.n.awaitReady(max(recoverLimit-time.Since(start), time.Second)); err != nil {
		return err
	}
	s.recovery = max(s.recovery, time.Since(start))
	s.truth.setCalm(true)
	return s.n.proc.pause(s.t.Context(), s.between(500*time.Millisecond, 1500*time.Millisecond))
}

// try writes once. Its keys are not in the ledger: they are registers without a client.
func (s *siege) try() error {
	select {
	case <-s.n.proc.ended:
		return fmt.Errorf("%w by itself\n%s", errEnded, s.n.proc.out.tail())
	default:
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
	defer cancel()
	s.probes++
	_, err := s.probe.Put(ctx, registerPrefix+"probe", fmt.Sprint(s.probes))
	return err
}

// finish ends the load after some writes more, and checks the ledger, the watch, the content
// and the chain.
func (s *siege) finish(steady *follower) []event {
	t := s.t
	ok(t, s.squad.await(t.Context(), s.n, 10*siegeWriters))
	l, err := s.squad.end(1, false)
	ok(t, err)
	ok(t, s.crowd.end())
	ok(t, s.w.proxy.Settle(t.Context()))
	v, events, err := l.verify(t.Context(), s.probe)
	ok(t, err)
	head := events[len(events)-1].revision
	ok(t, steady.await(t.Context(), head))
	ok(t, sameEvents(steady.upTo(head), events))
	content := state{}
	ok(t, content.apply(events))
	shown, err := readAll(t.Context(), s.probe, head)
	ok(t, err)
	ok(t, content.same(shown))
	requireNoPanic(t, s.n.proc)
	c := s.w.requireChain("", head, s.probe)
	t.Logf("%v; %d revisions in %d chunks", v, head, c.chunks)
	t.Logf("%v; longest recovery %s; faults %v", s.counts, s.recovery.Round(time.Millisecond), s.w.proxy.Stats().Faults)
	return events
}
