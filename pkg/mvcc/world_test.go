package mvcc

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/kinsy/kinsy/pkg/mvcc/mvcctest"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// worldLog is a log that the world can close and open again.
type worldLog interface {
	Log
	Append(rows []sqllog.Row) error
	Remove(ids []sqllog.ID, c sqllog.Compaction) error
	Rows(ctx context.Context) (int64, error)
	Close() error
}

// world drives a Store and the model side by side, step by step in one
// goroutine: the hub has no goroutine of its own, so that a seed says everything.
type world struct {
	*testing.T
	*gen
	log   worldLog
	open  func() worldLog
	store *Store
	clock *clock

	com    model // committed
	cur    model // evaluated
	groups []*worldGroup
	expiry map[int64]time.Time // of committed leases
	leases []int64             // every id ever granted

	twin      *worldTwin   // another node, which applies what is committed here
	ship      []sqllog.Row // committed, and not yet in the twin's log
	epochs    []EpochStart // of all rows committed
	epochRows int

	streams []*worldStream
	counts  map[string]int
}

// worldGroup is a batch that is not published.
type worldGroup struct {
	batch   *Batch
	after   model
	answers []worldAnswer
	granted []int64
}

type worldAnswer struct {
	answer *Answer
	want   *pb.TxnResponse
	req    *pb.TxnRequest
}

func newWorld(t *testing.T, seed uint64, onDisk bool) *world {
	w := &world{T: t, gen: newGen(seed), clock: newClock(), expiry: map[int64]time.Time{}, counts: map[string]int{}}
	w.com = newModel()
	w.cur = w.com
	w.open = logOpener(t, onDisk)
	w.start()
	w.startTwin(onDisk)
	t.Cleanup(func() {
		w.store.Close()
		w.must(w.log.Close())
	})
	return w
}

// logOpener gives what opens a log of its own, each time as it was closed.
func logOpener(t *testing.T, onDisk bool) func() worldLog {
	var memory *mvcctest.Log
	path := filepath.Join(t.TempDir(), "log.db")
	return func() worldLog {
		if onDisk {
			log, err := sqllog.Open(context.Background(), sqllog.Config{Path: path, Logger: quiet()})
			if err != nil {
				t.Fatal(err)
			}
			return log
		}
		if memory == nil {
			memory = mvcctest.New()
		} else {
			memory = memory.Reopen()
		}
		return memory
	}
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) start() {
	w.Helper()
	w.log = w.open()
	w.store = w.loadStore(w.log, sqllog.Head{})
	for id, ttl := range w.com.leases {
		w.expiry[id] = w.clock.now.Add(ttlDuration(ttl))
	}
}

func (w *world) loadStore(log Log, head sqllog.Head) *Store {
	w.Helper()
	cfg := Config{CacheBytes: 200, ProgressInterval: -1, Logger: quiet(), Now: w.clock.time, Head: head, limits: small}
	s, err := load(context.Background(), log, cfg)
	w.must(err)
	return s
}

// append makes rows durable, which are then committed.
func (w *world) append(rows []sqllog.Row) {
	w.Helper()
	w.must(w.log.Append(rows))
	w.committed(rows)
}

// group is the batch that is forming: sometimes a new one.
func (w *world) group() *worldGroup {
	if n := len(w.groups); n > 0 && (n == 3 || w.chance(70)) {
		return w.groups[n-1]
	}
	g := &worldGroup{batch: &Batch{}, after: w.cur}
	w.groups = append(w.groups, g)
	return g
}

func (w *world) evaluated(g *worldGroup, after model) {
	w.cur, g.after = after, after
	if int64(w.store.revision) != w.cur.rev() {
		w.Fatalf("evaluated revision is %d, want %d", w.store.revision, w.cur.rev())
	}
}

func (w *world) sameErr(what string, err, want error) {
	w.Helper()
	if !errors.Is(err, want) {
		w.Fatalf("%s: error is %v, want %v", what, err, want)
	}
	if err != nil {
		w.counts[err.Error()]++
	}
}

func (w *world) stepTxn() {
	g, r := w.group(), w.txn(w.cur.rev())
	want, after, wantErr := w.cur.txn(r, w.com.compacted)
	a, err := w.store.EvaluateTxn(context.Background(), g.batch, r)
	w.sameErr(r.String(), err, wantErr)
	if err != nil {
		w.evaluated(g, w.cur)
		return
	}
	if a.Wrote != (after.rev() > w.cur.rev()) {
		w.Fatalf("wrote is %v: %v", a.Wrote, r)
	}
	w.evaluated(g, after)
	g.answers = append(g.answers, worldAnswer{answer: a, want: want, req: r})
}

