package s3snap

import (
	"context"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// TestFirstNodeBegins: one node alone is a cluster, and others find what it has
// written.
func TestFirstNodeBegins(t *testing.T) {
	w := newWorld(t)
	a := w.member(w.disk())
	want := elect.Cluster{Rule: elect.Majority, RuleBefore: elect.Majority, Members: []elect.NodeID{elect.NodeID(a.log.Identity().Node)}}
	if c := w.mustRead(); !reflect.DeepEqual(c, want) {
		t.Fatalf("%+v, want %+v", c, want)
	}
	if head := a.log.Head(); head.ID != 0 || a.archive.Uploaded() != 0 {
		t.Fatalf("a Replica has written: %+v", head)
	}
	a.lead()
	a.commit(3)
	rows := rowsOf(t, a.log)
	if rows[0].Kind != sqllog.KindEpoch || rows[0].Epoch != 1 || len(rows) != 4 {
		t.Fatalf("%+v", rows)
	}
	b := w.member(w.disk())
	sameLogs(t, b, a)
	if c := w.mustRead(); len(c.Members) != 1 || b.log.Identity().Cluster != testCluster {
		t.Fatalf("%+v, %+v", c, b.log.Identity())
	}
	if b.log.Promised() != 1 {
		t.Fatalf("a log with rows of epoch 1 promises %d", b.log.Promised())
	}
}

// TestLeadBringsLogAndChainTogether: what the log lacks is taken over, what the
// chain lacks is uploaded, and the older Primary is told.
func TestLeadBringsLogAndChainTogether(t *testing.T) {
	w := newWorld(t)
	a, b := w.member(w.disk()), w.member(w.disk())
	a.lead()
	a.commit(5)
	backlog := a.append(4)
	b.catchUp()
	if got := b.log.Head().ID; got != 6 || b.archive.Uploaded() != 6 {
		t.Fatalf("caught up to %d, uploaded %d", got, b.archive.Uploaded())
	}
	// b is a Replica that has got the rest from its Primary.
	if err := b.log.AppendIn(1, backlog); err != nil {
		t.Fatal(err)
	}
	b.lead()
	if head := b.log.Head(); head.ID != 11 || head.Epoch != 2 || b.archive.Uploaded() != 11 {
		t.Fatalf("%+v, uploaded %d", head, b.archive.Uploaded())
	}
	err := a.archive.Commit(a.append(1))
	wantErr(t, err, ErrResigned, "the older Primary's write")
	wantErr(t, err, ErrFenced, "the older Primary's write")
	if err := within(t, a.deposed, "deposed"); !hasText(err, "epoch 1: ") {
		t.Fatal(err)
	}
	wantErr(t, a.archive.Confirm(t.Context()), ErrFenced, "the older Primary's read")
	wantErr(t, a.archive.Err(), ErrFenced, "its health")
	a.archive.Resign()
	a.archive.Resign()
	if err := a.archive.Err(); err != nil || len(a.deposed) != 0 || len(a.fatal) != 0 {
		t.Fatalf("%v, deposed %d times more", err, len(a.deposed))
	}
	b.commit(3)
	a.lead()
	sameLogs(t, a, w.member(w.disk()))
	if head := a.log.Head(); head.Epoch != 3 || head.ID != 15 {
		t.Fatalf("%+v", head)
	}
	if aside, err := filepath.Glob(a.path + ".aside-11-11-*.chunk"); err != nil || len(aside) != 1 {
		t.Fatalf("set aside: %v, %v", aside, err)
	}
	a.commit(1)
}

// TestLeadWhereTheEpochIsTaken: rows of the epoch, or a higher one, end the attempt,
// and none of them is taken over.
func TestLeadWhereTheEpochIsTaken(t *testing.T) {
	w := newWorld(t)
	a, b := w.member(w.disk()), w.member(w.disk())
	a.lead()
	a.commit(2)
	c, err := a.control.Raise(t.Context(), 0, elect.Majority)
	if err != nil {
		t.Fatal(err)
	}
	a.archive.Resign()
	if err := a.leadIn(c.Epoch); err != nil {
		t.Fatal(err)
	}
	for _, e := range []sqllog.Epoch{1, 2} {
		before := w.chunksOf()
		wantErr(t, b.leadIn(e), ErrFenced, "leads where the epoch is taken")
		if head := b.log.Head(); head.Epoch >= e || w.chunksOf() != before {
			t.Fatalf("epoch %d: %+v, %d chunks", e, head, w.chunksOf())
		}
	}
	// Nor by a process that comes back.
	a.archive.Resign()
	wantErr(t, a.leadIn(c.Epoch), ErrFenced, "leads the same epoch again")
	wantErr(t, b.leadIn(9), ErrCorruptChain, "leads an epoch that nobody asked for")
	b.archive.Resign()
}

// TestLeadWhereAHigherEpochIsPromised writes nothing.
func TestLeadWhereAHigherEpochIsPromised(t *testing.T) {
	w := newWorld(t)
	a := w.member(w.disk())
	for _, when := range []string{"before", "meanwhile"} {
		c, err := a.control.Raise(t.Context(), a.log.Promised(), elect.Majority)
		if err != nil {
			t.Fatal(err)
		}
		promise := func() {
			if _, err := a.log.Promise(c.Epoch + 1); err != nil {
				t.Error(err)
			}
		}
		if when == "before" {
			promise()
		} else {
			w.between(chunkKey(1), promise)
		}
		wantErr(t, a.leadIn(c.Epoch), sqllog.ErrPromised, when)
		if head := a.log.Head(); head.ID != 0 {
			t.Fatalf("%s: %+v", when, head)
		}
		wantErr(t, a.archive.Commit(testRows(start, 1, 1)), ErrResigned, when)
	}
	// The epoch row is in the chain, and in nobody's log.
	a.kill()
	again := w.member(a.path)
	if again.log.Identity() != a.log.Identity() {
		t.Fatal("the only voter's log is another one")
	}
	again.lead()
	if rows := rowsOf(t, again.log); len(rows) != 2 || rows[0].Epoch != 3 || rows[1].Epoch != 5 {
		t.Fatalf("%+v", rows)
	}
}

// TestOlderPrimaryThatIsBusy: where it takes the position first, its rows are taken
// over, and the next one is tried.
func TestOlderPrimaryThatIsBusy(t *testing.T) {
	w := newWorld(t)
	a := w.member(w.disk())
	a.lead()
	a.commit(2)
	b := w.member(w.disk())
	w.between(chunkKey(4), func() { a.commit(3) })
	b.lead()
	rows := rowsOf(t, b.log)
	sameRows(t, rows[:6], rowsOf(t, a.log))
	if len(rows) != 7 || rows[6].Epoch != 2 {
		t.Fatalf("%+v", rows)
	}
}

// TestOldPutTakesEffectLate: the PUT of a term that is over, of which nobody knows,
// is found and taken over.
func TestOldPutTakesEffectLate(t *testing.T) {
	w := newWorld(t)
	a := w.member(w.disk())
	a.lead()
	a.append(2)
	c := w.chain(1, sqllog.Head{ID: 1, Epoch: 1, Revision: 1})
	c.writer.Cluster = testCluster
	body, err := c.encode(rowsOf(t, a.log)[1:3], 1)
	if err != nil {
		t.Fatal(err)
	}
	b := w.member(w.disk())
	w.between(chunkKey(2), func() {
		if _, err := w.store.Put(t.Context(), chunkKey(2), body, object.Condition{IfAbsent: true}); err != nil {
			t.Error(err)
		}
	})
	b.lead()
	if head := b.log.Head(); head.ID != 4 || head.Epoch != 2 {
		t.Fatalf("%+v", head)
	}
	sameRows(t, rowsOf(t, b.log)[:3], rowsOf(t, a.log))
}

// TestResignWithAPutInFlight: the PUT is left to itself, and a commit that waits for
// it hears of it; nothing else is written.
func TestResignWithAPutInFlight(t *testing.T) {
	w := newWorld(t)
	a := w.member(w.disk())
	a.lead()
	reached, release := w.holdPut(chunkKey(2))
	rows := a.append(2)
	done, more := make(chan error, 1), make(chan error, 1)
	go func() { done <- a.archive.Commit(rows) }()
	<-reached
	rest := a.append(1)
	go func() { more <- a.archive.Commit(rest) }()
	a.archive.Resign()
	a.archive.UploadNow(rest[0].ID)
	wantErr(t, a.archive.Commit(rest), ErrResigned, "a commit after the term")
	wantErr(t, a.archive.Confirm(t.Context()), ErrResigned, "a read after the term")
	release()
	if err := within(t, done, "commit"); err != nil {
		t.Fatalf("rows whose chunk is created: %v", err)
	}
	wantErr(t, within(t, more, "commit"), ErrResigned, "rows that were not sent")
	if end := within(t, a.uploads, "upload"); end.ID != 3 || a.lastTerm.Load() != 1 || a.archive.Uploaded() != 3 {
		t.Fatalf("told of %+v in epoch %d", end, a.lastTerm.Load())
	}
	if n := w.chunksOf(); n != 2 {
		t.Fatalf("%d chunks", n)
	}
	a.lead()
	if head := a.log.Head(); head.ID != 5 || head.Epoch != 2 || a.archive.Uploaded() != 5 {
		t.Fatalf("%+v, uploaded %d", head, a.archive.Uploaded())
	}
}

// TestNextTermGivesThePutUp: an answer that never comes holds nobody.
func TestNextTermGivesThePutUp(t *testing.T) {
	for _, next := range []string{"lead", "close"} {
		t.Run(next, func(t *testing.T) {
			w := newWorld(t)
			a := w.member(w.disk())
			a.lead()
			reached := make(chan struct{}, 100)
			w.store.After = func(op object.Op, key string) error {
				if op != object.OpPut || key != chunkKey(2) {
					return nil
				}
				reached <- struct{}{}
				return object.ErrUnavailable
			}
			var down = true
			w.store.Before = func(op object.Op, key string) error {
				if op == object.OpGet && key == chunkKey(2) && down {
					return object.ErrUnavailable
				}
				return nil
			}
			rows, done := a.append(2), make(chan error, 1)
			go func() { done <- a.archive.Commit(rows) }()
			within(t, reached, "the PUT")
			a.archive.Resign()
			if next == "close" {
				a.kill()
				wantErr(t, within(t, done, "commit"), ErrResigned, "the outcome is unknown")
				return
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := a.archive.Lead(ctx, 1); err == nil {
				t.Fatal("leads without object storage")
			}
			wantErr(t, within(t, done, "commit"), ErrResigned, "the outcome is unknown")
			down = false
			a.lead()
			if head := a.log.Head(); head.ID != 4 || a.archive.Uploaded() != 4 {
				t.Fatalf("%+v, uploaded %d", head, a.archive.Uploaded())
			}
		})
	}
}

// TestUploadNow: rows go up when they are asked for, committed or not, with what is
// before them.
func TestUploadNow(t *testing.T) {
	w := newWorld(t)
	a := w.member(w.disk())
	if err := a.tryLead(); err != nil {
		t.Fatal(err)
	}
	committed := a.log.Head()
	a.archive.Start(func() sqllog.Head { return committed })
	rows := a.append(5)
	a.archive.Committed(3, 100)
	if n := w.chunksOf(); n != 1 {
		t.Fatalf("%d chunks", n)
	}
	a.archive.UploadNow(rows[2].ID)
	for end := (sqllog.Head{}); end.ID < rows[2].ID; {
		end = within(t, a.uploads, "upload")
	}
	a.archive.UploadNow(rows[4].ID + 100) // it is not there
	for end := (sqllog.Head{}); end.ID < rows[4].ID; {
		end = within(t, a.uploads, "upload")
	}
	if got := a.archive.Uploaded(); got != a.log.Head().ID {
		t.Fatalf("uploaded %d", got)
	}
	if err := a.archive.Confirm(t.Context()); err != nil {
		t.Fatalf("a read: %v", err)
	}
}

// TestUploadsEndWithThePromise: a Primary that has promised a higher epoch writes no
// chunk any more, though nobody has said Resign yet.
func TestUploadsEndWithThePromise(t *testing.T) {
	w := newWorld(t)
	a := w.member(w.disk())
	a.lead()
	rows := a.append(1)
	if _, err := a.log.Promise(7); err != nil {
		t.Fatal(err)
	}
	wantErr(t, a.archive.Commit(rows), ErrResigned, "a commit after the promise")
	if n := w.chunksOf(); n != 1 || len(a.deposed) != 0 {
		t.Fatalf("%d chunks", n)
	}
}

// TestEpochThatIsAskedForEndsTheFallback: who commits by chunks stops when another
// node is to be Primary.
func TestEpochThatIsAskedForEndsTheFallback(t *testing.T) {
	w := newWorld(t)
	a := w.member(w.disk())
	a.lead()
	a.commit(1)
	if _, err := w.control(9).Raise(t.Context(), 0, elect.Majority); err != nil {
		t.Fatal(err)
	}
	wantErr(t, within(t, a.deposed, "deposed"), ErrFenced, "deposed")
}

// TestCountersGoOnOverTerms: a new term does not begin them anew.
func TestCountersGoOnOverTerms(t *testing.T) {
	w := newWorld(t)
	a := w.member(w.disk())
	a.lead()
	a.commit(2)
	a.archive.Resign()
	a.lead()
	c := a.archive.chain.Load()
	if c.mu.Lock(); c.stats.rows != 4 || c.stats.chunks != 3 {
		t.Errorf("%+v", c.stats)
	}
	c.mu.Unlock()
}
