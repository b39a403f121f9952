package faults

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	crashWriters = 32
	crashClients = 8 // connections that the writers share
	// fullCheckEvery is how often all keys of the store are read and compared, in rounds.
	fullCheckEvery = 10
)

// soak is a store that is killed again and again.
type soak struct {
	t       *testing.T
	n       *node
	rng     *rand.Rand
	rounds  int
	round   int
	crash   func() error // ends the process without warning
	repair  func() error // makes a start possible again
	clients []*clientv3.Client
	base    int64   // every revision up to it is checked
	history []event // all that was checked
	content state

	all    *follower // every key, new streams after each kill
	shared *follower // the shared keys with their previous values, likewise
	steady *follower // every key, one watch of the etcd client through all rounds

	compacted compaction
	total     verdict
}

// TestKill9LosesNoAcknowledgedWrite kills a store under load, starts it again, and compares its history with what clients
// and watchers were told. The rounds share one store; the API profile alternates.
func TestKill9LosesNoAcknowledgedWrite(t *testing.T) {
	dir, err := os.MkdirTemp("", "kinsy-crash-")
	ok(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the data is left in %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	s := newSoak(t, dir, *flagRounds)
	s.crash = func() error { return nil }
	s.repair = s.crash
	s.run()
}

// TestPowerFailureLosesNoAcknowledgedWrite is the same for a machine that stops: what was not synced is lost too.
func TestPowerFailureLosesNoAcknowledgedWrite(t *testing.T) {
	d := ext4(t, 512)
	s := newSoak(t, d.data(), max(*flagRounds/4, 3))
	s.crash = func() error { return errors.Join(s.n.proc.freeze(), d.cut()) }
	s.repair = d.again
	s.run()
}

func newSoak(t *testing.T, dir string, rounds int) *soak {
	t.Helper()
	t.Logf("seed %d, %d rounds", *flagSeed, rounds)
	s := &soak{t: t, n: newNode(t, dir, profileNetsy), rounds: rounds, rng: rand.New(rand.NewPCG(*flagSeed, 1)), base: 1,
		content: state{}, all: newFollower("", 1), shared: newFollower(sharedPrefix, 1), steady: newFollower("", 1)}
	s.shared.prevKV = true
	ok(t, s.n.start())
	s.clients = s.n.clients(t, crashClients)
	return s
}

func (s *soak) run() {
	ctx, cancel := context.WithCancel(s.t.Context())
	var steady sync.WaitGroup
	var steadyErr error
	steady.Go(func() { steadyErr = s.steady.stay(ctx, s.clients[0]) })
	begin := time.Now()
	var longest time.Duration
	for s.round = 1; s.round <= s.rounds && !s.t.Failed(); s.round++ {
		start := time.Now()
		if err := s.one(ctx); err != nil {
			s.t.Errorf("round %d (%s): %v\n%s", s.round, s.n.api, err, s.n.proc.out.tail())
			_ = os.WriteFile(filepath.Join(s.n.dir, "goroutines.txt"), []byte(s.n.proc.dump()), 0o600)
		}
		longest = max(longest, time.Since(start))
	}
	cancel()
	steady.Wait()
	if steadyErr != nil {
		s.t.Error(steadyErr)
	}
	if s.t.Failed() {
		return
	}
	s.finish()
	s.t.Logf("%d rounds, %s a round (longest %s): %d writes acknowledged, %d of unknown outcome of which %d were done; %d keys at revision %d, compacted to %d",
		s.rounds, (time.Since(begin) / time.Duration(s.rounds)).Round(time.Millisecond), longest.Round(time.Millisecond),
		s.total.acknowledged, s.total.unknown, s.total.applied, len(s.content), s.base, s.compacted.done)
}

// one is a round: load, kill, start, check.
func (s *soak) one(ctx context.Context) error {
	l, err := s.load(ctx)
	if err != nil {
		return err
	}
	if err := s.repair(); err != nil {
		return err
	}
	s.n.api = [...]string{profileNetsy, profileEtcd}[s.round%2]
	if err := s.startAgain(); err != nil {
		return fmt.Errorf("start after a kill: %w", err)
	}
	return s.check(ctx, l)
}

// load writes until the process is killed.
func (s *soak) load(ctx context.Context) (*ledger, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var done sync.WaitGroup
	var followErrs [2]error
	done.Go(func() { followErrs[0] = s.all.follow(ctx, s.clients[0]) })
	done.Go(func() { followErrs[1] = s.shared.follow(ctx, s.clients[1]) })
	writers := newSquad(fmt.Sprintf("%03d", s.round), crashWriters, s.clients, s.rng.Uint64(), s.n.api == profileEtcd)
	writers.start(ctx, math.MaxInt64)
	if s.rng.IntN(2) == 0 {
		c := s.compactor(s.rng.Uint64())
		writers.writers = append(writers.writers, c.writer)
		done.Go(func() { c.run(ctx, &writers.stopped) })
	}
	moment := time.NewTimer(20*time.Millisecond + time.Duration(s.rng.Int64N(int64(*flagLoad))))
	select {
	case <-moment.C:
	case <-s.n.proc.ended:
	}
	alive := s.n.proc.running()
	writers.stopped.Store(true)
	crashErr := s.crash()
	s.n.proc.kill()
	cancel()
	done.Wait()
	l := writers.end(s.base)
	if !alive {
		return nil, errors.New("kinsy ended by itself")
	}
	l.newest = max(l.newest, s.all.reached(), s.shared.reached(), s.steady.reached())
	return l, errors.Join(append(followErrs[:], crashErr, writers.fault())...)
}

// startAgain starts the store, in some rounds after it was killed once or twice while it started.
func (s *soak) startAgain() error {
	for s.rng.IntN(4) == 0 {
		if err := s.n.launch(); err != nil {
			return err
		}
		moment := time.NewTimer(time.Duration(s.rng.Int64N(int64(60 * time.Millisecond))))
		select {
		case <-moment.C:
		case <-s.n.proc.ended:
			return fmt.Errorf("%w while it started\n%s", errEnded, s.n.proc.out.tail())
		}
		s.n.proc.kill()
	}
	return s.n.start()
}

// check compares the store with the ledger and the watchers with the store.
func (s *soak) check(ctx context.Context, l *ledger) error {
	head, err := revision(ctx, s.clients[0])
	if err != nil {
		return err
	}
	seen := s.all.reached() // before the kill
	if err := s.catchUp(ctx, head); err != nil {
		return err
	}
	history := s.all.since(s.base)
	v, err := l.check(history, head)
	if err != nil {
		return fmt.Errorf("%w (before the kill a watch had seen up to %d)", err, seen)
	}
	s.total = s.total.add(v)
	if err := s.checkWatchers(ctx, history, head); err != nil {
		return err
	}
	for _, e := range history {
		if err := s.content.apply(e); err != nil {
			return err
		}
	}
	s.history = append(s.history, history...)
	s.base = head
	for _, f := range []*follower{s.all, s.shared, s.steady} {
		f.forget(head)
	}
	return s.checkContent(ctx)
}

// catchUp brings every watcher up to head.
func (s *soak) catchUp(ctx context.Context, head int64) error {
	if err := s.all.catchUp(ctx, s.clients[0], head); err != nil {
		return err
	}
	if err := s.shared.catchUp(ctx, s.clients[1], head); err != nil {
		return err
	}
	return s.steady.await(ctx, head)
}

// checkWatchers compares what was seen before and after the kill with what the store tells of the same revisions now.
func (s *soak) checkWatchers(ctx context.Context, history []event, head int64) error {
	told, gone, err := replay(ctx, s.clients[2], s.base, head)
	if err != nil {
		return fmt.Errorf("read history: %w", err)
	}
	if err := s.compacted.confirm(gone); err != nil {
		return err
	}
	if err := sameEvents(told, above(history, max(s.base, gone))); err != nil {
		return fmt.Errorf("history after the kill is not what watchers saw before: %w", err)
	}
	if err := sameEvents(s.steady.since(s.base), history); err != nil {
		return fmt.Errorf("watch of the etcd client: %w", err)
	}
	if err := sameEvents(s.shared.since(s.base), withPrefix(history, sharedPrefix)); err != nil {
		return fmt.Errorf("watch of the shared keys: %w", err)
	}
	return nil
}

// checkContent compares the keys of the round, now and then all keys, with what the history makes of them.
func (s *soak) checkContent(ctx context.Context) error {
	prefix := fmt.Sprintf("%s%03d/", newPrefix, s.round)
	want := state{}
	for key, r := range s.content {
		if s.round%fullCheckEvery == 0 || len(key) > len(prefix) && key[:len(prefix)] == prefix {
			want[key] = r
		}
	}
	if s.round%fullCheckEvery == 0 {
		prefix = ""
	}
	shown, err := readAll(ctx, s.clients[0], prefix, s.base)
	if err != nil {
		return err
	}
	if err := want.same(shown); err != nil {
		return fmt.Errorf("content at revision %d: %w", s.base, err)
	}
	return nil
}

// finish checks the whole store once more, its file with SQLite's own check, and that nothing of what was removed is left.
func (s *soak) finish() {
	ctx := s.t.Context()
	ok(s.t, checkDatabase(s.n.database(), s.t.TempDir()))
	s.n.api = profileEtcd
	ok(s.t, s.n.restart())
	told, gone, err := replay(ctx, s.clients[0], 1, s.base)
	ok(s.t, err)
	ok(s.t, sameEvents(told, above(s.history, max(1, gone))))
	s.round = fullCheckEvery
	ok(s.t, s.checkContent(ctx))
	_, err = s.clients[0].Compact(ctx, s.base, clientv3.WithCompactPhysical())
	ok(s.t, err)
	took, err := s.n.proc.terminate()
	ok(s.t, err)
	s.t.Logf("ended %s after SIGTERM", took.Round(time.Millisecond))
	ok(s.t, checkDatabase(s.n.database(), s.t.TempDir()))
	rows, err := countRows(s.n.database())
	ok(s.t, err)
	if rows != len(s.content) {
		s.t.Errorf("%d rows are left for %d keys after a compaction to the head", rows, len(s.content))
	}
}
