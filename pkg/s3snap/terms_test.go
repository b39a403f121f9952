package s3snap

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// TestRandomTerms lets three nodes lead, write, resign, crash, lose their disks and
// fall behind at random, over an object store that loses requests and answers. No
// row that was committed may be missing from a new Primary, from one whose read is
// confirmed, or from the chain. KINSY_SIM_SEED replays a schedule.
func TestRandomTerms(t *testing.T) {
	warm(t)
	all := make(map[string]int)
	seeds, first := envInt("KINSY_SIM_SEEDS", 15), envInt("KINSY_SIM_SEED", 1)
	for seed := first; seed < first+seeds; seed++ {
		synctest.Test(t, func(t *testing.T) {
			s := newTerms(t, uint64(seed))
			s.count = all
			for range 80 {
				s.step()
			}
			s.finish()
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		})
	}
	t.Log(all)
	for _, what := range []string{"lead", "not led", "commit", "not committed", "caught up", "replaced", "confirmed", "shortened"} {
		if all[what] == 0 && seeds > 10 {
			t.Errorf("no schedule has %q", what)
		}
	}
}

// terms is one schedule.
type terms struct {
	*world
	r      *rand.Rand
	nodes  [3]*member // nil while down
	disks  [3]string
	acked  map[sqllog.ID]sqllog.Row
	faults *faults
	count  map[string]int // of what has happened
}

// faults are those of the store.
type faults struct {
	mu   sync.Mutex
	r    *rand.Rand
	rate float64
}

func (f *faults) hook(object.Op, string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.r.Float64() < f.rate {
		return object.ErrUnavailable
	}
	return nil
}

func newTerms(t *testing.T, seed uint64) *terms {
	s := &terms{world: newWorld(t), r: rand.New(rand.NewPCG(seed, 1)), acked: make(map[sqllog.ID]sqllog.Row)}
	s.faults = &faults{r: rand.New(rand.NewPCG(seed, 2)), rate: []float64{0, 0.02, 0.1}[seed%3]}
	s.store.Before, s.store.After = s.faults.hook, s.faults.hook
	for i := range s.disks {
		s.disks[i] = s.disk()
	}
	return s
}

func (s *terms) step() {
	i := s.r.IntN(len(s.nodes))
	n := s.nodes[i]
	if n == nil {
		if s.r.IntN(8) == 0 {
			s.disks[i] = s.disk()
		}
		s.nodes[i] = s.open(s.disks[i])
		return
	}
	leads := n.archive.term.Load() != nil
	switch k := s.r.IntN(12); {
	case k == 0:
		s.crash(i)
	case k == 1 && leads:
		n.archive.Resign()
	case k == 2 && leads:
		s.confirm(n)
	case k == 3 && leads:
		_ = n.log.AppendIn(n.epoch, testRows(n.log.Head(), n.epoch, 1+s.r.IntN(3)))
	case k == 4 && leads:
		s.shorten(n)
	case leads:
		s.commit(n)
	case k < 4:
		s.catchUp(i)
	case k < 7:
		s.lead(i)
	}
}

// open starts a node, as often as it takes.
func (s *terms) open(path string) *member {
	cfg := s.nodeConfig(path)
	cfg.minAge, cfg.SnapshotRetention, cfg.RetentionTime = -1, 1, -1
	for range 20 {
		n, err := s.tryMember(cfg)
		if err == nil {
			return n
		}
		if !errors.Is(err, ErrFenced) && !errors.Is(err, ErrUnavailable) && !errors.Is(err, object.ErrUnavailable) {
			s.t.Fatalf("start: %v", err)
		}
	}
	s.t.Fatal("a node does not start")
	return nil
}

func (s *terms) crash(i int) {
	s.nodes[i].kill()
	s.nodes[i] = nil
}

// holds complains unless a log holds every committed row.
func (s *terms) holds(n *member, when string) {
	rows := make(map[sqllog.ID]sqllog.Row)
	for _, row := range rowsOf(s.t, n.log) {
		rows[row.ID] = row
	}
	for id, want := range s.acked {
		if got := rows[id]; !sameRow(&got, &want) {
			s.t.Fatalf("%s: row %d of epoch %d was committed; the log has %+v", when, id, want.Epoch, got)
		}
	}
}

