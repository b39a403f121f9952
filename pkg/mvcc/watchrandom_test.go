package mvcc

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// crowd is writers, readers, watchers and a compactor on one Store at the same
// time.
type crowd struct {
	*db
	seed    uint64
	primary *db // the db is a Replica of it; or it is the db itself

	mu      sync.Mutex // the commit pipeline
	history []*mvccpb.Event
	ahead   []sqllog.Row // not applied
}

// commit publishes a batch, and has the Replica apply what is not yet, mostly.
func (c *crowd) commit(g *gen, b *Batch) error {
	if err := c.primary.log.Append(b.Rows); err != nil {
		return err
	}
	c.primary.store.Publish(b)
	if c.primary == c.db {
		return nil
	}
	if c.ahead = append(c.ahead, b.Rows...); g.chance(40) {
		return nil
	}
	return c.follow()
}

func (c *crowd) follow() error {
	rows := c.ahead
	c.ahead = nil
	if err := c.log.Append(rows); err != nil {
		return err
	}
	return c.store.Apply(rows)
}

// write commits one random Txn of puts and deletes, and notes its events.
func (c *crowd) writeSome(g *gen) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	g.puts = map[string]bool{}
	r := &pb.TxnRequest{}
	for range 1 + g.IntN(8) {
		if op := g.op(1, 0); op.GetRequestRange() == nil {
			if p := op.GetRequestPut(); p != nil {
				p.Lease, p.IgnoreLease, p.IgnoreValue = 0, false, false
			}
			r.Success = append(r.Success, op)
		}
	}
	b := &Batch{}
	a, err := c.primary.store.EvaluateTxn(context.Background(), b, r)
	if err != nil {
		return err
	}
	for _, rec := range b.records {
		ev := &mvccpb.Event{Kv: &mvccpb.KeyValue{}}
		rec.keyValue(ev.Kv)
		if rec.tombstone {
			ev.Type = mvccpb.Event_DELETE
		}
		ev.Kv.Value, _ = rec.cached()
		if p := c.primary.store.previous(rec); p != nil {
			ev.PrevKv = &mvccpb.KeyValue{}
			p.keyValue(ev.PrevKv)
		}
		c.history = append(c.history, ev)
	}
	if err := c.commit(g, b); err != nil {
		return err
	}
	_, err = a.Complete(context.Background())
	return err
}

// readSome reads everything at a revision that may be compacted meanwhile.
func (c *crowd) readSome(g *gen) error {
	rev := max(1, c.store.Revision()-g.Int64N(50))
	resp, err := c.store.Range(context.Background(), &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: rev})
	if errors.Is(err, ErrCompacted) {
		return nil
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	state := map[string]*mvccpb.KeyValue{}
	for _, ev := range c.history {
		if ev.Kv.ModRevision > rev {
			break
		}
		if state[string(ev.Kv.Key)] = ev.Kv; ev.Type == mvccpb.Event_DELETE {
			delete(state, string(ev.Kv.Key))
		}
	}
	want := inRange(state, []byte{0}, []byte{0})
	if !slices.EqualFunc(resp.Kvs, want, func(a, b *mvccpb.KeyValue) bool { return proto.Equal(a, b) }) {
		return fmt.Errorf("at %d of %d: %s, want %s", rev, resp.Header.Revision, describe(resp.Kvs), describe(want))
	}
	return nil
}

func (c *crowd) compactSome(g *gen) error {
	c.mu.Lock()
	b := &Batch{}
	err := c.primary.store.EvaluateCompact(b, c.primary.store.Revision()-g.Int64N(40))
	if err == nil {
		err = c.commit(g, b)
	}
	c.mu.Unlock()
	if errors.Is(err, ErrCompacted) {
		return nil
	}
	if err == nil {
		err = c.store.Scrub(nil, func() int { return 5 }, c.log.Remove)
	}
	return err
}

// crowdWatch is one watch and all that it got.
type crowdWatch struct {
	req      WatchRequest
	start    int64
	compact  int64 // it was canceled with
	open     bool  // to the end
	events   []*mvccpb.Event
	promised []crowdPromise
}

// crowdPromise is progress: the first n events were all up to a revision.
type crowdPromise struct {
	n   int
	rev int64
}

