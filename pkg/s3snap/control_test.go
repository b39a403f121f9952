package s3snap

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

const testCluster = 0xc1

func (w *world) control(self elect.NodeID) *Control {
	return NewControl(w.store, self, uint64(self)+100, w.quiet)
}

// voters makes cluster.json.
func (w *world) voters(epoch int64, rule elect.Rule, members ...elect.NodeID) {
	w.t.Helper()
	file := clusterFile{ClusterID: formatHex(testCluster), Epoch: epoch}
	if len(members) > 0 {
		file.setMembers(members)
		file.setRule(rule, rule)
	}
	if err := createCluster(w.t.Context(), w.store, file); err != nil {
		w.t.Fatal(err)
	}
}

// mustRead is what cluster.json says.
func (w *world) mustRead() elect.Cluster {
	w.t.Helper()
	c, err := w.control(1).Read(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// loseAnswers lets the first n PUTs of a key take effect without an answer.
func (w *world) loseAnswers(key string, n int) {
	var mu sync.Mutex
	w.store.After = func(op object.Op, k string) error {
		mu.Lock()
		defer mu.Unlock()
		if op == object.OpPut && k == key && n > 0 {
			n--
			return object.ErrUnavailable
		}
		return nil
	}
}

// between runs fn once, after an object was read and before it is written.
func (w *world) between(key string, fn func()) {
	var done atomic.Bool
	w.store.Before = func(op object.Op, k string) error {
		if op == object.OpPut && k == key && done.CompareAndSwap(false, true) {
			fn()
		}
		return nil
	}
}

func TestClusterFileOfASingleNodeIsAsBefore(t *testing.T) {
	w := newWorld(t)
	w.voters(4, 0)
	body, _, err := object.ReadAll(t.Context(), w.store, clusterKey, maxJSONBytes)
	if want := `{"format":1,"cluster_id":"00000000000000c1","base":0,"epoch":4}` + "\n"; err != nil || string(body) != want {
		t.Fatalf("%s, %v", body, err)
	}
	if c := w.mustRead(); c.Epoch != 4 || len(c.Members) != 0 {
		t.Fatalf("%+v", c)
	}
	// A single node keeps what a cluster has written.
	if _, err := w.control(5).Raise(t.Context(), 0, elect.ObjectStorage); err != nil {
		t.Fatal(err)
	}
	if _, err := raiseEpoch(t.Context(), w.store, 9); err != nil {
		t.Fatal(err)
	}
	want := elect.Cluster{Epoch: 9, Rule: elect.ObjectStorage, RuleBefore: elect.ObjectStorage, Members: []elect.NodeID{5}}
	if c := w.mustRead(); !reflect.DeepEqual(c, want) {
		t.Fatalf("%+v, want %+v", c, want)
	}
}

func TestNoCluster(t *testing.T) {
	w := newWorld(t)
	if _, err := w.control(1).Read(t.Context()); !errors.Is(err, ErrNoHistory) {
		t.Fatal(err)
	}
	if _, err := w.control(1).Raise(t.Context(), 3, elect.Majority); !errors.Is(err, ErrNoHistory) {
		t.Fatal(err)
	}
}

// TestRaise: each raise gives an epoch that nobody else gets, whatever answers are
// lost.
func TestRaise(t *testing.T) {
	w := newWorld(t)
	w.voters(0, elect.Majority, 1, 2, 3)
	c, err := w.control(2).Raise(t.Context(), 6, elect.Majority)
	if err != nil || c.Epoch != 7 || len(c.Members) != 3 {
		t.Fatalf("%+v, %v", c, err)
	}
	w.loseAnswers(clusterKey, 1)
	if c, err = w.control(2).Raise(t.Context(), 0, elect.Majority); err != nil || c.Epoch != 8 {
		t.Fatalf("with a lost answer: %+v, %v", c, err)
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	got := make(map[sqllog.Epoch]int)
	for n := range elect.NodeID(8) {
		all.Go(func() {
			c, err := w.control(n+1).Raise(t.Context(), 0, elect.Majority)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				got[c.Epoch]++
			case !errors.Is(err, ErrConflict):
				t.Error(err)
			}
		})
	}
	all.Wait()
	newest := w.mustRead().Epoch
	if len(got) == 0 || newest != 8+sqllog.Epoch(len(got)) {
		t.Fatalf("%v raised, cluster.json says %d", got, newest)
	}
	for e, n := range got {
		if n != 1 {
			t.Fatalf("epoch %d was given %d times", e, n)
		}
	}
}

func TestRaiseThatIsLate(t *testing.T) {
	w := newWorld(t)
	w.voters(3, elect.Majority, 1)
	w.between(clusterKey, func() {
		if _, err := w.control(2).Raise(t.Context(), 0, elect.Majority); err != nil {
			t.Error(err)
		}
	})
	if _, err := w.control(1).Raise(t.Context(), 0, elect.Majority); !errors.Is(err, ErrConflict) {
		t.Fatalf("%v, want ErrConflict", err)
	}
	// A change of the voters is nobody else's epoch.
	w.between(clusterKey, func() {
		if _, err := w.control(2).ChangeMembers(t.Context(), 4, add(9)); err != nil {
			t.Error(err)
		}
	})
	c, err := w.control(1).Raise(t.Context(), 0, elect.Majority)
	if err != nil || c.Epoch != 5 || !c.IsMember(9) || !c.Changing {
		t.Fatalf("%+v, %v", c, err)
	}
}

// TestFirstVoter: whoever raises the epoch of a prefix that nobody votes on is its
// first voter, in an epoch that no log on its own has written.
func TestFirstVoter(t *testing.T) {
	w := newWorld(t)
	w.voters(0, 0)
	c, err := w.control(4).Claim(t.Context(), 1, 1)
	if want := (elect.Cluster{Epoch: 1, Rule: 1, RuleBefore: 1, Members: []elect.NodeID{4}}); err != nil || !reflect.DeepEqual(c, want) {
		t.Fatalf("%+v, %v", c, err)
	}
	if c, err = w.control(5).Claim(t.Context(), elect.Majority, 7); err != nil || !reflect.DeepEqual(c.Members, []elect.NodeID{4}) {
		t.Fatalf("claimed again: %+v, %v", c, err)
	}
	other := newWorld(t)
	other.voters(0, 0)
	if c, err = other.control(4).Raise(t.Context(), 0, elect.Majority); err != nil || c.Epoch != 2 || !c.IsMember(4) {
		t.Fatalf("%+v, %v", c, err)
	}
}

// TestRuleChangesAtAFence: the older rule is in force too until a Primary of the new
// one has written its epoch row.
func TestRuleChangesAtAFence(t *testing.T) {
	w := newWorld(t)
	w.voters(1, elect.Majority, 1, 2, 3)
	ctl := w.control(1)
	for _, step := range []struct {
		rule, want, before elect.Rule
		settle             bool
	}{
		{2, 2, elect.Majority, false},
		{elect.ObjectStorage, 2, elect.Majority, true}, // the last change is not settled
		{elect.ObjectStorage, elect.ObjectStorage, 2, true},
		{elect.ObjectStorage, elect.ObjectStorage, elect.ObjectStorage, true},
	} {
		c, err := ctl.Raise(t.Context(), 0, step.rule)
		if err != nil || c.Rule != step.want || c.RuleBefore != step.before {
			t.Fatalf("%+v, %v; want %+v", c, err, step)
		}
		if !step.settle {
			continue
		}
		if err := ctl.Settle(t.Context(), c.Epoch-1); !errors.Is(err, ErrConflict) && c.Rule != c.RuleBefore {
			t.Fatalf("settled from an older epoch: %v", err)
		}
		if err := ctl.Settle(t.Context(), c.Epoch); err != nil || w.mustRead().RuleBefore != c.Rule {
			t.Fatalf("%+v, %v", w.mustRead(), err)
		}
	}
}

// add is a change that lets a node vote.
func add(n elect.NodeID) func(*elect.Cluster) error {
	return func(c *elect.Cluster) error {
		if !c.IsMember(n) {
			c.Members = append(c.Members, n)
		}
		return nil
	}
}

func TestChangeMembers(t *testing.T) {
	w := newWorld(t)
	w.voters(5, elect.Majority, 7)
	ctl, ctx := w.control(7), t.Context()
	if _, err := ctl.ChangeMembers(ctx, 4, add(2)); !errors.Is(err, ErrConflict) {
		t.Fatalf("in another epoch: %v", err)
	}
	w.loseAnswers(clusterKey, 1)
	c, err := ctl.ChangeMembers(ctx, 5, add(2))
	if want := (elect.Cluster{Epoch: 5, Rule: elect.Majority, RuleBefore: elect.Majority, Members: []elect.NodeID{2, 7}, Changing: true}); err != nil || !reflect.DeepEqual(c, want) {
		t.Fatalf("%+v, %v; want %+v", c, err, want)
	}
	if _, err := ctl.ChangeMembers(ctx, 5, add(3)); !errors.Is(err, ErrChanging) {
		t.Fatalf("a second change: %v", err)
	}
	if c, err = ctl.ChangeMembers(ctx, 5, DoneChanging); err != nil || c.Changing || len(c.Members) != 2 {
		t.Fatalf("%+v, %v", c, err)
	}
	for name, bad := range map[string]func(c *elect.Cluster) error{
		"two at once": func(c *elect.Cluster) error { c.Members = append(c.Members, 8, 9); return nil },
		"a swap":      func(c *elect.Cluster) error { c.Members[0] = 9; return nil },
		"twice":       func(c *elect.Cluster) error { c.Members = append(c.Members, 7); return nil },
		"node 0":      func(c *elect.Cluster) error { c.Members = append(c.Members, 0); return nil },
		"refused":     func(c *elect.Cluster) error { return io.ErrNoProgress },
	} {
		if _, err := ctl.ChangeMembers(ctx, 5, bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if c := w.mustRead(); c.Changing || !reflect.DeepEqual(c.Members, []elect.NodeID{2, 7}) {
		t.Fatalf("%+v after changes that were refused", c)
	}
	if c, err = ctl.Force(ctx, []elect.NodeID{9, 7}, 1); err != nil || c.Epoch != 6 || !reflect.DeepEqual(c.Members, []elect.NodeID{7, 9}) || c.RuleBefore != 1 {
		t.Fatalf("forced: %+v, %v", c, err)
	}
}

// TestOldChangeDoesNotComeBack: some stores compare contents, and a request may
// arrive late; so no content of cluster.json comes twice.
func TestOldChangeDoesNotComeBack(t *testing.T) {
	w := newWorld(t)
	w.voters(5, elect.Majority, 7)
	ctl, ctx := w.control(7), t.Context()
	seen := make(map[string]bool)
	remove := func(c *elect.Cluster) error { c.Members = []elect.NodeID{7}; return nil }
	for range 3 {
		for _, change := range []func(*elect.Cluster) error{add(2), DoneChanging, remove, DoneChanging} {
			if _, err := ctl.ChangeMembers(ctx, 5, change); err != nil {
				t.Fatal(err)
			}
			_, info, err := readClusterInfo(ctx, w.store)
			if err != nil || seen[info.Version] {
				t.Fatalf("version %s again, %v", info.Version, err)
			}
			seen[info.Version] = true
		}
	}
}

func TestControlWithoutAnswers(t *testing.T) {
	w := newWorld(t)
	w.voters(5, elect.Majority, 7)
	w.outage().Store(true)
	ctl, ctx := w.control(7), t.Context()
	_, readErr := ctl.Read(ctx)
	_, raiseErr := ctl.Raise(ctx, 0, elect.Majority)
	_, lockErr := ctl.Observe(ctx)
	_, nodesErr := ctl.Registrations(ctx)
	_, idsErr := ctl.MemberIDs(ctx, "a")
	for i, err := range []error{readErr, raiseErr, lockErr, nodesErr, idsErr, ctl.Settle(ctx, 5)} {
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("call %d: %v, want ErrUnavailable", i, err)
		}
	}
}

// FuzzControlObjects: whatever lies in the store, nothing panics, and what is
// accepted is valid.
func FuzzControlObjects(f *testing.F) {
	f.Add([]byte(`{"format":1,"cluster_id":"00000000000000c1","epoch":3,"members":["0000000000000007"],"quorum":-1,"quorum_before":0}`))
	f.Add([]byte(`{"format":1,"node":"0000000000000007","incarnation":"0000000000000001","seq":3}`))
	f.Add([]byte(`{"format":1,"name":"a","id":"0000000000000007","incarnation":"0000000000000001"}`))
	f.Add([]byte(`{"format":1,"members":{"a":"0000000000000007"}}`))
	f.Add([]byte(`{"format":2}`))
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	f.Fuzz(func(t *testing.T, body []byte) {
		ctx, store := t.Context(), object.NewMemory()
		for _, key := range []string{clusterKey, electorKey, membersKey, nodeKey("a")} {
			if _, err := store.Upload(ctx, key, bytes.NewReader(body)); err != nil {
				t.Fatal(err)
			}
		}
		ctl := NewControl(store, 1, 2, quiet)
		if c, err := ctl.Read(ctx); err == nil {
			for i, n := range c.Members {
				if n == 0 || i > 0 && n <= c.Members[i-1] || c.Rule < elect.Majority || c.RuleBefore < elect.Majority {
					t.Fatalf("accepted %+v", c)
				}
			}
			if _, err := ctl.Raise(ctx, 0, elect.Majority); err != nil {
				t.Fatal(err)
			}
		}
		if l, err := ctl.Observe(ctx); err == nil {
			if _, err := ctl.TakeLock(ctx, l); err != nil {
				t.Fatal(err)
			}
		}
		if all, err := ctl.Registrations(ctx); err != nil || len(all) == 1 && (all[0].Name != "a" || all[0].ID == 0) {
			t.Fatalf("%+v, %v", all, err)
		}
		if ids, err := ctl.MemberIDs(ctx, "b"); err == nil && ids["b"] == 0 {
			t.Fatal("no id")
		}
	})
}

// TestClusterFileThatNobodyWrote is refused.
func TestClusterFileThatNobodyWrote(t *testing.T) {
	for _, change := range []func(map[string]any){
		func(f map[string]any) { f["members"] = []string{"7"} },
		func(f map[string]any) { f["members"] = []string{"0000000000000007", "0000000000000007"} },
		func(f map[string]any) { f["members"] = []string{"0000000000000007", "0000000000000002"} },
		func(f map[string]any) { delete(f, "quorum") },
		func(f map[string]any) { f["quorum_before"] = -2 },
		func(f map[string]any) { f["epoch"] = -1 },
	} {
		w := newWorld(t)
		file := map[string]any{"format": 1, "cluster_id": "00000000000000c1", "epoch": 1, "quorum": -1, "quorum_before": 0, "members": []string{"0000000000000007"}}
		change(file)
		body, err := json.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.store.Upload(t.Context(), clusterKey, bytes.NewReader(body)); err != nil {
			t.Fatal(err)
		}
		if c, err := w.control(1).Read(t.Context()); !errors.Is(err, ErrCorruptChain) || !strings.Contains(err.Error(), clusterKey) {
			t.Errorf("%s: %+v, %v", body, c, err)
		}
	}
}

// TestRaiseKnownYields: of two Electors that know the same epoch one raises it, and the
// other one is told what it is now, and changes nothing.
func TestRaiseKnownYields(t *testing.T) {
	w := newWorld(t)
	w.voters(0, elect.Majority, 1, 2, 3)
	first, err := w.control(1).Raise(t.Context(), 0, elect.Majority)
	if err != nil {
		t.Fatal(err)
	}
	second, err := w.control(1).RaiseKnown(t.Context(), first.Epoch, elect.Majority)
	if err != nil || second.Epoch != first.Epoch+1 {
		t.Fatalf("raised to %d, %v", second.Epoch, err)
	}
	there, err := w.control(2).RaiseKnown(t.Context(), first.Epoch, elect.Majority)
	if !errors.Is(err, ErrConflict) || there.Epoch != second.Epoch {
		t.Fatalf("the second Elector got epoch %d, %v", there.Epoch, err)
	}
	if now, err := w.control(2).Read(t.Context()); err != nil || now.Epoch != second.Epoch {
		t.Fatalf("cluster.json has epoch %d, %v", now.Epoch, err)
	}
}
