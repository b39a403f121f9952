package ledger

import (
	"strings"
	"testing"

	"github.com/kinsy/kinsy/test/harness/history"
	"github.com/kinsy/kinsy/test/harness/registers"
)

// done is an event of a key's first put.
func done(revision int64, key, value string) history.Event {
	return history.Event{Change: history.Change{Key: key, Value: value}, Revision: revision, Create: revision, Version: 1}
}

func asked(revision int64, changes ...history.Change) *Write {
	return &Write{Revision: revision, Changes: changes}
}

// TestLedgerFindsWhatAStoreMustNotDo gives the check of the ledger histories with a fault each.
func TestLedgerFindsWhatAStoreMustNotDo(t *testing.T) {
	a, b, c := history.Change{Key: "a", Value: "1"}, history.Change{Key: "b", Value: "2"}, history.Change{Key: "c", Value: "3"}
	for name, test := range map[string]struct {
		history []history.Event
		writes  []*Write
		sights  []Sight
		newest  int64
		want    string // empty: nothing is wrong
	}{
		"all is well": {
			history: []history.Event{done(2, "a", "1"), done(3, "b", "2"), done(3, "c", "3"), done(4, registers.Prefix+"1", "x")},
			writes:  []*Write{asked(2, a), asked(0, b, c), asked(0, history.Change{Key: "d", Deleted: true})},
			sights:  []Sight{{"b", "2", 3}}, newest: 3,
		},
		"a lost write":                {writes: []*Write{asked(2, a)}, history: []history.Event{done(2, "b", "2")}, want: "nobody asked"},
		"a lost write at the end":     {writes: []*Write{asked(2, a), asked(3, b)}, history: []history.Event{done(2, "a", "1")}, newest: 3, want: "clients were told"},
		"a write at another revision": {writes: []*Write{asked(2, b), asked(3, a)}, history: []history.Event{done(2, "a", "1"), done(3, "b", "2")}, want: "acknowledged at revision"},
		"a write twice":               {writes: []*Write{asked(0, a)}, history: []history.Event{done(2, "a", "1"), done(3, "a", "1")}, want: "again"},
		"half a write":                {writes: []*Write{asked(0, a, b)}, history: []history.Event{done(2, "a", "1")}, want: "1 of 2 changes"},
		"two writes in one revision":  {writes: []*Write{asked(2, a), asked(2, b)}, history: []history.Event{done(2, "a", "1"), done(2, "b", "2")}, want: "2 of 1 changes"},
		"a write of nobody":           {history: []history.Event{done(2, "a", "1")}, want: "nobody asked"},
		"a revision left out":         {writes: []*Write{asked(3, a)}, history: []history.Event{done(3, "a", "1")}, want: "follows"},
		"a read of nothing": {
			writes: []*Write{asked(2, a)}, history: []history.Event{done(2, "a", "1")}, sights: []Sight{{"a", "other", 2}}, want: "not in the history",
		},
	} {
		l := &Ledger{Base: 1, Writes: test.writes, Sights: test.sights, Newest: test.newest}
		head := int64(1)
		if n := len(test.history); n > 0 {
			head = test.history[n-1].Revision
		}
		_, err := l.Check(test.history, head)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// TestLedgersAreMergedAndTaken takes what a writer noted and merges it with what another one did.
func TestLedgersAreMergedAndTaken(t *testing.T) {
	a, b := history.Change{Key: "a", Value: "1"}, history.Change{Key: "b", Value: "2"}
	w := NewWriter("w", nil, nil, false, 0)
	w.Begin(a)
	l := &Ledger{Base: 1, Newest: 3}
	l.Merge(w.Take())
	l.Merge(&Ledger{Writes: []*Write{asked(3, b)}, Newest: 2})
	if again := w.Take(); len(again.Writes) > 0 {
		t.Errorf("a writer gives %v a second time", again.Writes)
	}
	v, err := l.Check([]history.Event{done(2, "a", "1"), done(3, "b", "2")}, 3)
	if want := (Verdict{Acknowledged: 1, Unknown: 1, Applied: 1}); err != nil || v != want {
		t.Errorf("%v, %v; want %v", v, err, want)
	}
	if _, err := l.Check([]history.Event{done(2, "b", "2")}, 2); err == nil {
		t.Error("a head below what clients were told is accepted")
	}
}
