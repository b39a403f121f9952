package s3snap

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// tripTime is what a request takes at a tripStore.
const tripTime = 10 * time.Millisecond

// tripStore takes as long for each request, in the time of a bubble: what is sent one
// after the other adds up, and nothing else does.
type tripStore struct {
	object.Store
	requests atomic.Int64
}

func (s *tripStore) trip() {
	s.requests.Add(1)
	time.Sleep(tripTime)
}

func (s *tripStore) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, object.Info, error) {
	s.trip()
	return s.Store.Get(ctx, key, offset, length)
}

// List takes a trip for each page of a thousand keys.
func (s *tripStore) List(ctx context.Context, prefix, after string, fn func(object.Info) error) error {
	s.trip()
	n := 0
	return s.Store.List(ctx, prefix, after, func(info object.Info) error {
		if n++; n%1000 == 1 && n > 1 {
			s.trip()
		}
		return fn(info)
	})
}

func (s *tripStore) Put(ctx context.Context, key string, body []byte, cond object.Condition) (string, error) {
	s.trip()
	return s.Store.Put(ctx, key, body, cond)
}

// count runs fn and returns how many requests it has sent, and how many of them one
// after the other.
func (s *tripStore) count(fn func()) (requests, trips int64) {
	began, before := time.Now(), s.requests.Load()
	fn()
	return s.requests.Load() - before, int64(time.Since(began) / tripTime)
}

// busy is how many rows a chunk of a busy cluster has: more than are looked at first.
const busy = int(nearWindow) + 500

// leadCases are what a Replica finds that becomes Primary, and what it may cost then.
var leadCases = []struct {
	name            string
	before          func(w *world, a, b *member) // a is Primary, with 3 rows that b has too
	requests, trips int64
}{
	{"in step", nil, 7, 3},
	{"after a snapshot", func(_ *world, a, _ *member) { a.snapshot() }, 8, 3},
	{"rows to upload", func(_ *world, a, b *member) { b.take(a.append(5)) }, 8, 4},
	{"chunks of a busy cluster", func(_ *world, a, b *member) {
		b.take(a.commit(busy))
		b.take(a.append(busy))
	}, 9, 4},
	{"many small chunks", func(_ *world, a, b *member) {
		for range farNames + 100 {
			b.take(a.commit(1))
			<-a.uploads
		}
	}, 8, 3},
	{"rows to take over", func(_ *world, a, _ *member) { a.commit(5) }, 9, 5},
}

// TestTripsOfATakeover: all clients wait for a new Primary, and what it asks of
// object storage is most of that where a request takes long.
func TestTripsOfATakeover(t *testing.T) {
	warm(t)
	for _, tt := range leadCases {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				a := w.member(w.disk())
				a.lead()
				cfg := w.nodeConfig(w.disk())
				trips := &tripStore{Store: w.store}
				cfg.Store = trips
				b, err := w.tryMember(cfg)
				if err != nil {
					t.Fatal(err)
				}
				b.take(a.commit(3))
				if tt.before != nil {
					tt.before(w, a, b)
				}
				a.archive.Resign()
				c, err := a.control.Raise(t.Context(), 1, elect.Majority)
				if err != nil {
					t.Fatal(err)
				}
				requests, sequence := trips.count(func() {
					if _, err := b.archive.Lead(t.Context(), c.Epoch); err != nil {
						t.Fatal(err)
					}
				})
				t.Logf("%d requests, %d one after the other", requests, sequence)
				if requests > tt.requests || sequence > tt.trips {
					t.Errorf("%d requests and %d one after the other, at most %d and %d", requests, sequence, tt.requests, tt.trips)
				}
				sameRows(t, rowsOf(t, b.log)[:4], rowsOf(t, a.log)[:4])
				a.kill()
				b.kill()
			})
		})
	}
}

// take gives a Replica rows of its Primary.
func (n *member) take(rows []sqllog.Row) {
	n.t.Helper()
	if err := n.log.AppendIn(rows[0].Epoch, rows); err != nil {
		n.t.Fatal(err)
	}
}

// TestTripsOfAnElection: who takes the Elector's lock knows cluster.json by then, and a
// Primary that hands over knows what it has read and written of it. Each wrong guess
// costs a request, and nothing else.
func TestTripsOfAnElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.voters(3, elect.Majority, 1, 2, 3)
		trips := &tripStore{Store: w.store}
		c := NewControl(trips, 1, 101, w.quiet)
		raise := func(known, want sqllog.Epoch) func() {
			return func() {
				t.Helper()
				if got, err := c.RaiseKnown(t.Context(), known, elect.Majority); err != nil || got.Epoch != want {
					t.Errorf("%+v, %v; want epoch %d", got, err, want)
				}
			}
		}
		expect := func(what string, wantRequests, wantTrips int64, fn func()) {
			t.Helper()
			if requests, sequence := trips.count(fn); requests != wantRequests || sequence != wantTrips {
				t.Errorf("%s: %d requests, %d one after the other; want %d and %d", what, requests, sequence, wantRequests, wantTrips)
			}
		}
		expect("a lock and an epoch", 4, 3, func() {
			seen, err := c.Observe(t.Context())
			if err == nil {
				_, err = c.TakeLock(t.Context(), seen)
			}
			if err != nil {
				t.Error(err)
			}
			raise(3, 4)()
		})
		expect("a hand-over", 1, 1, raise(4, 5))
		if _, err := w.control(2).Raise(t.Context(), 0, elect.Majority); err != nil {
			t.Fatal(err)
		}
		expect("what is known is old", 3, 3, raise(6, 7))
		if _, err := w.control(2).Raise(t.Context(), 0, elect.Majority); err != nil {
			t.Fatal(err)
		}
		expect("another Elector was first", 2, 2, func() {
			if got, err := c.RaiseKnown(t.Context(), 7, elect.Majority); !errors.Is(err, ErrConflict) || got.Epoch != 8 {
				t.Errorf("%+v, %v", got, err)
			}
		})
	})
}

// TestKnownObjectsAndLostAnswers: a change made from what is known, whose answer is
// lost, is recognised, and made once.
func TestKnownObjectsAndLostAnswers(t *testing.T) {
	w := newWorld(t)
	w.voters(3, elect.Majority, 1, 2, 3)
	c := w.control(1)
	for _, key := range []string{electorKey, clusterKey} {
		seen, err := c.Observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.loseAnswers(key, 1)
		held, err := c.TakeLock(t.Context(), seen)
		if err != nil || held.Seq != seen.Seq+1 {
			t.Fatalf("%s: %+v after %+v, %v", key, held, seen, err)
		}
		before := w.mustRead().Epoch
		if got, err := c.RaiseKnown(t.Context(), before, elect.Majority); err != nil || got.Epoch != before+1 || w.mustRead().Epoch != before+1 {
			t.Fatalf("%s: %+v after epoch %d, %v", key, got, before, err)
		}
		// Somebody else has taken the lock since it was observed.
		other, err := w.control(2).Observe(t.Context())
		if err == nil {
			_, err = w.control(2).TakeLock(t.Context(), other)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.TakeLock(t.Context(), held); !errors.Is(err, ErrConflict) {
			t.Fatalf("%s: a lock that is another's is taken: %v", key, err)
		}
	}
}
