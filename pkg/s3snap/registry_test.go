package s3snap

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/kinsy/kinsy/pkg/elect"
)

func TestElectorLock(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	a, b := w.control(1), w.control(2)
	free, err := a.Observe(ctx)
	if err != nil || free != (Lock{}) {
		t.Fatalf("%+v, %v", free, err)
	}
	w.loseAnswers(electorKey, 1)
	held, err := a.TakeLock(ctx, free)
	if err != nil || held.Holder != 1 || held.Incarnation != 101 {
		t.Fatalf("%+v, %v", held, err)
	}
	if _, err := b.TakeLock(ctx, free); !errors.Is(err, ErrConflict) {
		t.Fatalf("taken from what it was before: %v", err)
	}
	seen, err := b.Observe(ctx)
	if err != nil || seen != held {
		t.Fatalf("%+v, %v; want %+v", seen, err, held)
	}
	if _, err := b.Renew(ctx, seen); !errors.Is(err, ErrConflict) {
		t.Fatalf("renewed by another node: %v", err)
	}
	renewed, err := a.Renew(ctx, held)
	if err != nil || renewed == held {
		t.Fatalf("a renewal is not seen: %+v, %v", renewed, err)
	}
	if _, err := b.TakeLock(ctx, seen); !errors.Is(err, ErrConflict) {
		t.Fatalf("taken from a holder that lives: %v", err)
	}
	if held, err = b.TakeLock(ctx, renewed); err != nil || held.Holder != 2 {
		t.Fatalf("%+v, %v", held, err)
	}
	if _, err := a.Renew(ctx, renewed); !errors.Is(err, ErrConflict) {
		t.Fatalf("renewed after it was lost: %v", err)
	}
	if err := b.Release(ctx, held); err != nil {
		t.Fatal(err)
	}
	if free, err = a.Observe(ctx); err != nil || free.Holder != 0 || free.Seq != held.Seq+1 {
		t.Fatalf("%+v, %v", free, err)
	}
	again := NewControl(w.store, 1, 7, w.quiet)
	if held, err = again.TakeLock(ctx, free); err != nil || held.Incarnation != 7 {
		t.Fatalf("%+v, %v", held, err)
	}
	if _, err := a.Renew(ctx, held); !errors.Is(err, ErrConflict) {
		t.Fatalf("renewed by an earlier process of the node: %v", err)
	}
}

func TestRegistrations(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	never := func(Registration) error { t.Error("nothing was to be replaced"); return nil }
	want := []Registration{
		{Name: "a", PeerAddress: "a:2380", ClientURLs: []string{"https://a:2379"}, Version: "1", Started: 5, Promised: 4, Last: 9},
		{Name: "b", PeerAddress: "b:2380"},
	}
	for i := range want {
		self := elect.NodeID(i + 1)
		for range 2 {
			if err := w.control(self).Register(ctx, want[i], never); err != nil {
				t.Fatal(err)
			}
		}
		want[i].ID, want[i].Incarnation = self, uint64(self)+100
	}
	if _, err := w.store.Upload(ctx, nodeKey("broken"), bytes.NewReader([]byte(`{"format":1,"name":"other"}`))); err != nil {
		t.Fatal(err)
	}
	all, err := w.control(9).Registrations(ctx)
	for i := range all {
		if age := time.Since(all[i].Written); age < 0 || age > time.Minute {
			t.Errorf("%s was written %s ago", all[i].Name, age)
		}
		all[i].Written = time.Time{}
	}
	if err != nil || !reflect.DeepEqual(all, want) {
		t.Fatalf("%+v, %v; want %+v", all, err, want)
	}
	if err := w.control(9).Register(ctx, Registration{Name: "broken"}, never); err != nil {
		t.Fatalf("in the place of one that is not readable: %v", err)
	}
	for _, name := range []string{"", "a/b", "ä", "..%"} {
		if err := w.control(9).Register(ctx, Registration{Name: name}, never); err == nil {
			t.Errorf("name %q is accepted", name)
		}
	}
}

// TestCloneIsSeen: a second node of a name does not take the place of the first one
// unseen.
func TestCloneIsSeen(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	first := Registration{Name: "a", PeerAddress: "one"}
	if err := w.control(1).Register(ctx, first, nil); err != nil {
		t.Fatal(err)
	}
	alive := errors.New("it lives")
	var seen Registration
	clone := NewControl(w.store, 1, 7, w.quiet) // the same disk in another process
	err := clone.Register(ctx, Registration{Name: "a", PeerAddress: "two"}, func(r Registration) error { seen = r; return alive })
	if !errors.Is(err, alive) || seen.PeerAddress != "one" || seen.Incarnation != 101 {
		t.Fatalf("%v, saw %+v", err, seen)
	}
	all, err := clone.Registrations(ctx)
	if err != nil || len(all) != 1 || all[0].PeerAddress != "one" {
		t.Fatalf("%+v, %v", all, err)
	}
	for n, c := range map[string]*Control{"true true": w.control(1), "true false": clone, "false false": w.control(2)} {
		if disk, process := c.IsOwn(all[0]); fmt.Sprint(disk, process) != n {
			t.Errorf("own disk and process: %v, %v, want %s", disk, process, n)
		}
	}
	if err := clone.Register(ctx, Registration{Name: "a", PeerAddress: "two"}, func(Registration) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := clone.Deregister(ctx, all[0]); !errors.Is(err, ErrConflict) {
		t.Fatalf("the new registration is removed for the old one: %v", err)
	}
	if all, err = clone.Registrations(ctx); err != nil || len(all) != 1 || all[0].Incarnation != 7 {
		t.Fatalf("%+v, %v", all, err)
	}
	for range 2 {
		if err := clone.Deregister(ctx, all[0]); err != nil {
			t.Fatal(err)
		}
	}
	if all, err = clone.Registrations(ctx); err != nil || len(all) != 0 {
		t.Fatalf("%+v, %v", all, err)
	}
}

// TestMemberIDsAreStable: whoever asks first, everybody gets the same.
func TestMemberIDsAreStable(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	w.loseAnswers(membersKey, 2)
	var mu sync.Mutex
	var all sync.WaitGroup
	var got []map[string]uint64
	for n := range elect.NodeID(6) {
		all.Go(func() {
			ids, err := w.control(n+1).MemberIDs(ctx, "a", string(rune('b'+n%3)))
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			got = append(got, ids)
		})
	}
	all.Wait()
	last, err := w.control(1).MemberIDs(ctx)
	if err != nil || len(last) != 4 {
		t.Fatalf("%v, %v", last, err)
	}
	distinct := make(map[uint64]bool)
	for _, id := range last {
		distinct[id] = true
	}
	if len(distinct) != 4 || distinct[0] {
		t.Fatalf("%v", last)
	}
	for _, ids := range got {
		for name, id := range ids {
			if last[name] != id {
				t.Fatalf("%q was %x, is %x", name, id, last[name])
			}
		}
	}
	if _, err := w.control(1).MemberIDs(ctx, "bad/name"); err == nil {
		t.Fatal("a name that is none is accepted")
	}
}
