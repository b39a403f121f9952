package s3snap

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// clusterFile is cluster.json: whose prefix it is, where its chain begins, and who
// votes in which epoch.
type clusterFile struct {
	Format    int    `json:"format"`
	ClusterID string `json:"cluster_id"` // 16 hexadecimal digits
	// Base: the chain begins after this id. Where it is not 0, a snapshot at it
	// holds what was before.
	Base int64 `json:"base"`
	// Epoch is the newest one that a node has asked for. An older Primary that sees
	// it stops; which rows count is for the chain alone to say.
	Epoch int64 `json:"epoch"`
	// Bootstrap is the version of the object that the cluster was started from,
	// empty if from none.
	Bootstrap string `json:"bootstrap,omitempty"`

	// The rest is absent while a single node has the prefix.

	// Nonce is another one after each change.
	Nonce string `json:"nonce,omitempty"`
	// Quorum is the commit rule of Epoch, QuorumBefore the one that may still have
	// been in force when it was asked for.
	Quorum       *int `json:"quorum,omitempty"`
	QuorumBefore *int `json:"quorum_before,omitempty"`
	// Members are the disks that vote, ascending, 16 hexadecimal digits each.
	Members []string `json:"members,omitempty"`
	// Changing: the last change of Members is not done.
	Changing bool `json:"changing,omitempty"`
}

func (c clusterFile) cluster() uint64 {
	n, _ := strconv.ParseUint(c.ClusterID, 16, 64)
	return n
}

// check refuses contents that no node has written.
func (c clusterFile) check() error {
	if len(c.ClusterID) != 16 || c.cluster() == 0 || c.Base < 0 || c.Epoch < 0 {
		return fmt.Errorf("%w: %s is not a cluster's", ErrCorruptChain, clusterKey)
	}
	last := elect.NodeID(0)
	for _, s := range c.Members {
		n, err := elect.ParseNodeID(s)
		if err != nil || n <= last {
			return fmt.Errorf("%w: members of %s at %q", ErrCorruptChain, clusterKey, s)
		}
		last = n
	}
	if len(c.Members) == 0 {
		return nil
	}
	for _, q := range []*int{c.Quorum, c.QuorumBefore} {
		if q == nil || *q < int(elect.Majority) {
			return fmt.Errorf("%w: %s has members and no commit rule", ErrCorruptChain, clusterKey)
		}
	}
	return nil
}

// voters is what an election wants to know. The file was checked.
func (c clusterFile) voters() elect.Cluster {
	out := elect.Cluster{Epoch: sqllog.Epoch(c.Epoch), Rule: elect.Majority, RuleBefore: elect.Majority, Changing: c.Changing}
	if c.Quorum != nil && c.QuorumBefore != nil {
		out.Rule, out.RuleBefore = elect.Rule(*c.Quorum), elect.Rule(*c.QuorumBefore)
	}
	for _, s := range c.Members {
		n, _ := elect.ParseNodeID(s)
		out.Members = append(out.Members, n)
	}
	return out
}

// setMembers writes the voters, which are in order.
func (c *clusterFile) setMembers(members []elect.NodeID) {
	c.Members = make([]string, 0, len(members))
	for _, n := range members {
		c.Members = append(c.Members, n.String())
	}
}

func (c *clusterFile) setRule(rule, before elect.Rule) {
	now, old := int(rule), int(before)
	c.Quorum, c.QuorumBefore = &now, &old
}

// inEpoch is ErrConflict unless the newest epoch asked for is the given one.
func (c clusterFile) inEpoch(epoch sqllog.Epoch) error {
	if sqllog.Epoch(c.Epoch) != epoch {
		return fmt.Errorf("%w: epoch %d is asked for, this is %d", ErrConflict, c.Epoch, epoch)
	}
	return nil
}

// onlyVoter reports whether nobody but a node, or nobody at all, votes.
func (c clusterFile) onlyVoter(node uint64) bool {
	return len(c.Members) == 0 || slices.Equal(c.Members, []string{elect.NodeID(node).String()})
}

// mayGoAlone is ErrCluster where other nodes may hold rows that count and are not
// in the chain.
func (c clusterFile) mayGoAlone(w Writer) error {
	if c.onlyVoter(w.Node) {
		return nil
	}
	return fmt.Errorf("%w: start this one as one of them, or use another prefix", ErrCluster)
}
