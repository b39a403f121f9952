package mvcc

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// worldTwin is a Replica: its log may hold rows that its Store was not given yet.
type worldTwin struct {
	log   worldLog
	open  func() worldLog
	store *Store
	ahead []sqllog.Row // in the log, and not applied

	watch *WatchStream
	pos   int64 // every event up to this revision was handed out
}

func (w *world) startTwin(onDisk bool) {
	t := &worldTwin{open: logOpener(w.T, onDisk)}
	t.log = t.open()
	t.store = w.loadStore(t.log, sqllog.Head{})
	w.twin = t
	w.watchTwin()
	w.Cleanup(func() {
		t.store.Close()
		w.must(t.log.Close())
	})
}

// watchTwin begins a watch of everything that the Replica applies from now on.
func (w *world) watchTwin() {
	t := w.twin
	if t.watch != nil {
		t.watch.Close()
	}
	t.watch, t.pos = t.store.NewWatchStream(), t.store.Revision()
	_, err := t.watch.Create(WatchRequest{Key: []byte{0}, FromKey: true, PrevKV: true})
	w.must(err)
}

// committed takes note of rows that the Primary's log holds.
func (w *world) committed(rows []sqllog.Row) {
	for i := range rows {
		w.ship = append(w.ship, rows[i])
		if rows[i].Kind == sqllog.KindEpoch {
			w.epochRows++
		}
		if n := len(w.epochs); n > 0 && w.epochs[n-1].Epoch == rows[i].Epoch {
			continue
		}
		w.epochs = append(w.epochs, EpochStart{Epoch: rows[i].Epoch, First: rows[i].ID})
	}
}

// whole gives the length of a random start of rows that cuts no revision in two.
func (w *world) whole(rows []sqllog.Row) int {
	n := w.IntN(len(rows) + 1)
	for n > 0 && n < len(rows) && rows[n].Kind.Changes() && rows[n].Sub > 0 {
		n++
	}
	return n
}

func (w *world) stepShip() { w.shipSome(w.whole(w.ship)) }

func (w *world) shipSome(n int) {
	w.Helper()
	rows := w.ship[:n]
	w.must(w.twin.log.Append(rows))
	for _, r := range rows {
		r.Key, r.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
		w.twin.ahead = append(w.twin.ahead, r)
	}
	w.ship = w.ship[n:]
}

func (w *world) stepApply() { w.applySome(w.whole(w.twin.ahead)) }

func (w *world) applySome(n int) {
	w.Helper()
	t := w.twin
	rows := slices.Clone(t.ahead[:n])
	w.must(t.store.Apply(rows))
	for i := range rows { // what was not to be kept
		clear(rows[i].Key)
	}
	clear(rows)
	t.ahead = t.ahead[n:]
	w.drainTwin()
}

// drainTwin compares the events of the Replica's watch with those of the model.
func (w *world) drainTwin() {
	w.Helper()
	t := w.twin
	t.store.hub.dispatch()
	compacted, upTo := t.store.compacted.Load(), t.store.Revision()
	var got []*mvccpb.Event
	for {
		r, ok, err := t.watch.poll(context.Background())
		w.must(err)
		if !ok {
			break
		}
		if r.Canceled { // behind, and overtaken by a compaction
			if n := len(got); r.CompactRevision != compacted || n > 0 && got[n-1].Kv.ModRevision+1 >= compacted {
				w.Fatalf("watch is canceled at %d: %+v", compacted, r)
			}
			w.counts["twin's watch compacted"]++
			w.watchTwin()
			return
		}
		got = append(got, r.Events...)
	}
	var want []*mvccpb.Event
	for rev := t.pos + 1; rev <= upTo; rev++ {
		for _, e := range w.com.revs[rev-1].events {
			ev := &mvccpb.Event{Kv: e.kv}
			if e.deleted {
				ev.Type = mvccpb.Event_DELETE
			}
			if e.kv.CreateRevision != rev && rev-1 >= compacted && rev > 1 {
				ev.PrevKv = w.com.state(rev - 1)[string(e.kv.Key)]
			}
			want = append(want, ev)
		}
	}
	if !slices.EqualFunc(got, want, func(a, b *mvccpb.Event) bool { return proto.Equal(a, b) }) {
		w.Fatalf("the Replica's watch got %v\nwant %v", got, want)
	}
	t.pos = upTo
}

