package mvcc

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/mvcc/mvcctest"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// newStillDB is a db whose hub matches only when it is told to.
func newStillDB(t testing.TB, cfg Config) *db {
	d := newDB(t, cfg)
	d.store.Close()
	var err error
	if d.store, err = load(context.Background(), d.log, d.cfg); err != nil {
		t.Fatal(err)
	}
	return d
}

type stream struct {
	*WatchStream
	t testing.TB
}

func (d *db) stream() *stream {
	s := &stream{WatchStream: d.store.NewWatchStream(), t: d}
	d.Cleanup(s.Close)
	return s
}

func (s *stream) create(r WatchRequest) int64 {
	s.t.Helper()
	id, err := s.Create(r)
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

func (s *stream) next() WatchResponse {
	s.t.Helper()
	r, err := s.Next(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// gets checks what comes next: "created", "canceled", "compacted 9", "progress 9",
// or the events, as in "9:put a,9:delete b".
func (s *stream) gets(want ...string) {
	s.t.Helper()
	for _, w := range want {
		if got := say(s.next()); got != w {
			s.t.Fatalf("got %q, want %q", got, w)
		}
	}
}

// nothing checks that nothing comes now.
func (s *stream) nothing() {
	s.t.Helper()
	if r, ok, err := s.poll(context.Background()); ok || err != nil {
		s.t.Fatalf("got %q, %v", say(r), err)
	}
}

func say(r WatchResponse) string {
	switch {
	case r.Created && r.Canceled:
		return "refused: " + r.CancelReason
	case r.Created:
		return "created"
	case r.Canceled && r.CompactRevision > 0:
		return fmt.Sprintf("compacted %d", r.CompactRevision)
	case r.Canceled:
		return "canceled"
	case len(r.Events) == 0:
		return fmt.Sprintf("progress %d", r.Revision)
	}
	var text string
	for _, ev := range r.Events {
		if text != "" {
			text += ","
		}
		text += fmt.Sprintf("%d:%s %s", ev.Kv.ModRevision, map[int32]string{0: "put", 1: "delete"}[int32(ev.Type)], ev.Kv.Key)
		if ev.PrevKv != nil {
			text += " was " + string(ev.PrevKv.Value)
		}
	}
	return text
}

var everything = WatchRequest{Key: []byte{0}, FromKey: true}

func from(rev int64) WatchRequest {
	return WatchRequest{Key: []byte{0}, FromKey: true, StartRevision: rev}
}

func TestWatchFromNowPastAndFuture(t *testing.T) {
	d := newStillDB(t, Config{})
	d.write(put("a", "1"))
	now, past, future := d.stream(), d.stream(), d.stream()
	now.create(WatchRequest{Key: []byte("a"), PrevKV: true})
	past.create(from(2))
	future.create(from(4))
	d.write(put("a", "2"))
	d.write(del("a", ""))
	d.store.hub.dispatch()
	now.gets("created", "3:put a was 1,4:delete a was 2")
	past.gets("created", "2:put a,3:put a,4:delete a")
	future.gets("created", "4:delete a")
}

func TestWatchFilters(t *testing.T) {
	d := newDB(t, Config{})
	s := d.stream()
	s.create(WatchRequest{Key: []byte("a"), End: []byte("c"), NoPut: true})
	d.write(put("a", "1"), put("b", "1"), put("c", "1"))
	d.write(del("a", "d"))
	s.gets("created", "3:delete a,3:delete b")
}

func TestWatchRefused(t *testing.T) {
	d := newDB(t, Config{})
	s := d.stream()
	s.create(WatchRequest{ID: 5, Key: []byte("a")})
	for _, c := range []struct {
		req WatchRequest
		err error
	}{
		{WatchRequest{ID: 5, Key: []byte("b")}, ErrWatchIDInUse},
		{WatchRequest{Key: []byte("b"), End: []byte("b")}, ErrEmptyWatchRange},
		{WatchRequest{Key: []byte("b"), End: []byte("a")}, ErrEmptyWatchRange},
		{from(-1), ErrCompacted},
	} {
		if _, err := s.Create(c.req); !errors.Is(err, c.err) {
			t.Fatalf("%+v: %v", c.req, err)
		}
	}
	s.gets("created")
	for range 2 {
		s.next()
	}
	s.gets("refused: "+ErrEmptyWatchRange.Error(), "refused: "+cancelReason(ErrCompacted))
	if got := d.store.watchers(); got != 1 {
		t.Fatalf("%v watchers", got)
	}
}

func TestWatchIDs(t *testing.T) {
	d := newDB(t, Config{})
	s := d.stream()
	var got []int64
	for _, id := range []int64{0, 1, 0, -3, 0} {
		got = append(got, s.create(WatchRequest{ID: id, Key: []byte("a")}))
	}
	if fmt.Sprint(got) != "[0 1 2 -3 3]" {
		t.Fatalf("ids are %v", got)
	}
	if err := s.Cancel(1); err != nil {
		t.Fatal(err)
	}
	if err := s.Cancel(1); !errors.Is(err, ErrWatchNotFound) {
		t.Fatal(err)
	}
	if id := s.create(WatchRequest{ID: 1, Key: []byte("b")}); id != 1 {
		t.Fatalf("id %d", id)
	}
}

// TestEventsWaitForCreated: a watch that is created while Next looks for events.
func TestEventsWaitForCreated(t *testing.T) {
	d := newStillDB(t, Config{})
	d.write(put("a", "1"))
	s := d.stream()
	s.create(WatchRequest{Key: []byte{0}, FromKey: true, StartRevision: 2, ProgressNotify: true})
	s.create(WatchRequest{Key: []byte{0}, FromKey: true, ProgressNotify: true})
	d.write(put("b", "1"))
	d.store.hub.dispatch()
	s.progressTick()
	for _, source := range []func(context.Context) (WatchResponse, bool, error){s.nextDispatched, s.nextHistory, s.nextTick} {
		if r, ok, _ := source(context.Background()); ok {
			t.Fatalf("before created: %q", say(r))
		}
	}
	s.gets("created", "created")
}

func TestCanceledWatchIsSilent(t *testing.T) {
	d := newStillDB(t, Config{})
	d.write(put("a", "1"))
	s := d.stream()
	past, now := s.create(from(2)), s.create(everything)
	d.write(put("a", "2"))
	d.store.hub.dispatch()
	for _, id := range []int64{past, now} {
		if err := s.Cancel(id); err != nil {
			t.Fatal(err)
		}
	}
	s.gets("created", "created", "canceled", "canceled")
	s.nothing()
	if n := d.store.hub.behind.Load(); n != 0 {
		t.Fatalf("%d watches are behind", n)
	}
}

// TestErrorLosesNothing: Next fails while it fetches values; the next call goes on
// with the same events.
func TestErrorLosesNothing(t *testing.T) {
	d := newStillDB(t, Config{CacheBytes: 1})
	d.write(put("a", "1"))
	s := d.stream()
	s.create(from(2))
	s.create(everything)
	d.write(put("b", "1"))
	d.store.hub.dispatch()
	s.gets("created", "created")
	broken := errors.New("disk is broken")
	fail := true
	d.log.Hook(mvcctest.Hooks{Values: func([]sqllog.ID) error {
		if fail {
			return broken
		}
		return nil
	}})
	s.Progress()
	for _, want := range []string{"3:put b", "2:put a,3:put b"} { // in step, behind
		fail = true
		if r, err := s.Next(context.Background()); !errors.Is(err, broken) {
			t.Fatalf("%q, %v", say(r), err)
		}
		fail = false
		s.gets(want)
	}
	s.gets("progress 3")
}

// TestProgressAfterSilentHistory: a watch catches up without an event for it.
func TestProgressAfterSilentHistory(t *testing.T) {
	d := newDB(t, Config{})
	for range 5 {
		d.write(put("a", "1"))
	}
	s := d.stream()
	s.create(WatchRequest{Key: []byte("other"), StartRevision: 2})
	s.gets("created")
	s.Progress()
	s.gets("progress 6")
}

func TestProgressWaitsForWhatIsQueued(t *testing.T) {
	d := newStillDB(t, Config{limits: small})
	s := d.stream()
	s.create(WatchRequest{Key: []byte("a")})
	s.create(WatchRequest{Key: []byte("b"), StartRevision: 1})
	s.gets("created", "created")
	d.write(put("a", "1"))
	d.write(put("b", "1"))
	s.Progress()
	got := map[string]bool{}
	for range 2 {
		got[say(s.next())] = true
	}
	if !got["2:put a"] || !got["3:put b"] {
		t.Fatalf("got %v", got)
	}
	s.gets("progress 3")
	s.nothing()
}

// TestProgressUnderWrites: something is always queued; a request is answered all
// the same.
func TestProgressUnderWrites(t *testing.T) {
	d := newStillDB(t, Config{limits: small})
	s := d.stream()
	s.create(everything)
	s.gets("created")
	s.Progress()
	for n := 0; ; n++ {
		d.write(put("a", "1"))
		d.write(put("b", "1"))
		d.store.hub.dispatch()
		if r := s.next(); len(r.Events) == 0 {
			return
		}
		if n == 3 {
			t.Fatal("no progress after 3 responses")
		}
	}
}

func TestPeriodicProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDB(t, Config{ProgressInterval: time.Minute})
		s := d.stream()
		s.create(WatchRequest{Key: []byte("quiet"), ProgressNotify: true})
		s.create(WatchRequest{Key: []byte("busy"), ProgressNotify: true})
		s.create(WatchRequest{Key: []byte("quiet")})
		s.gets("created", "created", "created")
		start := time.Now()
		d.write(put("busy", "1"))
		s.gets("2:put busy")
		if r := s.next(); r.WatchID != 0 || r.Revision != 2 || time.Since(start) != time.Minute {
			t.Fatalf("%+v after %v", r, time.Since(start))
		}
		ids := map[int64]bool{s.next().WatchID: true, s.next().WatchID: true}
		if !ids[0] || !ids[1] || time.Since(start) != 2*time.Minute {
			t.Fatalf("progress of %v after %v", ids, time.Since(start))
		}
		d.store.Close()
	})
}

