package s3

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/faultproxy"
	"github.com/kinsy/kinsy/test/harness/history"
	"github.com/kinsy/kinsy/test/harness/ledger"
	"github.com/kinsy/kinsy/test/harness/process"
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
	n       *process.Node
	rng     *rand.Rand
	stop    func() error // ends the process
	giveUp  bool         // the clients need not wait for their answers then
	clients []*clientv3.Client
	steady  *history.Follower // one watch of the etcd client through all rounds
	base    int64             // every revision up to it is checked
	content history.State
	total   ledger.Verdict
	longest time.Duration // of a start
}

// TestEmptyDiskCrashes ends a store under load, deletes its data folder, and starts it again from object storage. With
// quorum 0 that is kill -9; where the commit rule is the local disk it is SIGTERM, after which everything is uploaded.
func TestEmptyDiskCrashes(t *testing.T) {
	t.Parallel()
	rounds := int(number(envRounds, 50))
	t.Run("quorum 0, kill -9", func(t *testing.T) {
		s := newSoak(t, quorumStore)
		s.giveUp = true
		s.stop = func() error {
			s.n.Proc.Kill()
			return nil
		}
		s.run(rounds)
	})
	t.Run("local disk, SIGTERM", func(t *testing.T) {
		s := newSoak(t, quorumLocal)
		s.stop = func() error {
			_, err := s.n.Proc.Terminate(stopLimit)
			return err
		}
		s.run(max(rounds/5, 3))
	})
}

func newSoak(t *testing.T, quorum int) *soak {
	w := newWorld(t)
	w.proxy.Set(faultproxy.Plan{Latency: crashLatency})
	s := &soak{t: t, w: w, n: w.node(quorum, "--snapshot-rows", "5000"), rng: rand.New(rand.NewPCG(*flagSeed, 2)), base: 1,
		content: history.State{}, steady: history.NewFollower("", 1)}
	ok(t, s.n.Start())
	s.clients = s.n.Clients(t, crashClients)
	return s
}

func (s *soak) run(rounds int) {
	watching, stopWatching := context.WithCancel(s.t.Context())
	watched := make(chan error, 1)
	go func() { watched <- s.steady.Stay(watching, s.n.Client(s.t)) }()
	for round := 1; round <= rounds; round++ {
		if err := s.one(round); err != nil {
			s.t.Fatalf("seed %d, round %d: %v\n%s", *flagSeed, round, err, s.n.Proc.Tail())
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
	squad.Start(s.t.Context())
	pauseErr := s.n.Proc.Pause(s.t.Context(), 20*time.Millisecond+time.Duration(s.rng.Int64N(int64(crashLoad))))
	squad.Stop()
	stopErr := s.stop()
	if s.giveUp {
		squad.GiveUp()
	}
	l, err := squad.End(s.base), squad.Err()
	for _, err := range []error{pauseErr, stopErr, err, s.n.Wipe()} {
		if err != nil {
			return err
		}
	}
	process.RequireNoPanic(s.t, s.n.Proc)
	start := time.Now()
	if err := s.n.Start(); err != nil {
		return fmt.Errorf("start with an empty disk: %w", err)
	}
	s.longest = max(s.longest, time.Since(start))
	return s.check(l, round%fullCheckEvery == 0)
}

// check compares the store with the ledger, the watch with the store and, where it is said, all keys with the history.
func (s *soak) check(l *ledger.Ledger, full bool) error {
	ctx := s.t.Context()
	v, past, err := l.Verify(ctx, s.clients[0])
	if err != nil {
		return err
	}
	if len(past) > 0 {
		s.base = past[len(past)-1].Revision
	}
	if err := s.steady.Await(ctx, s.base); err != nil {
		return err
	}
	if err := history.SameEvents(s.steady.Since(l.Base), past); err != nil {
		return fmt.Errorf("watch through the crash: %w", err)
	}
	s.steady.Forget(s.base)
	s.total = s.total.Add(v)
	if err := s.content.Apply(past); err != nil || !full {
		return err
	}
	shown, err := history.ReadAll(ctx, s.clients[0], "", s.base)
	if err != nil {
		return err
	}
	return s.content.Same(shown)
}