func (s *terms) lead(i int) {
	n := s.nodes[i]
	c, err := n.control.Raise(s.t.Context(), n.log.Promised(), elect.Majority)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Duration(1+s.r.IntN(3000))*time.Millisecond)
	_, err = n.archive.Lead(ctx, c.Epoch)
	cancel()
	switch {
	case err == nil:
		s.count["lead"]++
		n.epoch = c.Epoch
		n.archive.Start(n.archive.chain.Load().End)
		s.holds(n, fmt.Sprintf("primary of epoch %d", c.Epoch))
	case errors.Is(err, ErrReplaced):
		s.count["replaced"]++
		s.crash(i)
	case errors.Is(err, ErrCorruptChain), errors.Is(err, ErrMissingRows):
		s.t.Fatalf("lead: %v", err)
	default:
		s.count["not led"]++
	}
}

func (s *terms) catchUp(i int) {
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	err := s.nodes[i].archive.CatchUp(ctx)
	switch {
	case err == nil:
		s.count["caught up"]++
		s.holds(s.nodes[i], "caught up")
	case errors.Is(err, ErrReplaced):
		s.count["replaced"]++
		s.crash(i)
	case errors.Is(err, ErrCorruptChain):
		s.t.Fatalf("catch up: %v", err)
	}
}

// commit writes rows. A Primary that finds itself deposed is a Replica at once, or
// soon.
func (s *terms) commit(n *member) {
	rows := testRows(n.log.Head(), n.epoch, 1+s.r.IntN(3))
	for i := range rows {
		rows[i].Value = fmt.Appendf(nil, "%s %d", n.path, s.r.Uint64())
	}
	err := n.log.AppendIn(n.epoch, rows)
	if err == nil {
		err = n.archive.Commit(rows)
	}
	if err != nil {
		s.count["not committed"]++
		if s.r.IntN(2) == 0 {
			n.archive.Resign()
		}
		return
	}
	s.count["commit"]++
	for _, row := range rows {
		if _, ok := s.acked[row.ID]; ok {
			s.t.Fatalf("row %d is committed twice", row.ID)
		}
		s.acked[row.ID] = row
	}
}

func (s *terms) confirm(n *member) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	if n.archive.Confirm(ctx) == nil {
		s.count["confirmed"]++
		s.holds(n, "a read is confirmed")
	}
}

// shorten takes a snapshot and deletes the chunks before it.
func (s *terms) shorten(n *member) {
	if (&snapshotKeeper{}).take(n.archive, n.archive.chain.Load()) == nil {
		s.count["shortened"]++
		_ = applyRetention(s.t.Context(), n.archive.cfg)
	}
}

// finish brings all nodes to one log.
func (s *terms) finish() {
	s.faults.mu.Lock()
	s.faults.rate = 0
	s.faults.mu.Unlock()
	for i, n := range s.nodes {
		if n != nil && n.archive.term.Load() != nil {
			n.archive.Resign()
		}
		if n == nil {
			s.nodes[i] = s.open(s.disks[i])
		}
	}
	for tries := 0; s.nodes[0] == nil || s.nodes[0].archive.term.Load() == nil; tries++ {
		if tries > 9 {
			s.t.Fatal("nobody leads")
		}
		if s.nodes[0] == nil {
			s.nodes[0] = s.open(s.disks[0])
		}
		s.lead(0)
	}
	s.commit(s.nodes[0])
	for i := range s.nodes {
		if i > 0 {
			if s.catchUp(i); s.nodes[i] == nil {
				s.nodes[i] = s.open(s.disks[i])
			}
			if got, want := s.nodes[i].log.Head(), s.nodes[0].log.Head(); got != want {
				s.t.Fatalf("node %d ends at %+v, the Primary at %+v", i, got, want)
			}
		}
		s.holds(s.nodes[i], "at the end")
	}
	for i := range s.nodes {
		s.crash(i)
	}
}
