package elect

import (
	"math/bits"
	"testing"
)

func TestNodeID(t *testing.T) {
	for _, s := range []string{"0000000000000001", "ffffffffffffffff", "00000000deadbeef"} {
		if n, err := ParseNodeID(s); err != nil || n.String() != s {
			t.Errorf("ParseNodeID(%q) = %v, %v", s, n, err)
		}
	}
	for _, s := range []string{"", "1", "0000000000000000", "FFFFFFFFFFFFFFFF", "+000000000000001", "00000000000000001"} {
		if n, err := ParseNodeID(s); err == nil {
			t.Errorf("ParseNodeID(%q) = %v", s, n)
		}
	}
}

func TestAuditNeed(t *testing.T) {
	for _, c := range []struct {
		rule, before Rule
		members      int
		changing     bool
		want         int
	}{
		{Majority, Majority, 1, false, 1},
		{Majority, Majority, 2, false, 2},
		{Majority, Majority, 3, false, 2},
		{Majority, Majority, 5, true, 3},
		{ObjectStorage, ObjectStorage, 3, true, 0},
		{1, 1, 3, false, 2},
		{2, 2, 3, false, 1},
		{2, 2, 3, true, 2},
		{1, 1, 2, true, 2},
		{ObjectStorage, Majority, 3, false, 2},
		{Majority, 1, 5, false, 4},
		{4, 4, 3, false, 1},
	} {
		got := Cluster{Rule: c.rule, RuleBefore: c.before, Members: ids(1<<c.members - 1), Changing: c.changing}.AuditNeed()
		if got != c.want {
			t.Errorf("%+v: AuditNeed() = %d", c, got)
		}
	}
}

// ids gives a set of nodes: bit i is node i+1.
func ids(set uint) []NodeID {
	var all []NodeID
	for i := range bits.Len(set) {
		if set>>i&1 == 1 {
			all = append(all, NodeID(i+1))
		}
	}
	return all
}

// Whatever voters have committed a row, any audit of the same members, or of those
// after one change that is not done, asks one of them.
func TestAuditsMeetCommits(t *testing.T) {
	const most = 7
	for _, rule := range []Rule{Majority, 1, 2, 3, 4, 5} {
		for before := uint(1); before < 1<<most; before++ {
			if !meets(rule, before, before, false) {
				t.Fatalf("rule %d, members %v", rule, ids(before))
			}
			for i := range most {
				if after := before ^ 1<<i; after != 0 && !meets(rule, before, after, true) {
					t.Fatalf("rule %d, members %v, then %v", rule, ids(before), ids(after))
				}
			}
		}
	}
}

// meets reports whether each set of nodes that commits under some members has one
// in common with each set that suffices for an audit of others.
func meets(rule Rule, before, after uint, changing bool) bool {
	commit := rule.CommitNeed(bits.OnesCount(before))
	audit := Cluster{Rule: rule, RuleBefore: rule, Members: ids(after), Changing: changing}.AuditNeed()
	if commit > bits.OnesCount(before) {
		return true // receipts commit nothing
	}
	// The worst commit has as many as possible of those that are not audited.
	gone := bits.OnesCount(before &^ after)
	left := max(commit-gone, 0)
	left = min(left, bits.OnesCount(before&after))
	return left+audit > bits.OnesCount(after)
}

func TestLess(t *testing.T) {
	ascending := []Position{{}, {ID: 9, Epoch: 1}, {ID: 2, Epoch: 2}, {ID: 3, Epoch: 2}, {ID: 1, Epoch: 3}}
	for i, p := range ascending {
		for j, q := range ascending {
			if p.Less(q) != (i < j) {
				t.Errorf("%v.Less(%v) = %v", p, q, p.Less(q))
			}
		}
	}
}

func TestKth(t *testing.T) {
	for k, want := range []uint64{0, 7, 5, 5, 1, 0} {
		if got := kth([]uint64{5, 1, 7, 5}, k); got != want {
			t.Errorf("kth(%d) = %d, not %d", k, got, want)
		}
	}
}