// TestRevisionIsNeverSplit: one Txn changes more keys than a queue holds, a step
// matches, or a response should have.
func TestRevisionIsNeverSplit(t *testing.T) {
	d := newDB(t, Config{limits: small})
	s := d.stream()
	s.create(everything)
	s.create(from(3))
	s.gets("created", "created")
	var ops []*pb.RequestOp
	for i := range 100 {
		ops = append(ops, put(fmt.Sprintf("k%03d", i), "some value"))
	}
	d.write(put("a", "1"))
	d.write(ops...)
	d.write(del("k", "l"))
	got := map[int64]int{}
	for events := 0; events < 401; {
		r := s.next()
		events += len(r.Events)
		count := map[int64]int{}
		for _, ev := range r.Events {
			count[ev.Kv.ModRevision]++
		}
		for rev, n := range count {
			if want := map[int64]int{2: 1, 3: 100, 4: 100}[rev]; n != want {
				t.Fatalf("%d events of revision %d", n, rev)
			}
			got[rev]++
		}
	}
	if fmt.Sprint(got) != "map[2:1 3:2 4:2]" {
		t.Fatalf("got %v", got)
	}
}

// TestRevisionWaitsForItsDispatch: a revision is being matched while Next looks.
func TestRevisionWaitsForItsDispatch(t *testing.T) {
	d := newStillDB(t, Config{})
	s := d.stream()
	id := s.create(everything)
	s.gets("created")
	d.write(put("a", "1"), put("b", "1"))
	records := d.store.history.from(nil, 2, 2, 10)
	for _, r := range records {
		s.nothing()
		s.offer(s.watchers[id], r)
	}
	s.nothing()
	d.store.hub.dispatched.Store(2)
	s.gets("2:put a,2:put b")
}