// reader is the client of one stream.
type reader struct {
	*gen
	c       *crowd
	st      *WatchStream
	asked   int
	open    map[int64]*crowdWatch
	all     []*crowdWatch
	reached int64 // progress of the stream
}

func (c *crowd) read(i uint64, done <-chan struct{}) ([]*crowdWatch, error) {
	r := &reader{gen: newGen(c.seed*100 + i), c: c, st: c.store.NewWatchStream(), open: map[int64]*crowdWatch{}}
	defer r.st.Close()
	for {
		select {
		case <-done:
			return r.all, r.finish()
		default:
		}
		if err := r.step(); err != nil {
			return nil, err
		}
		for range r.IntN(200) { // slow readers fall behind
			runtime.Gosched()
		}
	}
}

func (r *reader) step() error {
	if len(r.open) < 5 && r.chance(30) {
		if err := r.create(); err != nil {
			return err
		}
	}
	for id := range r.open {
		if r.chance(2) {
			if err := r.st.Cancel(id); err != nil && !errors.Is(err, ErrWatchNotFound) {
				return err
			}
		}
		break
	}
	return r.next()
}

// next takes one response, if there is one. Progress is always asked for; a
// request that came while a watch was still to start has no answer and is made
// again.
func (r *reader) next() error {
	if r.asked <= 0 {
		r.st.Progress()
		r.asked = 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	resp, err := r.st.Next(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		r.asked = 0
		return nil
	}
	if err != nil {
		return err
	}
	return r.take(resp)
}

// lastWatch gives a stream that has none left one to ask the progress of.
const lastWatch = 1 << 30

// finish reads until everything that was committed is there.
func (r *reader) finish() error {
	for id, w := range r.open {
		if w.req.StartRevision > r.c.store.Revision() {
			if err := r.st.Cancel(id); err != nil {
				return err
			}
		}
	}
	if _, err := r.st.Create(WatchRequest{ID: lastWatch, Key: []byte("no such key")}); err != nil {
		return err
	}
	r.open[lastWatch] = &crowdWatch{}
	for last := r.c.store.Revision(); r.reached < last; {
		if err := r.next(); err != nil {
			return err
		}
	}
	for _, w := range r.open {
		w.open = true
	}
	return nil
}

func (r *reader) create() error {
	req := WatchRequest{PrevKV: r.chance(50), NoPut: r.chance(10), NoDelete: r.chance(10)}
	req.Key, req.End = r.span()
	if req.FromKey = len(req.End) == 1 && req.End[0] == 0; req.FromKey {
		req.End = nil
	}
	switch r.IntN(3) {
	case 0:
		req.StartRevision = max(1, r.c.store.Revision()-r.Int64N(60))
	case 1:
		req.StartRevision = r.c.store.Revision() + r.Int64N(10)
	}
	w := &crowdWatch{req: req, start: req.StartRevision}
	id, err := r.st.Create(req)
	if err != nil {
		return err
	}
	if r.open[id] != nil {
		return fmt.Errorf("id %d is open", id)
	}
	r.open[id] = w
	r.all = append(r.all, w)
	return nil
}

func (r *reader) take(resp WatchResponse) error {
	w := r.open[resp.WatchID]
	switch {
	case resp.WatchID == NoWatch:
		r.asked--
		r.reached = resp.Revision
		for _, w := range r.open {
			w.promised = append(w.promised, crowdPromise{n: len(w.events), rev: resp.Revision})
		}
	case w == nil:
		return fmt.Errorf("no watch of %+v", resp)
	case resp.Created:
		if w.start == 0 {
			w.start = resp.Revision + 1
		}
	case resp.Canceled:
		w.compact = resp.CompactRevision
		delete(r.open, resp.WatchID)
	case len(resp.Events) == 0:
		return fmt.Errorf("empty response %+v", resp)
	default:
		w.events = append(w.events, resp.Events...)
	}
	return nil
}

// wants lists what the watch had to get.
func (c *crowd) wants(w *crowdWatch) []*mvccpb.Event {
	var list []*mvccpb.Event
	x := worldWatch{req: w.req}
	for _, ev := range c.history {
		filtered := (ev.Type == mvccpb.Event_PUT && w.req.NoPut) || (ev.Type == mvccpb.Event_DELETE && w.req.NoDelete)
		if ev.Kv.ModRevision >= w.start && !filtered && x.matches(string(ev.Kv.Key)) {
			list = append(list, ev)
		}
	}
	return list
}

// check compares what a watch got with what it had to get. Puts that their own
// revision has replaced may be missing after a compaction.
func (c *crowd) check(w *crowdWatch) error {
	want, next := c.wants(w), 0
	promised := w.promised
	for i := 0; ; i++ {
		for len(promised) > 0 && promised[0].n == i {
			if next < len(want) && want[next].Kv.ModRevision <= promised[0].rev && !c.replaced(want[next]) {
				return fmt.Errorf("%+v: progress %d before %v", w.req, promised[0].rev, want[next])
			}
			promised = promised[1:]
		}
		if i == len(w.events) {
			break
		}
		for next < len(want) && !sameEvent(w.req, w.events[i], want[next]) && c.replaced(want[next]) {
			next++
		}
		if next == len(want) || !sameEvent(w.req, w.events[i], want[next]) {
			return fmt.Errorf("%+v: event %d is %v, want %v", w.req, i, w.events[i], want[min(next, len(want)-1)])
		}
		next++
	}
	for next < len(want) && c.replaced(want[next]) {
		next++
	}
	reached := w.start - 1
	if n := len(w.events); n > 0 {
		reached = w.events[n-1].Kv.ModRevision
	}
	switch {
	case w.open && next < len(want):
		return fmt.Errorf("%+v lacks %v", w.req, want[next])
	case w.compact > 0 && reached+1 >= w.compact:
		return fmt.Errorf("%+v at %d was canceled with %d", w.req, reached, w.compact)
	}
	return nil
}

func (c *crowd) replaced(ev *mvccpb.Event) bool {
	after := false
	for _, other := range c.history {
		if after && other.Kv.ModRevision == ev.Kv.ModRevision && string(other.Kv.Key) == string(ev.Kv.Key) {
			return ev.Type == mvccpb.Event_PUT
		}
		after = after || other == ev
	}
	return false
}

func sameEvent(req WatchRequest, got, want *mvccpb.Event) bool {
	if got.Type != want.Type || !proto.Equal(got.Kv, want.Kv) {
		return false
	}
	if got.PrevKv == nil {
		return true // compacted, or there was none
	}
	return req.PrevKV && want.PrevKv != nil && got.PrevKv.ModRevision == want.PrevKv.ModRevision
}

// TestWatchersInACrowd: whatever happens at the same time, every watch gets each
// event from its start on, in order and once, and progress promises the truth.
func TestWatchersInACrowd(t *testing.T) { runCrowd(t, false) }

// TestWatchersOfAReplica is TestWatchersInACrowd on a Store that applies what
// another one evaluates.
func TestWatchersOfAReplica(t *testing.T) { runCrowd(t, true) }

func runCrowd(t *testing.T, replica bool) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1_000_000_000
	}
	t.Logf("seed=%d", seed)
	c := &crowd{db: newDB(t, Config{CacheBytes: 500, limits: small}), seed: seed}
	if c.primary = c.db; replica {
		c.primary = newDB(t, Config{CacheBytes: 500, limits: small})
	}
	var writers, rest sync.WaitGroup
	done := make(chan struct{})
	for i := range uint64(2) {
		writers.Go(func() {
			g := newGen(seed + i)
			for range 600 {
				if err := c.writeSome(g); err != nil {
					t.Error(err)
				}
			}
		})
	}
	background := func(seed uint64, pause int, do func(*gen) error) {
		rest.Go(func() {
			for g := newGen(seed); ; {
				select {
				case <-done:
					return
				default:
				}
				if err := do(g); err != nil {
					t.Error(err)
				}
				for range pause {
					runtime.Gosched()
				}
			}
		})
	}
	background(seed+10, 2000, c.compactSome)
	background(seed+11, 20, c.readSome)
	results := make([][]*crowdWatch, 4)
	for i := range results {
		rest.Go(func() {
			all, err := c.read(uint64(i), done)
			if err != nil {
				t.Error(err)
			}
			results[i] = all
		})
	}
	writers.Wait()
	c.mu.Lock()
	if err := c.follow(); err != nil {
		t.Error(err)
	}
	c.mu.Unlock()
	close(done)
	rest.Wait()
	for _, all := range results {
		for _, w := range all {
			if err := c.check(w); err != nil {
				t.Error(err)
			}
		}
	}
}
