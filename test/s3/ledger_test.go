package s3

import (
	"fmt"
	"slices"
	"strings"
)

// write is one request that changes the store, all of it or nothing. No change occurs in two writes.
type write struct {
	changes  []change
	revision int64 // at which it was acknowledged; 0: its outcome is unknown
	applied  int64 // revision at which the history has it; 0: not at all
}

// sight is a key as a read saw it.
type sight struct {
	key, value string
	mod        int64
}

// ledger holds what clients did since a base revision, and checks a history against it.
type ledger struct {
	base   int64 // every revision up to it is checked
	writes []*write
	sights []sight
	newest int64 // highest revision that any client was told
}

// verdict counts what a check has seen.
type verdict struct{ acknowledged, unknown, applied int }

// String says it in a sentence.
func (v verdict) String() string {
	return fmt.Sprintf("%d writes acknowledged, %d of unknown outcome of which %d were done", v.acknowledged, v.unknown, v.applied)
}

func (v verdict) add(o verdict) verdict {
	return verdict{v.acknowledged + o.acknowledged, v.unknown + o.unknown, v.applied + o.applied}
}

// check compares the history from after base to head with the ledger: each revision is one known write, whole; each
// acknowledged write is at its revision; no write is there twice; no client saw what is not there. The registers have a
// checker of their own.
func (l *ledger) check(history []event, head int64) (verdict, error) {
	if head < l.newest {
		return verdict{}, fmt.Errorf("head is revision %d, clients were told of %d", head, l.newest)
	}
	if err := contiguous(history, l.base, head); err != nil {
		return verdict{}, err
	}
	known := map[change]*write{}
	for _, w := range l.writes {
		for _, c := range w.changes {
			if other := known[c]; other != nil && other != w {
				return verdict{}, fmt.Errorf("two writes do %v: the test is wrong", c)
			}
			known[c] = w
		}
	}
	for rest := history; len(rest) > 0; {
		var one []event
		one, rest = group(rest)
		if strings.HasPrefix(one[0].key, registerPrefix) {
			continue
		}
		if err := match(one, known[one[0].change]); err != nil {
			return verdict{}, err
		}
	}
	if err := l.checkSights(history); err != nil {
		return verdict{}, err
	}
	return l.count()
}

// match finds a revision's events to be one write, as a whole.
func match(events []event, w *write) error {
	rev := events[0].revision
	switch {
	case w == nil:
		return fmt.Errorf("revision %d: nobody asked to %v", rev, events[0].change)
	case w.applied != 0:
		return fmt.Errorf("write of revision %d is at revision %d again: %v", w.applied, rev, events[0].change)
	case w.revision != 0 && w.revision != rev:
		return fmt.Errorf("write acknowledged at revision %d is at %d: %v", w.revision, rev, events[0].change)
	case len(events) != len(w.changes):
		return fmt.Errorf("revision %d has %d of %d changes of its write: %v", rev, len(events), len(w.changes), events[0].change)
	}
	for _, e := range events {
		if !slices.Contains(w.changes, e.change) {
			return fmt.Errorf("revision %d: %v is not of its write", rev, e.change)
		}
	}
	w.applied = rev
	return nil
}

func (l *ledger) checkSights(history []event) error {
	there := make(map[sight]bool, len(history))
	for _, e := range history {
		there[sight{key: e.key, value: e.value, mod: e.revision}] = true
	}
	for _, s := range l.sights {
		if s.mod > l.base && !there[s] {
			return fmt.Errorf("a client read %s of revision %d, which is not in the history", s.key, s.mod)
		}
	}
	return nil
}

func (l *ledger) count() (v verdict, err error) {
	for _, w := range l.writes {
		switch {
		case w.revision != 0 && w.applied == 0:
			return v, fmt.Errorf("write acknowledged at revision %d is lost: %v", w.revision, w.changes[0])
		case w.revision != 0:
			v.acknowledged++
		case w.applied != 0:
			v.applied++
			v.unknown++
		default:
			v.unknown++
		}
	}
	return v, nil
}
