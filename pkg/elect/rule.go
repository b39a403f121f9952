package elect

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// NodeID names a voter: the identity of a disk, chosen when its log was made
// (sqllog.Identity.Node). A node that comes back with an empty disk is another
// voter. It is never 0.
type NodeID uint64

// String gives 16 hexadecimal digits.
func (n NodeID) String() string { return fmt.Sprintf("%016x", uint64(n)) }

// ParseNodeID reads what String gives, and nothing else.
func ParseNodeID(s string) (NodeID, error) {
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil || n == 0 || NodeID(n).String() != s {
		return 0, fmt.Errorf("%q is not a node: 16 hexadecimal digits are", s)
	}
	return NodeID(n), nil
}

// Rule is the commit rule: when a row is durable enough to be acknowledged.
type Rule int

const (
	// Majority: a majority of the members, the Primary among them, holds the row on
	// disk.
	Majority Rule = -1
	// ObjectStorage: the row's chunk exists; nothing else counts.
	ObjectStorage Rule = 0
	// A Rule n above 0: the Primary and n Replicas hold the row on disk.
)

// auditNeed is how many of n members must promise an epoch before a Primary of it
// may be appointed: any set of members that could commit a row shares one with
// them. With ObjectStorage the chain alone decides.
func (r Rule) auditNeed(n int) int {
	switch {
	case r == ObjectStorage:
		return 0
	case r == Majority:
		return n/2 + 1
	}
	return max(n-int(r), 1)
}

// CommitNeed is how many of n members, the Primary included, must hold a row, or
// answer a ping of the Primary, for it to count. It is 0 where nothing but object
// storage counts.
func (r Rule) CommitNeed(n int) int {
	switch {
	case r == ObjectStorage:
		return 0
	case r == Majority:
		return n/2 + 1
	}
	return int(r) + 1
}

// Cluster is what cluster.json says about epoch, rule and voters. Whoever raises
// the epoch reads the rest in the same compare-and-swap, and nobody but the Primary
// of that epoch changes the voters: so an audit and the commits that it must not
// miss cannot be of memberships more than one change apart.
type Cluster struct {
	Epoch sqllog.Epoch
	// Rule is in force for rows of Epoch.
	Rule Rule
	// RuleBefore may still have been in force when the epoch was raised; an audit
	// satisfies both. It is Rule where nothing has changed.
	RuleBefore Rule
	// Members are the voters, ascending.
	Members []NodeID
	// Changing: the last change of Members is not done yet, so that no other may
	// begin.
	Changing bool
}

// AuditNeed is how many members must promise an epoch. While a change of Members
// is not done, rows may be held only by Replicas that were members before it:
// majorities of neighbouring memberships share a node, the fixed numbers of a rule
// above 0 do not, and one more must answer.
func (c Cluster) AuditNeed() int {
	n := len(c.Members)
	need := max(c.Rule.auditNeed(n), c.RuleBefore.auditNeed(n))
	if c.Changing && (c.Rule > 0 || c.RuleBefore > 0) {
		need = min(need+1, n)
	}
	return need
}

// IsMember reports whether a node votes.
func (c Cluster) IsMember(n NodeID) bool { return slices.Contains(c.Members, n) }

// Position names a row. Two logs that agree on it agree on everything before.
type Position struct {
	ID    sqllog.ID
	Epoch sqllog.Epoch
}

// Less orders positions as an election does: by epoch, then by id.
func (p Position) Less(q Position) bool {
	if p.Epoch != q.Epoch {
		return p.Epoch < q.Epoch
	}
	return p.ID < q.ID
}

// kth gives the largest number that at least k of them reach; 0 if there are fewer.
func kth(numbers []uint64, k int) uint64 {
	if k < 1 || k > len(numbers) {
		return 0
	}
	slices.Sort(numbers)
	return numbers[len(numbers)-k]
}