func (w *world) stepReadTxn() {
	r := w.txn(w.com.rev())
	if !ReadOnly(r) {
		r.Success, r.Failure = []*pb.RequestOp{opRange(w.rangeRequest(w.com.rev()))}, nil
	}
	want, _, wantErr := w.com.txn(r, w.com.compacted)
	got, err := w.store.ReadTxn(context.Background(), r)
	w.sameErr(r.String(), err, wantErr)
	if err == nil {
		w.sameTxn(r, got, want)
	}
}

func (w *world) stepRange() {
	r := w.rangeRequest(w.com.rev())
	wantErr := w.com.readable(r.Revision, w.com.rev(), w.com.compacted)
	got, err := w.store.Range(context.Background(), r)
	w.sameErr(r.String(), err, wantErr)
	if err == nil {
		rev := r.Revision
		if rev <= 0 {
			rev = w.com.rev()
		}
		w.sameRange(r, got, rangeState(w.com.state(rev), r, w.com.rev()))
	}
}

func (w *world) stepCompact() {
	g := w.group()
	rev := w.com.rev() - w.Int64N(10) + w.Int64N(3)
	if rev == 0 {
		rev = 1 // 0 is TestFreshStoreTakesOneCompactionToZero's
	}
	var want error
	switch {
	case rev <= w.cur.compacted:
		want = ErrCompacted
	case rev > w.com.rev():
		want = ErrFutureRevision
	}
	err := w.store.EvaluateCompact(g.batch, rev)
	w.sameErr("compact", err, want)
	if err == nil {
		after := w.cur
		after.compacted = rev
		w.evaluated(g, after)
	}
}

// stepCommit makes the oldest group durable and publishes it.
func (w *world) stepCommit() {
	if len(w.groups) == 0 {
		return
	}
	g := w.groups[0]
	w.groups = w.groups[1:]
	w.append(g.batch.Rows)
	w.store.Publish(g.batch)
	w.published(g)
	for _, a := range g.answers {
		got, err := a.answer.Complete(context.Background())
		w.must(err)
		w.sameTxn(a.req, got, a.want)
	}
}

func (w *world) published(g *worldGroup) {
	for id := range w.com.leases {
		if _, ok := g.after.leases[id]; !ok {
			delete(w.expiry, id)
		}
	}
	w.com = g.after
	for _, id := range g.granted {
		if ttl, ok := w.com.leases[id]; ok {
			w.expiry[id] = w.clock.now.Add(ttlDuration(ttl))
		}
	}
	if rev := w.store.Revision(); rev != w.com.rev() {
		w.Fatalf("committed revision is %d, want %d", rev, w.com.rev())
	}
}

// stepRollback undoes everything that is not published.
func (w *world) stepRollback() {
	batches := make([]*Batch, len(w.groups))
	for i, g := range w.groups {
		batches[i] = g.batch
		w.release(g)
	}
	w.store.Rollback(batches...)
	w.groups, w.cur = nil, w.com
	if w.com.compacted > 0 && !w.store.ScrubDue() {
		w.checkEntries()
	}
	if head := w.log.Head(); w.store.Head() != head || w.store.nextID != head.ID+1 {
		w.Fatalf("head is %+v, next id %d, the log's %+v", w.store.Head(), w.store.nextID, head)
	}
}

func (w *world) release(g *worldGroup) {
	for _, a := range g.answers {
		a.answer.Release()
	}
	g.answers = nil
}

// stepRestart loads a new Store. Pending groups are lost, or, as after a crash
// between fsync and answer, the oldest is there.
func (w *world) stepRestart() {
	if len(w.groups) > 0 && w.chance(50) {
		g := w.groups[0]
		w.append(g.batch.Rows)
		w.com = g.after
	}
	w.store.Close()
	w.must(w.log.Close())
	w.groups, w.streams, w.cur, w.expiry = nil, nil, w.com, map[int64]time.Time{}
	w.start()
	w.checkAll()
}

var errRemove = errors.New("removal failed")

// stepScrub frees what is compacted; often it is interrupted. It would wait for
// the answers that are not complete, so these are given up.
func (w *world) stepScrub() {
	for _, g := range w.groups {
		w.release(g)
	}
	stop := make(chan struct{})
	calls, most := 0, 1000
	if w.chance(50) {
		most = w.IntN(4)
	}
	fail := w.chance(50)
	err := w.store.Scrub(stop, func() int { return 1 + w.IntN(3) }, func(ids []sqllog.ID, c sqllog.Compaction) error {
		if calls++; calls > most {
			if fail {
				return errRemove
			}
			close(stop)
			most = 1000
		}
		return w.log.Remove(ids, c)
	})
	if err != nil {
		if !errors.Is(err, errRemove) && !errors.Is(err, ErrClosed) {
			w.Fatal(err)
		}
		if !w.store.ScrubDue() {
			w.Fatal("an interrupted Scrub is not due")
		}
		return
	}
	w.checkRows()
}

