package s3snap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/s3snap/rowfile"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// testRows are rows of one epoch after a head.
func testRows(after sqllog.Head, epoch sqllog.Epoch, n int) (rows []sqllog.Row) {
	for i := range n {
		rev := after.Revision + sqllog.Revision(i) + 1
		rows = append(rows, sqllog.Row{
			ID: after.ID + sqllog.ID(i) + 1, Epoch: epoch, Revision: rev, Kind: sqllog.KindPut,
			Key: fmt.Appendf(nil, "key-%d", i), Value: []byte("value"), CreateRevision: rev, Version: 1,
		})
	}
	return rows
}

var start = sqllog.Head{Revision: 1}

func (w *world) chain(node uint64, end sqllog.Head) *Chain {
	return NewChain(w.store, Writer{Cluster: 7, Node: node, Incarnation: node + 100}, end, w.quiet)
}

func TestChunkIsWrittenAtItsPosition(t *testing.T) {
	w := newWorld(t)
	c := w.chain(1, start)
	rows := testRows(start, 1, 3)
	if err := c.Append(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	if end := c.End(); end != headOf(&rows[2]) {
		t.Fatalf("end is %+v", end)
	}
	k, err := readChunk(t.Context(), w.store, chunkKey(1))
	if err != nil {
		t.Fatal(err)
	}
	sameRows(t, k.rows, rows)
	if err := c.Append(t.Context(), testRows(start, 1, 1)); err == nil {
		t.Fatal("rows that do not follow the end were taken")
	}
}

// TestAnswersThatAreLost: whatever is answered, a PUT that took effect commits its
// rows, once.
func TestAnswersThatAreLost(t *testing.T) {
	for _, lost := range []int{1, 2, 5} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			puts := 0
			w.store.After = func(op object.Op, _ string) error {
				if op != object.OpPut {
					return nil
				}
				if puts++; puts <= lost {
					return object.ErrUnavailable
				}
				return nil
			}
			c := w.chain(1, start)
			if err := c.Append(t.Context(), testRows(start, 1, 2)); err != nil {
				t.Fatal(err)
			}
			if err := c.Append(t.Context(), testRows(c.End(), 1, 2)); err != nil {
				t.Fatal(err)
			}
			if keys := w.keys(chunkPrefix); len(keys) != 2 {
				t.Fatalf("chunks %v", keys)
			}
		})
	}
}

// TestPositionTakenBySomebodyElse: the loser is fenced for good, whether its PUT
// was refused at once or after answers that were lost.
func TestPositionTakenBySomebodyElse(t *testing.T) {
	w := newWorld(t)
	winner, loser := w.chain(1, start), w.chain(2, start)
	told := make(chan error, 2)
	loser.onFenced = func(err error) { told <- err }
	if err := winner.Append(t.Context(), testRows(start, 1, 2)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := loser.Append(t.Context(), testRows(start, 1, 2)); !errors.Is(err, ErrFenced) {
			t.Fatalf("%v, want ErrFenced", err)
		}
	}
	if err := <-told; !strings.Contains(err.Error(), "node 0000000000000001") {
		t.Fatalf("told %v, which does not name the node", err)
	}
	if err := loser.Confirm(t.Context()); !errors.Is(err, ErrFenced) || len(told) > 0 {
		t.Fatalf("%v, want ErrFenced, told once", err)
	}
}

// TestSilenceIsTold: health turns within seconds, a write waits, and goes through
// when object storage is back.
func TestSilenceIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		down := true
		var mu sync.Mutex
		w.store.Before = func(object.Op, string) error {
			mu.Lock()
			defer mu.Unlock()
			if down {
				return object.ErrUnavailable
			}
			return nil
		}
		c := w.chain(1, start)
		over := make(chan error, 1)
		go func() { over <- c.Append(t.Context(), testRows(start, 1, 1)) }()
		time.Sleep(silence - time.Second)
		if err := c.Err(); err != nil {
			t.Fatalf("after two seconds: %v", err)
		}
		time.Sleep(2 * time.Second)
		if err := c.Err(); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("after four seconds: %v", err)
		}
		mu.Lock()
		down = false
		mu.Unlock()
		if err := <-over; err != nil {
			t.Fatal(err)
		}
		if err := c.Err(); err != nil {
			t.Fatalf("after it is back: %v", err)
		}
	})
}