// stepTwinEvaluate has the Replica evaluate what it then gives up, as a Primary
// does that is deposed.
func (w *world) stepTwinEvaluate() {
	s := w.twin.store
	before := state(s)
	batches := []*Batch{{}, {}}
	for _, b := range batches {
		for range w.IntN(4) {
			if a, err := s.EvaluateTxn(context.Background(), b, w.txn(s.revision)); err == nil {
				a.Release()
			}
			_, _ = s.EvaluateRevoke(b, w.anyLease())
			_, _ = s.EvaluateGrant(b, &pb.LeaseGrantRequest{ID: w.Int64N(7), TTL: 5})
			_ = s.EvaluateCompact(b, s.Revision()-w.Int64N(4))
		}
	}
	if rows := w.twin.ahead; len(rows) > 0 && !(batches[0].Empty() && batches[1].Empty()) {
		if err := s.Apply(rows); !errors.Is(err, ErrPending) {
			w.Fatal(err)
		}
	}
	s.Rollback(batches...)
	if after := state(s); after != before {
		w.Fatalf("a rollback leaves\n%s\nof\n%s", after, before)
	}
}

func (w *world) stepTwinScrub() {
	t, calls := w.twin, w.IntN(6)
	err := t.store.Scrub(nil, func() int { return 1 + w.IntN(3) }, func(ids []sqllog.ID, c sqllog.Compaction) error {
		if calls--; calls < 0 {
			return errRemove
		}
		return t.log.Remove(ids, c)
	})
	if err != nil && !errors.Is(err, errRemove) {
		w.Fatal(err)
	}
}

// stepTwinRestart loads the Replica's Store up to where it was.
func (w *world) stepTwinRestart() {
	t := w.twin
	head := t.store.Head()
	t.store.Close()
	w.must(t.log.Close())
	t.log, t.watch = t.open(), nil
	t.store = w.loadStore(t.log, head)
	if t.store.Head() != head {
		w.Fatalf("head is %+v, want %+v", t.store.Head(), head)
	}
	w.watchTwin()
}

// stepSwap makes the Replica the Primary of a new epoch, and the other way round.
func (w *world) stepSwap() {
	w.stepRollback()
	w.catchUp()
	for _, s := range w.streams {
		s.Close()
	}
	t := w.twin
	w.streams = nil
	w.log, t.log = t.log, w.log
	w.open, t.open = t.open, w.open
	w.store, t.store = t.store, w.store
	w.watchTwin()
	head := w.store.Head()
	e := head.Epoch + 1 + sqllog.Epoch(w.IntN(3))
	row := sqllog.Row{ID: head.ID + 1, Epoch: e, Revision: head.Revision, Kind: sqllog.KindEpoch, Value: []byte("node")}
	if head.ID == 0 {
		row.Epoch = 1
	}
	w.append([]sqllog.Row{row})
	w.must(w.store.Apply([]sqllog.Row{row}))
	w.store.Lead(row.Epoch)
	for id, ttl := range w.com.leases {
		w.expiry[id] = w.clock.now.Add(ttlDuration(ttl))
	}
	w.checkAll()
}

// catchUp brings the Replica to the end of the Primary's log.
func (w *world) catchUp() {
	w.Helper()
	w.shipSome(len(w.ship))
	w.applySome(len(w.twin.ahead))
}

