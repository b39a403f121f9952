package ledger

import (
	"context"
	"fmt"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/history"
	"github.com/kinsy/kinsy/test/harness/registers"
)

// Write is one request that changes the store, all of it or nothing. No change occurs in two writes.
type Write struct {
	Changes  []history.Change
	Revision int64 // at which it was acknowledged; 0: its outcome is unknown
	applied  int64 // revision at which the history that was checked last has it; 0: not at all
}

// Sight is a key as a read saw it.
type Sight struct {
	Key, Value string
	Mod        int64
}

// Ledger holds what clients did since a base revision, and checks a history against it.
type Ledger struct {
	Base   int64 // every revision up to it is checked
	Writes []*Write
	Sights []Sight
	Newest int64 // highest revision that any client was told
}

// Merge takes over what another ledger holds, but for its base.
func (l *Ledger) Merge(o *Ledger) {
	l.Writes, l.Sights, l.Newest = append(l.Writes, o.Writes...), append(l.Sights, o.Sights...), max(l.Newest, o.Newest)
}

// Verdict counts what a check has seen: writes that were acknowledged, writes without an answer, and those of them that were
// done.
type Verdict struct{ Acknowledged, Unknown, Applied int }

// String says it in a sentence.
func (v Verdict) String() string {
	return fmt.Sprintf("%d writes acknowledged, %d of unknown outcome of which %d were done", v.Acknowledged, v.Unknown, v.Applied)
}

// Add sums up.
func (v Verdict) Add(o Verdict) Verdict {
	return Verdict{v.Acknowledged + o.Acknowledged, v.Unknown + o.Unknown, v.Applied + o.Applied}
}

// Check compares the history from after base to head with the ledger: each revision is one known write, whole; each
// acknowledged write is at its revision; no write is there twice; no client saw what is not there. The registers have a
// checker of their own.
func (l *Ledger) Check(events []history.Event, head int64) (Verdict, error) {
	if head < l.Newest {
		return Verdict{}, fmt.Errorf("head is revision %d, clients were told of %d", head, l.Newest)
	}
	if err := history.Contiguous(events, l.Base, head); err != nil {
		return Verdict{}, err
	}
	for _, w := range l.Writes {
		w.applied = 0
	}
	known := map[history.Change]*Write{}
	for _, w := range l.Writes {
		for _, c := range w.Changes {
			if other := known[c]; other != nil && other != w {
				return Verdict{}, fmt.Errorf("two writes do %v: the test is wrong", c)
			}
			known[c] = w
		}
	}
	for rest := events; len(rest) > 0; {
		var one []history.Event
		one, rest = history.Group(rest)
		if strings.HasPrefix(one[0].Key, registers.Prefix) {
			continue
		}
		if err := match(one, known[one[0].Change]); err != nil {
			return Verdict{}, err
		}
	}
	if err := l.checkSights(events); err != nil {
		return Verdict{}, err
	}
	return l.count()
}

// match finds a revision's events to be one write, as a whole.
func match(events []history.Event, w *Write) error {
	rev := events[0].Revision
	switch {
	case w == nil:
		return fmt.Errorf("revision %d: nobody asked to %v", rev, events[0].Change)
	case w.applied != 0:
		return fmt.Errorf("write of revision %d is at revision %d again: %v", w.applied, rev, events[0].Change)
	case w.Revision != 0 && w.Revision != rev:
		return fmt.Errorf("write acknowledged at revision %d is at %d: %v", w.Revision, rev, events[0].Change)
	case len(events) != len(w.Changes):
		return fmt.Errorf("revision %d has %d of %d changes of its write: %v", rev, len(events), len(w.Changes), events[0].Change)
	}
	for _, e := range events {
		if !slices.Contains(w.Changes, e.Change) {
			return fmt.Errorf("revision %d: %v is not of its write", rev, e.Change)
		}
	}
	w.applied = rev
	return nil
}

func (l *Ledger) checkSights(events []history.Event) error {
	there := make(map[Sight]bool, len(events))
	for _, e := range events {
		there[Sight{Key: e.Key, Value: e.Value, Mod: e.Revision}] = true
	}
	for _, s := range l.Sights {
		if s.Mod > l.Base && !there[s] {
			return fmt.Errorf("a client read %s of revision %d, which is not in the history", s.Key, s.Mod)
		}
	}
	return nil
}

func (l *Ledger) count() (v Verdict, err error) {
	for _, w := range l.Writes {
		switch {
		case w.Revision != 0 && w.applied == 0:
			return v, fmt.Errorf("write acknowledged at revision %d is lost: %v", w.Revision, w.Changes[0])
		case w.Revision != 0:
			v.Acknowledged++
		case w.applied != 0:
			v.Applied++
			v.Unknown++
		default:
			v.Unknown++
		}
	}
	return v, nil
}

// Verify reads the history above the ledger's base from a store and checks it. Where there are more clients, of other nodes,
// what they read up to the same revision must be the same.
func (l *Ledger) Verify(ctx context.Context, c *clientv3.Client, others ...*clientv3.Client) (Verdict, []history.Event, error) {
	head, err := history.Revision(ctx, c)
	if err != nil {
		return Verdict{}, nil, err
	}
	events, _, err := history.Replay(ctx, c, l.Base, head)
	if err != nil {
		return Verdict{}, nil, err
	}
	v, err := l.Check(events, head)
	if err != nil {
		return v, events, err
	}
	for i, other := range others {
		told, _, err := history.Replay(ctx, other, l.Base, head)
		if err == nil {
			err = history.SameEvents(told, events)
		}
		if err != nil {
			return v, events, fmt.Errorf("history by node %d (of %v): %w", i+1, other.Endpoints(), err)
		}
	}
	return v, events, nil
}
