package s3

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/s3/faultproxy"
)

const (
	crashWriters = 16
	crashClients = 4 // connections that they share
	crashLoad    = 250 * time.Millisecond
	crashLatency = 5 * time.Millisecond
	// fullCheckEvery is how often all keys of the store are read and compared, in rounds.
	fullCheckEvery = 10
)

// soak is a store that loses its process and its disk again and again.
type soak struct {
	t       *testing.T
	w       *world
	n       *node
	rng     *rand.Rand
	stop    func() error // ends the process
	giveUp  bool         // the clients need not wait for their answers then
	clients []*clientv3.Client
	steady  *follower // one watch of the etcd client through all rounds
	base    int64     // every revision up to it is checked
	content state
	total   verdict
	longest time.Duration // of a start
}

// TestEmptyDiskCrashes ends a store under load, deletes its data folder, and starts it again from object storage. With
// quorum 0 that is kill -9; where the commit rule is the local disk it is SIGTERM, after which everything is uploaded.
func TestEmptyDiskCrashes(t *testing.T) {
	rounds := int(number(envRounds, 50))
	t.Run("quorum 0, kill -9", func(t *testing.T) {
		s := newSoak(t, quorumStore)
		s.giveUp = true
		s.stop = func() error {
			s.n.proc.kill()
			return nil
		}
		s.run(rounds)
	})
	t.Run("local disk, SIGTERM", func(t *testing.T) {
		s := newSoak(t, quorumLocal)
		s.stop = func() error {
			_, err := s.n.proc.terminate()
			return err
		}
		s.run(max(rounds/5, 3))
	})
}

func newSoak(t *testing.T, quorum int) *soak {
	w := newWorld(t)
	w.proxy.Set(faultproxy.Plan{Latency: crashLatency})
	s := &soak{t: t, w: w, n: w.node(quorum, "--snapshot-rows", "5000"), rng: rand.New(rand.NewPCG(*flagSeed, 2)), base: 1,
		content: state{}, steady: newFollower(1)}
	ok(t, s.n.start())
	s.clients = s.n.clients(t, crashClients)
	return s
}

func (s *soak) run(rounds int) {
	watching, stopWatching := context.WithCancel(s.t.Context())
	watched := make(chan error, 1)
	go func() { watched <- s.steady.stay(watching, s.n.client(s.t)) }()
	for round := 1; round <= rounds; round++ {
		if err := s.one(round); err != nil {
			s.t.Fatalf("seed %d, round %d: %v\n%s", *flagSeed, round, err, s.n.proc.out.tail())
		}
	}
	stopWatching()
	ok(s.t, <-watched)
	c := s.w.requireChain("", s.base, s.clients[0])
	s.t.Logf("%d rounds: %v; %d keys at revision %d, %d chunks; longest start %s", rounds, s.total, len(s.content), s.base, c.chunks,
		s.longest.Round(time.Millisecond))
}

// one is a round: load, end, delete, start, check.
func (s *soak) one(round int) error {
	squad := newSquad(fmt.Sprintf("%03d", round), crashWriters, s.clients, s.rng.Uint64())
	squad.start(s.t.Context())
	pauseErr := s.n.proc.pause(s.t.Context(), 20*time.Millisecond+time.Duration(s.rng.Int64N(int64(crashLoad))))
	squad.stopped.Store(true)
	stopErr := s.stop()
	l, err := squad.end(s.base, s.giveUp)
	for _, err := range []error{pauseErr, stopErr, err, s.n.wipe()} {
		if err != nil {
			return err
		}
	}
	requireNoPanic(s.t, s.n.proc)
	start := time.Now()
	if err := s.n.start(); err != nil {
		return fmt.Errorf("start with an empty disk: %w", err)
	}
	s.longest = max(s.longest, time.Since(start))
	return s.check(l, round%fullCheckEvery == 0)
}

// check compares the store with the ledger, the watch with the store and, where it is said, all keys with the history.
func (s *soak) check(l *ledger, full bool) error {
	ctx := s.t.Context()
	v, history, err := l.verify(ctx, s.clients[0])
	if err != nil {
		return err
	}
	if len(history) > 0 {
		s.base = history[len(history)-1].revision
	}
	if err := s.steady.await(ctx, s.base); err != nil {
		return err
	}
	if err := sameEvents(s.steady.since(l.base), history); err != nil {
		return fmt.Errorf("watch through the crash: %w", err)
	}
	s.steady.forget(s.base)
	s.total = s.total.add(v)
	if err := s.content.apply(history); err != nil || !full {
		return err
	}
	shown, err := readAll(ctx, s.clients[0], s.base)
	if err != nil {
		return err
	}
	return s.content.same(shown)
}