// stepCompare brings both to the same point and compares everything.
func (w *world) stepCompare() {
	w.stepRollback()
	w.catchUp()
	t := w.twin
	whole := func() int { return 1000 }
	w.must(w.store.Scrub(nil, whole, w.log.Remove))
	w.must(t.store.Scrub(nil, whole, t.log.Remove))
	if a, b := state(w.store), state(t.store); a != b {
		w.Fatalf("the Primary has\n%s\nthe Replica\n%s", a, b)
	}
	if got := t.store.Epochs(); !slices.Equal(got, w.epochs) || !slices.Equal(w.store.Epochs(), got) {
		w.Fatalf("epochs are %v and %v, want %v", w.store.Epochs(), got, w.epochs)
	}
	for _, hash := range []func(*Store) uint32{
		func(s *Store) uint32 { h, err := s.Hash(context.Background()); w.must(err); return h },
		func(s *Store) uint32 {
			rev := s.Revision() - w.com.rev()/3
			if rev < s.CompactRevision() {
				rev = 0
			}
			h, err := s.HashKV(context.Background(), rev)
			w.must(err)
			return h.Hash
		},
	} {
		if a, b := hash(w.store), hash(t.store); a != b {
			w.Fatalf("hashes are %x and %x", a, b)
		}
	}
	all := &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}
	for rev := max(w.com.compacted, 1); rev <= w.com.rev(); rev++ {
		all.Revision = rev
		got, err := t.store.Range(context.Background(), all)
		w.must(err)
		w.sameRange(all, got, rangeState(w.com.state(rev), all, w.com.rev()))
	}
}

// state says everything that the index holds: what must be the same on two nodes
// that have scrubbed the same compactions.
func state(s *Store) string {
	var b strings.Builder
	fmt.Fprintf(&b, "revision %d, next row %d, compacted %d %d, rows %d\n",
		s.revision, s.nextID, max(s.compact, 0), s.CompactRevision(), s.Rows())
	head := s.Head()
	fmt.Fprintf(&b, "head %+v, committed %d\n", head, s.Revision())
	s.tree.Scan(func(key string, e *entry) bool {
		fmt.Fprintf(&b, "key %q:", key)
		for r := e.head.Load(); r != nil && !r.dropped; r = r.prev.Load() {
			fmt.Fprintf(&b, " %s", recordText(r))
		}
		b.WriteByte('\n')
		return true
	})
	for _, r := range s.history.from(nil, 0, math.MaxInt64, math.MaxInt) {
		switch {
		case !r.dropped:
			fmt.Fprintf(&b, "history %s\n", recordText(r))
		case r.tombstone: // a restart knows no more of it
			fmt.Fprintf(&b, "history of %q deleted at %d.%d\n", r.entry.key, r.mod, r.sub)
		}
	}
	var leases []*lease
	for _, le := range s.lessor.leases {
		leases = append(leases, le)
	}
	slices.SortFunc(leases, func(a, b *lease) int { return cmp.Compare(a.id, b.id) })
	for _, le := range leases {
		fmt.Fprintf(&b, "lease %d for %d s, row %d, %v %v:", le.id, le.ttl, le.row, le.pending, le.revoking)
		var keys []string
		for _, r := range s.lessor.attached(le, s.Revision()) {
			keys = append(keys, string(r.entry.key))
		}
		slices.Sort(keys)
		fmt.Fprintf(&b, " %q\n", keys)
	}
	dead := slices.Concat(s.scrub.rows, s.scrub.garbage)
	slices.Sort(dead)
	fmt.Fprintf(&b, "dead %v, due %v, compaction %d %v\n", dead, s.scrub.due, s.scrub.compaction.Revision, s.scrub.compaction.Deleted)
	return b.String()
}

func recordText(r *record) string {
	return fmt.Sprintf("%s[%d.%d row %d created %d version %d lease %d size %d deleted %v dropped %v]",
		r.entry.key, r.mod, r.sub, r.id, r.create, r.version, r.lease, r.size, r.tombstone, r.dropped)
}
