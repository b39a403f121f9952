package faults

import (
	"cmp"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// change is what a write does to one key.
type change struct {
	key, value string
	deleted    bool
}

func (c change) String() string {
	if c.deleted {
		return "delete " + c.key
	}
	return "put " + c.key + "=" + c.value
}

// event is a change that the store tells of. For a delete create and version are 0.
type event struct {
	change
	revision, create, version int64
}

func eventOf(ev *mvccpb.Event) event {
	e := event{change: change{key: string(ev.Kv.Key), value: string(ev.Kv.Value), deleted: ev.Type == clientv3.EventTypeDelete},
		revision: ev.Kv.ModRevision}
	if !e.deleted {
		e.create, e.version = ev.Kv.CreateRevision, ev.Kv.Version
	}
	return e
}

// record is a key as a Range shows it.
type record struct {
	value                string
	create, mod, version int64
}

func recordOf(kv *mvccpb.KeyValue) record {
	return record{value: string(kv.Value), create: kv.CreateRevision, mod: kv.ModRevision, version: kv.Version}
}

// group returns the events of the first revision, and the rest.
func group(events []event) (first, rest []event) {
	n := 1
	for n < len(events) && events[n].revision == events[0].revision {
		n++
	}
	return events[:n], events[n:]
}

// contiguous checks that events has every revision after base up to head.
func contiguous(events []event, base, head int64) error {
	for len(events) > 0 {
		var first []event
		first, events = group(events)
		if first[0].revision != base+1 {
			return fmt.Errorf("revision %d follows %d", first[0].revision, base)
		}
		base++
	}
	if base != head {
		return fmt.Errorf("history ends at revision %d, head is %d", base, head)
	}
	return nil
}

// sameEvents compares two views of the same revisions.
func sameEvents(got, want []event) error {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Errorf("event %d is %v at %d, want %v at %d", i, got[i].change, got[i].revision, want[i].change, want[i].revision)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d events, want %d", len(got), len(want))
	}
	return nil
}

// above returns the events of revisions above base.
func above(events []event, base int64) []event {
	i, _ := slices.BinarySearchFunc(events, base+1, func(e event, rev int64) int { return cmp.Compare(e.revision, rev) })
	return events[i:]
}

// state is the content of a store, computed from its history.
type state map[string]record

// apply adds one event and checks what it says of the key's life.
func (s state) apply(e event) error {
	old, found := s[e.key]
	if e.deleted {
		if !found {
			return fmt.Errorf("%v at %d: the key did not exist", e.change, e.revision)
		}
		delete(s, e.key)
		return nil
	}
	want := record{value: e.value, create: e.revision, mod: e.revision, version: 1}
	if found {
		want.create, want.version = old.create, old.version+1
	}
	if e.create != want.create || e.version != want.version {
		return fmt.Errorf("%v at %d: create revision %d and version %d, want %d and %d", e.change, e.revision, e.create, e.version, want.create, want.version)
	}
	s[e.key] = want
	return nil
}

// same compares the state with all keys that the store shows.
func (s state) same(shown map[string]record) error {
	for key, want := range s {
		if got, found := shown[key]; !found || got != want {
			return fmt.Errorf("%s is %+v (there: %t), want %+v", key, got, found, want)
		}
	}
	for key := range shown {
		if _, found := s[key]; !found {
			return fmt.Errorf("%s is there and should not be", key)
		}
	}
	return nil
}
