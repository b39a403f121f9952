package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/history"
	"github.com/kinsy/kinsy/test/harness/ledger"
	"github.com/kinsy/kinsy/test/harness/process"
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
	n       *process.Node
	rng     *rand.Rand
	rounds  int
	round   int
	crash   func() error // ends the process without warning
	repair  func() error // makes a start possible again
	clients []*clientv3.Client
	base    int64           // every revision up to it is checked
	history []history.Event // all that was checked
	content history.State

	all    *history.Follower // every key, new streams after each kill
	shared *history.Follower // the shared keys with their previous values, likewise
	steady *history.Follower // every key, one watch of the etcd client through all rounds

	compacted compaction
	total     ledger.Verdict
}

// TestKill9LosesNoAcknowledgedWrite kills a store under load, starts it again, and compares its history with what clients
// and watchers were told. The rounds share one store; the API profile alternates.
func TestKill9LosesNoAcknowledgedWrite(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
	d := ext4(t, 512)
	s := newSoak(t, d.data(), max(*flagRounds/4, 3))
	s.crash = func() error { return errors.Join(s.n.Proc.Freeze(), d.cut()) }
	s.repair = d.again
	s.run()
}

func newSoak(t *testing.T, dir string, rounds int) *soak {
	t.Helper()
	t.Logf("seed %d, %d rounds", *flagSeed, rounds)
	s := &soak{t: t, n: newNode(t, dir, process.ProfileNetsy), rounds: rounds, rng: rand.New(rand.NewPCG(*flagSeed, 1)), base: 1,
		content: history.State{}, all: history.NewFollower("", 1), shared: history.NewFollower(ledger.SharedPrefix, 1), steady: history.NewFollower("", 1)}
	s.shared.PrevKV = true
	ok(t, s.n.Start())
	s.clients = s.n.Clients(t, crashClients)
	return s
}