// TestRequestThatHangsIsTold: health does not wait for the request's own time-out.
func TestRequestThatHangsIsTold(t *testing.T) {
	for _, op := range []object.Op{object.OpPut, object.OpGet} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			release := make(chan struct{})
			w.store.Before = func(got object.Op, _ string) error {
				if got == op {
					<-release
				}
				return nil
			}
			c := w.chain(1, start)
			over := make(chan error, 1)
			if op == object.OpPut {
				go func() { over <- c.Append(t.Context(), testRows(start, 1, 1)) }()
			} else {
				go func() { over <- c.Confirm(t.Context()) }()
			}
			time.Sleep(silence + time.Second)
			if err := c.Err(); !errors.Is(err, ErrUnavailable) {
				t.Fatalf("while a %s hangs: %v", op, err)
			}
			close(release)
			if err := <-over; err != nil {
				t.Fatal(err)
			}
			if err := c.Err(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestAStopLeavesTheOutcomeOpen: Append returns, and nothing follows.
func TestAStopLeavesTheOutcomeOpen(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.store.Before = func(object.Op, string) error {
		cancel()
		return object.ErrUnavailable
	}
	c := w.chain(1, start)
	if err := c.Append(ctx, testRows(start, 1, 1)); !errors.Is(err, ErrStopped) {
		t.Fatalf("%v, want ErrStopped", err)
	}
	w.store.Before = nil
	if err := c.Append(t.Context(), testRows(start, 1, 2)); !errors.Is(err, ErrStopped) {
		t.Fatalf("other rows at the same position: %v, want ErrStopped", err)
	}
}

// TestReadsShareALook: those that arrive while one is under way wait for the next.
func TestReadsShareALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		gets := 0
		release := make(chan struct{})
		w.store.Before = func(object.Op, string) error {
			gets++
			<-release
			return nil
		}
		c := w.chain(1, start)
		c.seen, c.known = 0, true
		c.clock = func() (time.Duration, bool) { return 0, true }
		results := make(chan error, 100)
		go func() { results <- c.Confirm(t.Context()) }()
		synctest.Wait()
		for range 99 {
			go func() { results <- c.Confirm(t.Context()) }()
		}
		synctest.Wait()
		if gets != 1 || len(results) != 0 {
			t.Fatalf("%d looks, %d reads confirmed before the first was answered", gets, len(results))
		}
		release <- struct{}{}
		synctest.Wait()
		if gets != 2 || len(results) != 1 {
			t.Fatalf("%d looks, %d reads confirmed by the first", gets, len(results))
		}
		release <- struct{}{}
		synctest.Wait()
		if gets != 2 || len(results) != 100 {
			t.Fatalf("%d looks, %d reads confirmed", gets, len(results))
		}
	})
}

// TestALookSeesAnotherPrimary: before anything of this node is refused.
func TestALookSeesAnotherPrimary(t *testing.T) {
	w := newWorld(t)
	old := w.chain(1, start)
	if err := old.Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.chain(2, start).Append(t.Context(), testRows(start, 2, 1)); err != nil {
		t.Fatal(err)
	}
	if err := old.Confirm(t.Context()); !errors.Is(err, ErrFenced) {
		t.Fatalf("%v, want ErrFenced", err)
	}
}

// TestALookDuringAPUT: it waits for the PUT, since whose the position is decides.
func TestALookDuringAPUT(t *testing.T) {
	for _, taken := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			release := make(chan struct{})
			w.store.Before = func(op object.Op, _ string) error {
				if op == object.OpPut {
					<-release
				}
				return nil
			}
			c := w.chain(1, start)
			written, confirmed := make(chan error, 1), make(chan error, 1)
			go func() { written <- c.Append(t.Context(), testRows(start, 1, 2)) }()
			synctest.Wait()
			go func() { confirmed <- c.Confirm(t.Context()) }()
			synctest.Wait()
			if len(confirmed) > 0 {
				t.Fatal("confirmed before it is known whose the position is")
			}
			var want error
			if taken {
				want = ErrFenced
				plantChunk(t, w, testRows(start, 2, 1))
			}
			close(release)
			if err := <-written; !errors.Is(err, want) {
				t.Fatalf("the write: %v, want %v", err, want)
			}
			if err := <-confirmed; !errors.Is(err, want) {
				t.Fatalf("the read: %v, want %v", err, want)
			}
		})
	}
}

// plantChunk lets the chunk of another node through before the PUT that waits.
func plantChunk(t *testing.T, w *world, rows []sqllog.Row) {
	t.Helper()
	body, err := rowfile.Encode(rowfile.Header{
		Kind: rowfile.KindChunk, Cluster: 7, Node: 2, Incarnation: 102, First: rows[0].ID, Head: headOf(&rows[len(rows)-1]), Written: 1,
	}, rows)
	if err != nil {
		t.Fatal(err)
	}
	// An Upload has no condition, and no hook holds it up.
	if _, err := w.store.Upload(t.Context(), chunkKey(rows[0].ID), bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
}
