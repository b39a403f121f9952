package history

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Change is what a write does to one key.
type Change struct {
	Key, Value string
	Deleted    bool
}

// String shows the change without the rest of a long value.
func (c Change) String() string {
	if c.Deleted {
		return "delete " + c.Key
	}
	return fmt.Sprintf("put %s=%.40s", c.Key, c.Value)
}

// Event is a change that the store tells of. For a delete Create and Version are 0.
type Event struct {
	Change
	Revision, Create, Version int64
}

// EventOf takes what a watch delivers.
func EventOf(ev *clientv3.Event) Event {
	e := Event{Change: Change{Key: string(ev.Kv.Key), Value: string(ev.Kv.Value), Deleted: ev.Type == clientv3.EventTypeDelete},
		Revision: ev.Kv.ModRevision}
	if !e.Deleted {
		e.Create, e.Version = ev.Kv.CreateRevision, ev.Kv.Version
	}
	return e
}

// Record is a key as a Range shows it.
type Record struct {
	Value                string
	Create, Mod, Version int64
}

// RecordOf takes what a Range delivers.
func RecordOf(kv *mvccpb.KeyValue) Record {
	return Record{Value: string(kv.Value), Create: kv.CreateRevision, Mod: kv.ModRevision, Version: kv.Version}
}

// Group returns the events of the first revision, and the rest. There must be an event.
func Group(events []Event) (first, rest []Event) {
	n := 1
	for n < len(events) && events[n].Revision == events[0].Revision {
		n++
	}
	return events[:n], events[n:]
}

// Contiguous checks that events has every revision after base up to head.
func Contiguous(events []Event, base, head int64) error {
	for len(events) > 0 {
		var first []Event
		first, events = Group(events)
		if first[0].Revision != base+1 {
			return fmt.Errorf("revision %d follows %d", first[0].Revision, base)
		}
		base++
	}
	if base != head {
		return fmt.Errorf("history ends at revision %d, head is %d", base, head)
	}
	return nil
}

// SameEvents compares two views of the same revisions.
func SameEvents(got, want []Event) error {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Errorf("event %d is %v at %d, want %v at %d", i, got[i].Change, got[i].Revision, want[i].Change, want[i].Revision)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d events, want %d", len(got), len(want))
	}
	return nil
}

// Above returns the events of revisions above base.
func Above(events []Event, base int64) []Event {
	i, _ := slices.BinarySearchFunc(events, base+1, func(e Event, rev int64) int { return cmp.Compare(e.Revision, rev) })
	return events[i:]
}

// WithPrefix returns the events of keys with a prefix.
func WithPrefix(events []Event, prefix string) (out []Event) {
	for _, e := range events {
		if strings.HasPrefix(e.Key, prefix) {
			out = append(out, e)
		}
	}
	return out
}

// State is the content of a store, by key, computed from its history.
type State map[string]Record

// Apply adds events and checks what they say of the keys' lives.
func (s State) Apply(events []Event) error {
	for _, e := range events {
		old, found := s[e.Key]
		if e.Deleted {
			if !found {
				return fmt.Errorf("%v at %d: the key did not exist", e.Change, e.Revision)
			}
			delete(s, e.Key)
			continue
		}
		want := Record{Value: e.Value, Create: e.Revision, Mod: e.Revision, Version: 1}
		if found {
			want.Create, want.Version = old.Create, old.Version+1
		}
		if e.Create != want.Create || e.Version != want.Version {
			return fmt.Errorf("%v at %d: create revision %d and version %d, want %d and %d", e.Change, e.Revision, e.Create, e.Version, want.Create, want.Version)
		}
		s[e.Key] = want
	}
	return nil
}

// Same compares the state with all keys that the store shows.
func (s State) Same(shown map[string]Record) error {
	for key, want := range s {
		if got, found := shown[key]; !found || got != want {
			return fmt.Errorf("%s is %.60v (there: %t), want %.60v", key, got, found, want)
		}
	}
	for key := range shown {
		if _, found := s[key]; !found {
			return fmt.Errorf("%s is there and should not be", key)
		}
	}
	return nil
}
