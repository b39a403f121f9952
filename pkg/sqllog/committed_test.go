package sqllog

import (
	"path/filepath"
	"testing"
)

// TestCommittedIsRecorded: what was noted is recorded by the next write and told after
// a restart; of a log in which nothing was noted it is the head.
func TestCommittedIsRecorded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	reopen := func(l *Log) *Log {
		t.Helper()
		if l != nil {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		l, err := Open(t.Context(), Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	row := func(id ID) []Row {
		return []Row{{ID: id, Epoch: 1, Revision: Revision(id) + 1, Kind: KindPut, Key: []byte("k"), CreateRevision: Revision(id) + 1, Version: 1}}
	}
	want := func(l *Log, id ID) {
		t.Helper()
		if got := l.Committed().ID; got != id {
			t.Fatalf("rows up to %d are known to be committed, want %d", got, id)
		}
	}
	l := reopen(nil)
	if err := l.Append(row(1)); err != nil {
		t.Fatal(err)
	}
	l = reopen(l)
	want(l, 1) // a node on its own
	l.NoteCommitted(l.Head())
	for id := ID(2); id <= 3; id++ {
		if err := l.AppendIn(1, row(id)); err != nil {
			t.Fatal(err)
		}
	}
	l = reopen(l)
	want(l, 1)
	l.NoteCommitted(Head{ID: 2, Epoch: 1, Revision: 3})
	l.NoteCommitted(Head{ID: 1, Epoch: 1, Revision: 2}) // never goes back
	if err := l.AppendIn(1, row(4)); err != nil {
		t.Fatal(err)
	}
	l = reopen(l)
	want(l, 2)
	if err := l.Append(row(5)); err != nil { // on its own again
		t.Fatal(err)
	}
	want(reopen(l), 5)
}

// TestCommittedOfAnEmptyLog: rows that come to an empty log are not taken for committed
// by a restart.
func TestCommittedOfAnEmptyLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	l, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	l.NoteCommitted(l.Head())
	first := Row{ID: 1, Epoch: 1, Revision: 1, Kind: KindEpoch}
	if err := l.AppendIn(1, []Row{first}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = Open(t.Context(), Config{Path: path}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := l.Committed(); got != (Head{Revision: 1}) {
		t.Fatalf("committed up to %+v", got)
	}
}

// TestRemovalRecordsWhatIsCommitted, however short ago something was recorded: a start
// that showed less would miss the rows that took the place of the removed ones.
func TestRemovalRecordsWhatIsCommitted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	l, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	for id := ID(1); id <= 4; id++ {
		l.NoteCommitted(l.Head())
		if err := l.AppendIn(1, []Row{{ID: id, Epoch: 1, Revision: Revision(id) + 1, Kind: KindPut, Key: []byte("k"), CreateRevision: 2, Version: int64(id)}}); err != nil {
			t.Fatal(err)
		}
	}
	l.NoteCommitted(l.Head())
	l.mu.Lock()
	l.recordedAt = l.recordedAt.AddDate(1, 0, 0) // now, however slow the machine is
	l.mu.Unlock()
	if err := l.Remove([]ID{1, 2, 3}, Compaction{}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = Open(t.Context(), Config{Path: path}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := l.Committed().ID; got != 4 {
		t.Fatalf("rows up to %d are known to be committed, want 4", got)
	}
}
