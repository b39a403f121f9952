package mvcc

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

func TestCompactionCancelsWatchesBehind(t *testing.T) {
	d := newDB(t, Config{})
	for range 5 {
		d.write(put("a", "1"))
	}
	s := d.stream()
	behind := s.create(from(2))
	s.create(from(5))
	d.compact(5)
	d.scrub()
	s.gets("created", "created")
	if r := s.next(); r.WatchID != behind || say(r) != "compacted 5" {
		t.Fatalf("%+v", r)
	}
	s.gets("5:put a,6:put a")
	if err := s.Cancel(behind); err != nil {
		t.Fatalf("cancel after compaction, as etcd has it: %v", err)
	}
	s.gets("canceled")
	if got := d.store.watchers(); got != 1 {
		t.Fatalf("%v watchers", got)
	}
}

// TestCompactionOvertakesDispatch: what is committed, compacted and dropped before
// the hub comes to it must still reach the watches in step.
func TestCompactionOvertakesDispatch(t *testing.T) {
	d := newStillDB(t, Config{})
	s := d.stream()
	s.create(everything)
	s.gets("created")
	for _, key := range []string{"a", "b", "c"} {
		d.write(put(key, "1"))
	}
	d.compact(4)
	d.scrub()
	d.store.hub.dispatch()
	s.gets("2:put a,3:put b,4:put c")
}

// TestCompactionTakesQueuedValues: the value of a queued event is gone from memory
// and log.
func TestCompactionTakesQueuedValues(t *testing.T) {
	d := newStillDB(t, Config{CacheBytes: 1, limits: small})
	s := d.stream()
	s.create(everything)
	s.gets("created")
	for range 4 {
		d.write(put("a", "1"))
	}
	d.store.hub.dispatch()
	d.compact(4)
	d.scrub()
	s.gets("compacted 4")
	s.nothing()
}

func TestWatchAtTheCompactedRevision(t *testing.T) {
	d := newDB(t, Config{limits: small})
	for _, key := range []string{"a", "b", "c", "d"} {
		d.write(put(key, "1"))
	}
	d.write(del("a", ""), put("b", "2"), del("c", "d"))
	d.write(put("a", "again"))
	d.compact(6)
	d.write(del("b", ""))
	check := func(when string) {
		t.Helper()
		s := d.stream()
		s.create(WatchRequest{Key: []byte{0}, FromKey: true, StartRevision: 6, PrevKV: true})
		s.gets("created")
		got := say(s.next())
		for !strings.HasSuffix(got, "8:delete b was 2") {
			got += "," + say(s.next())
		}
		if want := "6:delete a,6:put b,6:delete c,7:put a,8:delete b was 2"; got != want {
			t.Fatalf("%s: got %s", when, got)
		}
		s.Close()
	}
	check("before scrubbing")
	d.reopen()
	check("reopened before scrubbing")
	err := d.store.Scrub(nil, func() int { return 1 }, func(ids []sqllog.ID, c sqllog.Compaction) error {
		if len(d.rows()) == 8 {
			return errRemove
		}
		return d.log.Remove(ids, c)
	})
	if !errors.Is(err, errRemove) {
		t.Fatal(err)
	}
	check("half scrubbed")
	d.reopen()
	check("reopened half scrubbed")
	d.scrub()
	check("scrubbed")
	if rows := d.rows(); len(rows) != 4 { // d; b and a at 6 and 7, b's delete
		t.Fatalf("%d rows are left: %+v", len(rows), rows)
	}
	d.reopen()
	check("reopened")
	d.scrub()
	check("scrubbed again")
}

// TestCompactionDuringScrub: a newer compaction is committed while Scrub waits for
// readers. Its row must not go before what it says is recorded.
func TestCompactionDuringScrub(t *testing.T) {
	d := newDB(t, Config{})
	for range 5 {
		d.write(put("a", "1"))
	}
	d.compact(3)
	pin := d.store.pins.enter()
	over := make(chan error)
	go func() { over <- d.store.Scrub(nil, func() int { return 100 }, d.log.Remove) }()
	for d.store.pins.current.Load()&1 == pin {
		runtime.Gosched()
	}
	d.compact(5)
	d.store.pins.leave(pin)
	if err := <-over; err != nil || !d.store.ScrubDue() {
		t.Fatal(err)
	}
	d.reopen()
	if rev := d.store.CompactRevision(); rev != 5 {
		t.Fatalf("compacted to %d after reopening", rev)
	}
	d.scrub()
	if n := len(d.rows()); n != 2 || d.store.ScrubDue() {
		t.Fatalf("%d rows are left", n)
	}
	d.reopen()
	if rev := d.store.CompactRevision(); rev != 5 {
		t.Fatalf("compacted to %d after reopening", rev)
	}
}

func TestFreshStoreTakesOneCompactionToZero(t *testing.T) {
	d := newDB(t, Config{})
	d.write(put("a", "1"))
	b := &Batch{}
	if err := d.store.EvaluateCompact(b, 0); err != nil || !b.Empty() {
		t.Fatalf("first: %v, %d rows", err, len(b.Rows))
	}
	if err := d.store.EvaluateCompact(b, 0); !errors.Is(err, ErrCompacted) {
		t.Fatalf("second: %v", err)
	}
	if rev := d.store.CompactRevision(); rev != 0 {
		t.Fatalf("compacted to %d", rev)
	}
}
