package transfer

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// memory is a history in memory: a sink that checks what it is given, and a
// source.
type memory struct {
	rows       []sqllog.Row
	head       sqllog.Head
	compaction sqllog.Compaction
	finished   bool
	fail       error // what Add returns
}

var (
	_ Sink       = (*memory)(nil)
	_ Source     = (*memory)(nil)
	_ keyScanner = (*memory)(nil)
)

var errOrder = errors.New("the rows are out of order")

func (m *memory) Add(rows []sqllog.Row) error {
	if m.fail != nil {
		return m.fail
	}
	for i := range rows {
		r := cloneRow(&rows[i])
		if r.ID != sqllog.ID(len(m.rows)+1) || r.Epoch != firstEpoch || r.WrittenAt == 0 || m.finished {
			return errOrder
		}
		if n := len(m.rows); n > 0 && r.Revision < m.rows[n-1].Revision {
			return errOrder
		}
		m.rows = append(m.rows, r)
	}
	return nil
}

func (m *memory) Finish(head sqllog.Head, c sqllog.Compaction) error {
	m.head, m.compaction, m.finished = head, c, true
	if n := len(m.rows); head.ID < sqllog.ID(n) || n > 0 && head.Revision < m.rows[n-1].Revision {
		return errOrder
	}
	return nil
}

func (m *memory) Head() sqllog.Head             { return m.head }
func (m *memory) Compaction() sqllog.Compaction { return m.compaction }

func (m *memory) Scan(_ context.Context, after, upTo sqllog.ID, fn func(*sqllog.Row) error) error {
	return m.scan(after, upTo, false, fn)
}

func (m *memory) ScanKeys(_ context.Context, after, upTo sqllog.ID, fn func(*sqllog.Row) error) error {
	return m.scan(after, upTo, true, fn)
}

