package replicate

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// groupOf makes rows of an epoch, as a group.
func groupOf(e sqllog.Epoch, first sqllog.ID, n int) []sqllog.Row {
	rows := make([]sqllog.Row, n)
	for i := range rows {
		rows[i] = sqllog.Row{ID: first + sqllog.ID(i), Epoch: e}
	}
	return rows
}

func TestRecentGivesWhatFollows(t *testing.T) {
	r := newRecent(elect.Position{ID: 10, Epoch: 3})
	if n := r.after(10, 1); n.behind || len(n.frames) != 0 || n.committed != 10 || n.uploaded != 10 {
		t.Errorf("at the fence: %+v", n)
	}
	if n := r.after(4, 1); !n.behind || n.oldest != 10 {
		t.Errorf("before the fence: %+v", n)
	}
	r.add(groupOf(3, 11, 2), 100)
	r.add(groupOf(3, 13, 1), 100)
	r.add(groupOf(3, 14, 3), 100)
	if n := r.after(9, 1); !n.behind || n.oldest != 10 {
		t.Errorf("one row before the fence: %+v", n)
	}
	for id, want := range map[sqllog.ID]int{10: 3, 12: 2, 13: 1, 16: 0} {
		if n := r.after(id, 1<<20); n.behind || len(n.frames) != want {
			t.Errorf("after %d: %d frames, behind %v", id, len(n.frames), n.behind)
		}
	}
	n := r.after(12, 1) // one at least
	if len(n.frames) != 1 || n.frames[0].prev != (elect.Position{ID: 12, Epoch: 3}) || n.frames[0].last() != (elect.Position{ID: 13, Epoch: 3}) {
		t.Errorf("after 12, one frame: %+v", n.frames)
	}
}

func TestRecentWakes(t *testing.T) {
	r := newRecent(elect.Position{ID: 10, Epoch: 3})
	woken := func(what string, more chan struct{}, want bool) {
		t.Helper()
		select {
		case <-more:
			if !want {
				t.Errorf("%s wakes", what)
			}
		default:
			if want {
				t.Errorf("%s does not wake", what)
			}
		}
	}
	more := r.after(10, 1).more
	r.add(groupOf(3, 11, 1), 1)
	woken("a group", more, true)
	more = r.after(11, 1).more
	r.close()
	woken("the end", more, true)
	r.close()
	r.want(20)
	r.progress(20, 20)
	r.add(groupOf(3, 12, 1), 1)
	n := r.after(12, 1)
	woken("what comes after the end", n.more, true)
	if !n.closed {
		t.Error("the end is not told")
	}
}

// TestRecentTellsWhatIsCommitted: with the next group, at once where a Replica waits for
// it, and otherwise a little later.
func TestRecentTellsWhatIsCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecent(elect.Position{ID: 10, Epoch: 3})
		defer r.close()
		var more chan struct{}
		after := func(what string, do func(), want time.Duration) {
			t.Helper()
			more = r.after(20, 1).more
			start := time.Now()
			do()
			select {
			case <-more:
			case <-time.After(time.Minute):
			}
			if took := time.Since(start); took != want {
				t.Errorf("%s wakes after %v, want %v", what, took, want)
			}
		}
		never := time.Minute
		after("what is known", func() { r.progress(10, 9) }, never)
		after("an upload", func() { r.progress(10, 11) }, commitLag)
		after("a commit", func() { r.progress(12, 11) }, commitLag)
		after("two commits", func() { r.progress(13, 11); r.progress(14, 11) }, commitLag)
		if n := r.after(10, 1); n.committed != 14 || n.uploaded != 11 {
			t.Errorf("committed %d, uploaded %d", n.committed, n.uploaded)
		}
		after("a group after a commit", func() { r.progress(15, 11); r.add(groupOf(3, 16, 1), 1) }, 0)
		after("nothing after that", func() {}, never)
		after("a commit that a Replica waits for", func() { r.want(17); r.progress(17, 11) }, 0)
		after("one that it comes to wait for", func() { r.progress(18, 11); r.want(18) }, 0)
		after("one of which it was told", func() { r.want(18) }, never)
		after("one before what it waits for", func() { r.want(20); r.progress(19, 11) }, commitLag)
	})
}

func TestRecentForgetsTheOldest(t *testing.T) {
	r := newRecent(elect.Position{ID: 10, Epoch: 3})
	for i := range 5 {
		r.add(groupOf(3, sqllog.ID(11+i), 1), recentBytes/3)
	}
	if n := r.after(10, 1); !n.behind || n.oldest != 13 {
		t.Errorf("rows that were forgotten: behind %v, from the log up to %d", n.behind, n.oldest)
	}
	if n := r.after(13, recentBytes); len(n.frames) != 2 {
		t.Errorf("%d frames are kept", len(n.frames))
	}
	r.add(groupOf(3, 16, 1), 2*recentBytes) // one is kept, however large
	if n := r.after(15, 1); len(n.frames) != 1 || n.behind {
		t.Errorf("a large group: %+v", n)
	}
	if n := r.after(14, 1); !n.behind || n.oldest != 15 {
		t.Errorf("before a large group: %+v", n)
	}
}
