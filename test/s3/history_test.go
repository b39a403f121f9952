package s3

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// pageKeys is how many keys one Range asks for.
const pageKeys = 5000

// change is what a write does to one key.
type change struct {
	key, value string
	deleted    bool
}

// String shows the change without the rest of a long value.
func (c change) String() string {
	if c.deleted {
		return "delete " + c.key
	}
	return fmt.Sprintf("put %s=%.40s", c.key, c.value)
}

// event is a change that the store tells of. For a delete create and version are 0.
type event struct {
	change
	revision, create, version int64
}

func eventOf(ev *clientv3.Event) event {
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

// apply adds events and checks what they say of the keys' lives.
func (s state) apply(events []event) error {
	for _, e := range events {
		old, found := s[e.key]
		if e.deleted {
			if !found {
				return fmt.Errorf("%v at %d: the key did not exist", e.change, e.revision)
			}
			delete(s, e.key)
			continue
		}
		want := record{value: e.value, create: e.revision, mod: e.revision, version: 1}
		if found {
			want.create, want.version = old.create, old.version+1
		}
		if e.create != want.create || e.version != want.version {
			return fmt.Errorf("%v at %d: create revision %d and version %d, want %d and %d", e.change, e.revision, e.create, e.version, want.create, want.version)
		}
		s[e.key] = want
	}
	return nil
}

// same compares the state with all keys that the store shows.
func (s state) same(shown map[string]record) error {
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

// revision returns the store's revision by a linearizable read.
func revision(ctx context.Context, c *clientv3.Client) (int64, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	resp, err := c.Get(ctx, "\x00", clientv3.WithCountOnly())
	if err != nil {
		return 0, fmt.Errorf("read revision: %w", err)
	}
	return resp.Header.Revision, nil
}

// readAll reads all keys at a revision, in pages.
func readAll(ctx context.Context, c *clientv3.Client, rev int64) (map[string]record, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	from := "\x00"
	found := map[string]record{}
	for {
		resp, err := c.Get(ctx, from, clientv3.WithFromKey(), clientv3.WithRev(rev), clientv3.WithLimit(pageKeys))
		if err != nil {
			return nil, fmt.Errorf("read keys from %q: %w", from, err)
		}
		for _, kv := range resp.Kvs {
			found[string(kv.Key)] = recordOf(kv)
			from = string(kv.Key) + "\x00"
		}
		if !resp.More {
			return found, nil
		}
	}
}

// replay reads the history from after base up to head. Every revision of these stores has an event.
func replay(ctx context.Context, c *clientv3.Client, base, head int64) ([]event, error) {
	f := newFollower(base)
	ctx, cancel := within(ctx)
	defer cancel()
	watching, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- f.stay(watching, c) }()
	err := f.await(ctx, head)
	stop()
	if stayed := <-ended; stayed != nil {
		return nil, fmt.Errorf("read history after %d: %w", base, stayed)
	}
	if err != nil {
		return nil, fmt.Errorf("read history after %d: %w", base, err)
	}
	return f.upTo(head), nil
}