func (m *memory) scan(after, upTo sqllog.ID, keys bool, fn func(*sqllog.Row) error) error {
	for i := range m.rows {
		if m.rows[i].ID <= after || m.rows[i].ID > upTo {
			continue
		}
		r := cloneRow(&m.rows[i])
		if r.ValueSize = int64(len(r.Value)); keys {
			r.Value = nil
		}
		err := fn(&r)
		for i := range r.Key { // the bytes are not the callee's
			r.Key[i] = 'X'
		}
		for i := range r.Value {
			r.Value[i] = 'X'
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func cloneRow(r *sqllog.Row) sqllog.Row {
	c := *r
	c.Key, c.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
	return c
}

// random makes a history of n revisions, compacted to a revision (0: not), with
// garbage still in it.
func random(t testing.TB, seed uint64, n int, compact sqllog.Revision) *memory {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 3))
	m := &memory{}
	b := newBuilder(context.Background(), m, compact)
	for id := range rng.Int64N(5) {
		ok(t, b.addLease(1+id*2, 10+id))
	}
	ok(t, b.addLease(-3, 9))
	live := map[string]*mvccpb.KeyValue{}
	for rev := sqllog.Revision(2); rev < sqllog.Revision(n+2); rev++ {
		for sub := range 1 + rng.Int64N(3) {
			key := string([]byte{'a' + byte(sub), byte(rng.IntN(6)), 0xff})
			c := change{rev: rev, sub: sub, kv: &mvccpb.KeyValue{Key: []byte(key)}}
			old := live[key]
			if c.deleted = old != nil && rng.IntN(3) == 0; c.deleted {
				delete(live, key)
			} else {
				c.kv.ModRevision, c.kv.CreateRevision, c.kv.Version = int64(rev), int64(rev), 1
				if old != nil {
					c.kv.CreateRevision, c.kv.Version = old.CreateRevision, old.Version+1
				}
				c.kv.Value, c.kv.Lease = randomValue(rng), rng.Int64N(4)
				live[key] = c.kv
			}
			ok(t, b.addChange(c))
		}
	}
	s, err := b.finish(0)
	ok(t, err)
	if s.Keys != int64(len(live)) {
		t.Fatalf("the summary counts %d keys of %d", s.Keys, len(live))
	}
	return m
}

func randomValue(rng *rand.Rand) []byte {
	size := rng.IntN(30)
	if rng.IntN(40) == 0 {
		size = 10_000
	}
	v := make([]byte, size)
	for i := range v {
		v[i] = byte(rng.Uint32())
	}
	return v
}

// scrubbed is the same history without the first n of the rows that compaction
// has made garbage.
func (m *memory) scrubbed(n int) *memory {
	newest := map[string]sqllog.ID{}
	for _, r := range m.rows {
		if r.Kind.Changes() && r.Revision <= m.compaction.Revision {
			newest[string(r.Key)] = r.ID
		}
	}
	out := &memory{head: m.head, compaction: m.compaction}
	for _, r := range m.rows {
		garbage := r.Kind.Changes() && r.Revision <= m.compaction.Revision &&
			(r.Kind == sqllog.KindDelete || newest[string(r.Key)] != r.ID)
		if garbage && n > 0 {
			n--
			continue
		}
		out.rows = append(out.rows, r)
	}
	return out
}

// withCompactRow is the same history where a row says what was compacted.
func (m *memory) withCompactRow() *memory {
	out := &memory{head: m.head, rows: slices.Clone(m.rows)}
	out.head.ID++
	out.compaction.Revision = m.compaction.Revision / 2 // an older one
	out.rows = append(out.rows, sqllog.Row{
		ID: out.head.ID, Epoch: firstEpoch, Revision: m.head.Revision, Kind: sqllog.KindCompact,
		CreateRevision: m.compaction.Revision, Value: sqllog.EncodeDeleted(m.compaction.Deleted),
	})
	return out
}

// wantHistory compares what matters of two histories; want may have garbage.
func wantHistory(t *testing.T, got, want *memory) {
	t.Helper()
	if got.head.Revision != want.head.Revision || got.compaction.Revision != want.compaction.Revision ||
		len(got.compaction.Deleted) != len(want.compaction.Deleted) {
		t.Fatalf("head %+v, %+v; want %+v, %+v", got.head, got.compaction, want.head, want.compaction)
	}
	for i, d := range want.compaction.Deleted {
		if g := got.compaction.Deleted[i]; g.Sub != d.Sub || !bytes.Equal(g.Key, d.Key) {
			t.Fatalf("deleted key %d is %+v, want %+v", i, g, d)
		}
	}
	all := want.scrubbed(1 << 30).rows
	for _, d := range want.compaction.Deleted {
		all = append(all, sqllog.Row{Kind: sqllog.KindDelete, Revision: want.compaction.Revision, Sub: d.Sub, Key: d.Key})
	}
	slices.SortStableFunc(all, func(a, b sqllog.Row) int {
		return int(a.Revision-b.Revision)*1000 + int(a.Sub-b.Sub)
	})
	if len(got.rows) != len(all) {
		t.Fatalf("%d rows, want %d", len(got.rows), len(all))
	}
	for i, w := range all {
		g := got.rows[i]
		g.ID, g.Epoch, g.WrittenAt, g.PrevRevision = w.ID, w.Epoch, w.WrittenAt, w.PrevRevision
		if g.Kind != w.Kind || g.Revision != w.Revision || g.Sub != w.Sub || !bytes.Equal(g.Key, w.Key) ||
			!bytes.Equal(g.Value, w.Value) || g.CreateRevision != w.CreateRevision || g.Version != w.Version || g.Lease != w.Lease {
			t.Fatalf("row %d is\n%+v, want\n%+v", i, g, w)
		}
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantFiles fails if a folder has other files than those named.
func wantFiles(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	ok(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, names) {
		t.Fatalf("the folder %s has %q, want %q", filepath.Base(dir), got, names)
	}
}