// checkRows compares the rows that are left after a whole Scrub.
func (w *world) checkRows() {
	if w.com.compacted == 0 {
		return
	}
	want := int64(len(w.com.state(w.com.compacted)) + len(w.com.leases) + w.epochRows)
	for rev := w.com.compacted + 1; rev <= w.com.rev(); rev++ {
		want += int64(len(w.com.revs[rev-1].events))
	}
	got, err := w.log.Rows(context.Background())
	w.must(err)
	if got != want || w.store.Rows() != want {
		w.Fatalf("%d rows are left, the store counts %d, want %d", got, w.store.Rows(), want)
	}
	if len(w.groups) == 0 {
		w.checkEntries()
	}
}

// checkEntries compares the keys in the tree after a whole Scrub.
func (w *world) checkEntries() {
	want := map[string]bool{}
	for key := range w.com.state(w.com.compacted) {
		want[key] = true
	}
	for _, rev := range w.com.revs[w.com.compacted:] {
		for _, e := range rev.events {
			want[string(e.kv.Key)] = true
		}
	}
	if got := w.store.keys(); got != float64(len(want)) {
		w.Fatalf("%v keys in the tree, want %d", got, len(want))
	}
}

// checkAll compares the whole state at every revision that can be read.
func (w *world) checkAll() {
	w.Helper()
	if w.store.CompactRevision() != w.com.compacted || w.store.Revision() != w.com.rev() {
		w.Fatalf("at revision %d compacted to %d, want %d and %d", w.store.Revision(), w.store.CompactRevision(), w.com.rev(), w.com.compacted)
	}
	all := &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}
	for rev := max(w.com.compacted, 1); rev <= w.com.rev(); rev++ {
		all.Revision = rev
		got, err := w.store.Range(context.Background(), all)
		w.must(err)
		w.sameRange(all, got, rangeState(w.com.state(rev), all, w.com.rev()))
	}
	w.checkLeases()
}

func (w *world) sameRange(r *pb.RangeRequest, got, want *pb.RangeResponse) {
	w.Helper()
	if !sameRange(r, got, want) {
		w.Fatalf("range %v:\n got %v\nwant %v", r, got, want)
	}
}

func (w *world) sameTxn(r *pb.TxnRequest, got, want *pb.TxnResponse) {
	w.Helper()
	if err := sameTxn(r, got, want); err != nil {
		w.Fatalf("txn %v: %v\n got %v\nwant %v", r, err, got, want)
	}
}

// sameRange compares two answers; records that are equal in the sort target may
// come in another order, and another of them may be cut off by the limit.
func sameRange(r *pb.RangeRequest, got, want *pb.RangeResponse) bool {
	if r.SortTarget == pb.RangeRequest_KEY {
		return proto.Equal(got, want)
	}
	if got.Count != want.Count || got.More != want.More || len(got.Kvs) != len(want.Kvs) || !proto.Equal(got.Header, want.Header) {
		return false
	}
	for i, kv := range got.Kvs {
		if !(r.KeysOnly && r.SortTarget == pb.RangeRequest_VALUE) && sortBy(r.SortTarget, kv, want.Kvs[i]) != 0 {
			return false
		}
		if !want.More && !slices.ContainsFunc(want.Kvs, func(o *mvccpb.KeyValue) bool { return proto.Equal(o, kv) }) {
			return false
		}
	}
	return true
}

func sameTxn(r *pb.TxnRequest, got, want *pb.TxnResponse) error {
	if got.Succeeded != want.Succeeded || len(got.Responses) != len(want.Responses) || !proto.Equal(got.Header, want.Header) {
		return errors.New("another branch or header")
	}
	for i, op := range branch(r, want.Succeeded) {
		g, w := got.Responses[i], want.Responses[i]
		same := true
		switch {
		case op.GetRequestRange() != nil:
			same = sameRange(op.GetRequestRange(), g.GetResponseRange(), w.GetResponseRange())
		case op.GetRequestTxn() != nil:
			if err := sameTxn(op.GetRequestTxn(), g.GetResponseTxn(), w.GetResponseTxn()); err != nil {
				return fmt.Errorf("operation %d: %w", i, err)
			}
		default:
			same = proto.Equal(g, w)
		}
		if !same {
			return fmt.Errorf("operation %d differs", i)
		}
	}
	return nil
}
