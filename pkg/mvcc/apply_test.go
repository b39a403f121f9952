package mvcc

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// pair is a Primary and a Replica.
type pair struct {
	*db
	replica *db
}

func newPair(t *testing.T, cfg Config) *pair {
	return &pair{db: newDB(t, cfg), replica: newDB(t, cfg)}
}

// take gives the rows that the Primary has committed since the last call.
func (p *pair) take() []sqllog.Row {
	p.Helper()
	after := p.replica.log.Head().ID
	rows := slices.DeleteFunc(p.db.rows(), func(r sqllog.Row) bool { return r.ID <= after })
	if err := p.replica.log.Append(rows); err != nil {
		p.Fatal(err)
	}
	return rows
}

func (p *pair) apply() {
	p.Helper()
	if err := p.replica.store.Apply(p.take()); err != nil {
		p.Fatal(err)
	}
}

func (p *pair) same() {
	p.Helper()
	if a, b := state(p.store), state(p.replica.store); a != b {
		p.Fatalf("the Primary has\n%s\nthe Replica\n%s", a, b)
	}
}

// TestApplyRefuses: rows that do not fit leave no trace, whatever came before them
// in the same call.
func TestApplyRefuses(t *testing.T) {
	p := newPair(t, Config{})
	p.grant(7, 60)
	p.write(put("a", "1"))
	p.write(put("b", "1"), leased("c", 7))
	p.compact(2)
	p.apply()
	p.grant(8, 60)
	p.write(del("b", ""), put("d", "1"))
	p.write(leased("a", 8))
	p.compact(4)
	p.revoke(7)
	p.write(put("e", "1"), put("f", "1"))
	rows := p.take() // lease 8, delete b, put d, put a, compact, delete c, lease 7, put e, put f
	for name, c := range map[string]struct {
		spoil func(r []sqllog.Row) []sqllog.Row
		want  error
	}{
		"a gap":                   {func(r []sqllog.Row) []sqllog.Row { return r[1:] }, sqllog.ErrGap},
		"a gap within":            {func(r []sqllog.Row) []sqllog.Row { return slices.Delete(r, 3, 4) }, sqllog.ErrGap},
		"an unknown kind":         {func(r []sqllog.Row) []sqllog.Row { r[8].Kind = 9; return r }, sqllog.ErrInvalidRow},
		"an epoch that goes back": {func(r []sqllog.Row) []sqllog.Row { r[0].Epoch = 2; return r }, sqllog.ErrInvalidRow},
		"a put over nothing":      {func(r []sqllog.Row) []sqllog.Row { r[8].PrevRevision = 3; return r }, ErrDiverged},
		"a put over another":      {func(r []sqllog.Row) []sqllog.Row { r[3].PrevRevision = 1; return r }, ErrDiverged},
		"a delete of nothing":     {func(r []sqllog.Row) []sqllog.Row { r[5].Key, r[5].PrevRevision = []byte("x"), 0; return r }, ErrDiverged},
		"a delete of another":     {func(r []sqllog.Row) []sqllog.Row { r[5].PrevRevision = 2; return r }, ErrDiverged},
		"a delete after it":       {func(r []sqllog.Row) []sqllog.Row { r[5].Key, r[5].PrevRevision = []byte("b"), 3; return r }, ErrDiverged},
		"a lease that there is":   {func(r []sqllog.Row) []sqllog.Row { r[6].Version = 5; return r }, ErrDiverged},
		"no lease":                {func(r []sqllog.Row) []sqllog.Row { r[6].Lease = 9; return r }, ErrDiverged},
		"a lease revoked twice":   {func(r []sqllog.Row) []sqllog.Row { r[0].Lease, r[0].Version = 7, 0; return r }, ErrDiverged},
		"an older compaction":     {func(r []sqllog.Row) []sqllog.Row { r[4].CreateRevision = 2; return r }, ErrDiverged},
		"a broken compaction":     {func(r []sqllog.Row) []sqllog.Row { r[4].Value = []byte{1}; return r }, sqllog.ErrCorrupt},
	} {
		before := state(p.replica.store)
		bad := c.spoil(slices.Clone(rows))
		if err := p.replica.store.Apply(bad); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if after := state(p.replica.store); after != before {
			t.Fatalf("%s leaves\n%s\nof\n%s", name, after, before)
		}
	}
	if err := p.replica.store.Apply(nil); err != nil {
		t.Fatal(err)
	}
	given := slices.Clone(rows)
	if err := p.replica.store.Apply(rows); err != nil {
		t.Fatal(err)
	}
	p.same()
	if !reflect.DeepEqual(rows, given) {
		t.Fatal("the rows have changed")
	}
}