func (s *soak) run() {
	ctx, cancel := context.WithCancel(s.t.Context())
	var steady sync.WaitGroup
	var steadyErr error
	steady.Go(func() { steadyErr = s.steady.Stay(ctx, s.clients[0]) })
	begin := time.Now()
	var longest time.Duration
	for s.round = 1; s.round <= s.rounds && !s.t.Failed(); s.round++ {
		start := time.Now()
		if err := s.one(ctx); err != nil {
			s.t.Errorf("round %d (%s): %v\n%s", s.round, s.n.API, err, s.n.Proc.Tail())
			_ = os.WriteFile(filepath.Join(s.n.Dir, "goroutines.txt"), []byte(s.n.Proc.Dump()), 0o600)
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
		s.total.Acknowledged, s.total.Unknown, s.total.Applied, len(s.content), s.base, s.compacted.done)
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
	s.n.API = [...]string{process.ProfileNetsy, process.ProfileEtcd}[s.round%2]
	if err := s.startAgain(); err != nil {
		return fmt.Errorf("start after a kill: %w", err)
	}
	return s.check(ctx, l)
}

// load writes until the process is killed.
func (s *soak) load(ctx context.Context) (*ledger.Ledger, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var done sync.WaitGroup
	var followErrs [2]error
	var stopped atomic.Bool
	var compactErr error
	done.Go(func() { followErrs[0] = s.all.Follow(ctx, s.clients[0]) })
	done.Go(func() { followErrs[1] = s.shared.Follow(ctx, s.clients[1]) })
	writers := newSquad(fmt.Sprintf("%03d", s.round), crashWriters, s.clients, s.rng.Uint64(), s.n.API == process.ProfileEtcd)
	writers.Start(ctx)
	if s.rng.IntN(2) == 0 {
		c := s.compactor(s.rng.Uint64())
		writers.Join(c.Writer)
		done.Go(func() { compactErr = c.run(ctx, &stopped) })
	}
	moment := time.NewTimer(20*time.Millisecond + time.Duration(s.rng.Int64N(int64(*flagLoad))))
	select {
	case <-moment.C:
	case <-s.n.Proc.Ended:
	}
	alive := s.n.Proc.Running()
	stopped.Store(true)
	writers.Stop()
	crashErr := s.crash()
	s.n.Proc.Kill()
	cancel()
	done.Wait()
	l := writers.End(s.base)
	if !alive {
		return nil, errors.New("kinsy ended by itself")
	}
	l.Newest = max(l.Newest, s.all.Reached(), s.shared.Reached(), s.steady.Reached())
	return l, errors.Join(append(followErrs[:], crashErr, compactErr, writers.Err())...)
}

// startAgain starts the store, in some rounds after it was killed once or twice while it started.
func (s *soak) startAgain() error {
	for s.rng.IntN(4) == 0 {
		if err := s.n.Launch(); err != nil {
			return err
		}
		moment := time.NewTimer(time.Duration(s.rng.Int64N(int64(60 * time.Millisecond))))
		select {
		case <-moment.C:
		case <-s.n.Proc.Ended:
			return fmt.Errorf("%w while it started\n%s", process.ErrEnded, s.n.Proc.Tail())
		}
		s.n.Proc.Kill()
	}
	return s.n.Start()
}

// check compares the store with the ledger and the watchers with the store.
func (s *soak) check(ctx context.Context, l *ledger.Ledger) error {
	head, err := history.Revision(ctx, s.clients[0])
	if err != nil {
		return err
	}
	seen := s.all.Reached() // before the kill
	if err := s.catchUp(ctx, head); err != nil {
		return err
	}
	past := s.all.Since(s.base)
	v, err := l.Check(past, head)
	if err != nil {
		return fmt.Errorf("%w (before the kill a watch had seen up to %d)", err, seen)
	}
	s.total = s.total.Add(v)
	if err := s.checkWatchers(ctx, past, head); err != nil {
		return err
	}
	if err := s.content.Apply(past); err != nil {
		return err
	}
	s.history = append(s.history, past...)
	s.base = head
	for _, f := range []*history.Follower{s.all, s.shared, s.steady} {
		f.Forget(head)
	}
	return s.checkContent(ctx)
}

// catchUp brings every watcher up to head.
func (s *soak) catchUp(ctx context.Context, head int64) error {
	if err := s.all.CatchUp(ctx, s.clients[0], head); err != nil {
		return err
	}
	if err := s.shared.CatchUp(ctx, s.clients[1], head); err != nil {
		return err
	}
	return s.steady.Await(ctx, head)
}

// checkWatchers compares what was seen before and after the kill with what the store tells of the same revisions now.
func (s *soak) checkWatchers(ctx context.Context, past []history.Event, head int64) error {
	told, gone, err := history.Replay(ctx, s.clients[2], s.base, head)
	if err != nil {
		return fmt.Errorf("read history: %w", err)
	}
	if err := s.compacted.confirm(gone); err != nil {
		return err
	}
	if err := history.SameEvents(told, history.Above(past, max(s.base, gone))); err != nil {
		return fmt.Errorf("history after the kill is not what watchers saw before: %w", err)
	}
	if err := history.SameEvents(s.steady.Since(s.base), past); err != nil {
		return fmt.Errorf("watch of the etcd client: %w", err)
	}
	if err := history.SameEvents(s.shared.Since(s.base), history.WithPrefix(past, ledger.SharedPrefix)); err != nil {
		return fmt.Errorf("watch of the shared keys: %w", err)
	}
	return nil
}

// checkContent compares the keys of the round, now and then all keys, with what the history makes of them.
func (s *soak) checkContent(ctx context.Context) error {
	prefix := fmt.Sprintf("%s%03d/", ledger.NewPrefix, s.round)
	want := history.State{}
	for key, r := range s.content {
		if s.round%fullCheckEvery == 0 || len(key) > len(prefix) && key[:len(prefix)] == prefix {
			want[key] = r
		}
	}
	if s.round%fullCheckEvery == 0 {
		prefix = ""
	}
	shown, err := history.ReadAll(ctx, s.clients[0], prefix, s.base)
	if err != nil {
		return err
	}
	if err := want.Same(shown); err != nil {
		return fmt.Errorf("content at revision %d: %w", s.base, err)
	}
	return nil
}

// finish checks the whole store once more, its file with SQLite's own check, and that nothing of what was removed is left.
func (s *soak) finish() {
	ctx := s.t.Context()
	ok(s.t, checkDatabase(s.n.Database(), s.t.TempDir()))
	s.n.API = process.ProfileEtcd
	ok(s.t, s.n.Restart())
	told, gone, err := history.Replay(ctx, s.clients[0], 1, s.base)
	ok(s.t, err)
	ok(s.t, history.SameEvents(told, history.Above(s.history, max(1, gone))))
	s.round = fullCheckEvery
	ok(s.t, s.checkContent(ctx))
	_, err = s.clients[0].Compact(ctx, s.base, clientv3.WithCompactPhysical())
	ok(s.t, err)
	took, err := s.n.Proc.Terminate(stopLimit)
	ok(s.t, err)
	s.t.Logf("ended %s after SIGTERM", took.Round(time.Millisecond))
	ok(s.t, checkDatabase(s.n.Database(), s.t.TempDir()))
	rows, err := countRows(s.n.Database())
	ok(s.t, err)
	if rows != len(s.content) {
		s.t.Errorf("%d rows are left for %d keys after a compaction to the head", rows, len(s.content))
	}
}