func TestCloseWhileNextBlocks(t *testing.T) {
	for name, end := range map[string]func(*db, *WatchStream){
		"stream": func(_ *db, s *WatchStream) { s.Close() },
		"store":  func(d *db, _ *WatchStream) { d.store.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDB(t, Config{})
				s := d.store.NewWatchStream()
				if _, err := s.Create(everything); err != nil {
					t.Fatal(err)
				}
				over := make(chan error)
				go func() {
					_, err := s.Next(context.Background())
					if err == nil {
						_, err = s.Next(context.Background())
					}
					over <- err
				}()
				synctest.Wait()
				end(d, s)
				if err := <-over; !errors.Is(err, ErrClosed) {
					t.Fatal(err)
				}
				if _, err := s.Create(everything); !errors.Is(err, ErrClosed) {
					t.Fatal(err)
				}
				if err := s.Cancel(0); err == nil {
					t.Fatal("canceled a watch of a closed stream")
				}
				s.Progress()
				s.Close()
				if _, err := s.Next(context.Background()); !errors.Is(err, ErrClosed) {
					t.Fatal(err)
				}
				d.store.Close()
				if got := d.store.watchers() + d.store.watchStreams(); got != 0 {
					t.Fatalf("%v watchers and streams are left", got)
				}
				if _, err := d.store.NewWatchStream().Next(context.Background()); !errors.Is(err, ErrClosed) {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestNextEndsWithItsContext(t *testing.T) {
	d := newDB(t, Config{})
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(nil)
	if _, err := d.stream().Next(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