// TestApplyHalfARevision: the second part of a revision is refused, and not what
// other rows of the same revision follow.
func TestApplyHalfARevision(t *testing.T) {
	p := newPair(t, Config{})
	p.grant(7, 60)
	p.write(put("a", "1"), put("b", "1"), leased("c", 7))
	p.revoke(7)
	p.write(put("d", "1"))
	rows := p.take() // lease, put a, put b, put c, delete c, lease, put d
	if err := p.replica.store.Apply(rows[:5]); err != nil {
		t.Fatal(err)
	}
	if err := p.replica.store.Apply(rows[5:]); err != nil {
		t.Fatal(err)
	}
	p.same()
	p.write(put("e", "1"), put("f", "1"))
	rows = p.take()
	if err := p.replica.store.Apply(rows[:1]); err != nil {
		t.Fatal(err)
	}
	if err := p.replica.store.Apply(rows[1:]); !errors.Is(err, sqllog.ErrInvalidRow) {
		t.Fatal(err)
	}
}

// TestApplyPending: rows that were evaluated and neither published nor rolled back
// stand in the way.
func TestApplyPending(t *testing.T) {
	p := newPair(t, Config{})
	p.write(put("a", "1"))
	rows := p.take()
	b := &Batch{}
	if _, err := p.replica.store.EvaluateGrant(b, &pb.LeaseGrantRequest{ID: 7, TTL: 5}); err != nil {
		t.Fatal(err)
	}
	if err := p.replica.store.Apply(rows); !errors.Is(err, ErrPending) {
		t.Fatal(err)
	}
	p.replica.store.Rollback(b)
	if err := p.replica.store.Apply(rows); err != nil {
		t.Fatal(err)
	}
	p.same()
}

// TestApplyLeaseAgain: on the Primary a lease is granted again only once its
// revocation is published; a Replica may get both at once.
func TestApplyLeaseAgain(t *testing.T) {
	p := newPair(t, Config{})
	p.grant(7, 60)
	p.write(leased("a", 7), leased("b", 7))
	p.revoke(7)
	p.grant(7, 30)
	p.write(leased("b", 7), leased("c", 7))
	rows := p.take()
	bad := slices.Clone(rows)
	bad[len(bad)-1].PrevRevision = 2
	if err := p.replica.store.Apply(bad); !errors.Is(err, ErrDiverged) {
		t.Fatal(err)
	}
	if err := p.replica.store.Apply(rows); err != nil {
		t.Fatal(err)
	}
	p.same()
	p.revoke(7)
	p.apply()
	p.same()
	if n := p.replica.store.lessor.count(); n != 0 {
		t.Fatalf("%d leases", n)
	}
}

// TestReplicaForgetsLeases: only a Primary looks for leases that are due, so that a
// Replica remembers none for it; once it leads it knows all that there are.
func TestReplicaForgetsLeases(t *testing.T) {
	p := newPair(t, Config{})
	for id := range int64(10) {
		p.grant(id+1, 60)
		if id > 0 {
			p.revoke(id)
		}
	}
	p.apply()
	l := &p.replica.store.lessor
	if len(l.due) != 0 {
		t.Errorf("a Replica remembers %d leases to end", len(l.due))
	}
	p.replica.store.Lead(2)
	if len(l.due) != 1 || l.due[0].lease.id != 10 {
		t.Errorf("a Primary remembers %d leases to end, want the one there is", len(l.due))
	}
}

// TestApplyCompactsItsOwnRows: a compaction may come in the same call as the rows
// it compacts; a watch in step gets their events all the same.
func TestApplyCompactsItsOwnRows(t *testing.T) {
	p := newPair(t, Config{})
	p.write(put("a", "1"))
	p.apply()
	s := p.replica.stream()
	s.create(WatchRequest{Key: []byte{0}, FromKey: true})
	s.gets("created")
	p.write(put("a", "2"))
	p.write(del("a", ""))
	p.write(put("b", "1"))
	p.compact(4)
	p.apply()
	s.gets("3:put a,4:delete a,5:put b")
	p.scrub()
	p.replica.scrub()
	p.same()
	if rows := p.replica.rows(); len(rows) != 1 || string(rows[0].Key) != "b" {
		t.Fatalf("%+v are left", rows)
	}
	p.replica.reopen()
	if rev := p.replica.store.CompactRevision(); rev != 4 {
		t.Fatalf("compacted to %d after reopening", rev)
	}
}

// TestLoadUpTo: rows above the head that Config names are left to Apply.
func TestLoadUpTo(t *testing.T) {
	p := newPair(t, Config{})
	p.write(put("a", "1"))
	p.grant(7, 60)
	p.apply()
	head := p.replica.store.Head()
	p.write(put("a", "2"))
	p.revoke(7)
	p.compact(2)
	rows := p.take()
	p.replica.cfg.Head = head
	p.replica.reopen()
	if got := p.replica.store.Head(); got != head || p.replica.store.Revision() != 2 || p.replica.store.CompactRevision() != 0 {
		t.Fatalf("loaded up to %+v, want %+v", got, head)
	}
	if err := p.replica.store.Apply(rows); err != nil {
		t.Fatal(err)
	}
	p.same()
}
