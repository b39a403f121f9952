package replicate

import (
	"testing"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// tracked makes the Tracker of node 1 as the Primary of epoch 2, with its fence at 10.
func tracked(rule elect.Rule, members ...elect.NodeID) *Tracker {
	return NewTracker(1, elect.Cluster{Epoch: 2, Rule: rule, RuleBefore: rule, Members: members}, 10)
}

func TestTrackerCommits(t *testing.T) {
	durable := func(id sqllog.ID) func(*Tracker) bool { return func(t *Tracker) bool { return t.Durable(id) } }
	chunk := func(id sqllog.ID) func(*Tracker) bool { return func(t *Tracker) bool { return t.ChunkCreated(id) } }
	receipt := func(n elect.NodeID, id sqllog.ID) func(*Tracker) bool {
		return func(t *Tracker) bool { return t.Receipt(n, 2, id) }
	}
	for name, c := range map[string]struct {
		rule    elect.Rule
		members []elect.NodeID
		events  []func(*Tracker) bool
		want    sqllog.ID
	}{
		"nothing":                          {elect.Majority, []elect.NodeID{1, 2, 3}, nil, 10},
		"alone":                            {elect.Majority, []elect.NodeID{1}, []func(*Tracker) bool{durable(12)}, 12},
		"own log only":                     {elect.Majority, []elect.NodeID{1, 2, 3}, []func(*Tracker) bool{durable(12)}, 10},
		"one Replica of two":               {elect.Majority, []elect.NodeID{1, 2, 3}, []func(*Tracker) bool{durable(12), receipt(3, 11)}, 11},
		"both Replicas, own log behind":    {elect.Majority, []elect.NodeID{1, 2, 3}, []func(*Tracker) bool{receipt(2, 14), receipt(3, 15), durable(12)}, 12},
		"who does not vote does not count": {elect.Majority, []elect.NodeID{1, 2, 3}, []func(*Tracker) bool{durable(12), receipt(4, 12)}, 10},
		"five, the third counts":           {elect.Majority, []elect.NodeID{1, 2, 3, 4, 5}, []func(*Tracker) bool{durable(20), receipt(2, 13), receipt(3, 12), receipt(4, 19)}, 13},
		"two Replicas are wanted":          {2, []elect.NodeID{1, 2, 3}, []func(*Tracker) bool{durable(12), receipt(2, 12)}, 10},
		"two Replicas are there":           {2, []elect.NodeID{1, 2, 3}, []func(*Tracker) bool{durable(12), receipt(2, 12), receipt(3, 11)}, 11},
		"more Replicas than members":       {3, []elect.NodeID{1, 2, 3}, []func(*Tracker) bool{durable(12), receipt(2, 12), receipt(3, 12)}, 10},
		"object storage: receipts":         {elect.ObjectStorage, []elect.NodeID{1, 2, 3}, []func(*Tracker) bool{durable(12), receipt(2, 12), receipt(3, 12)}, 10},
		"object storage: a chunk":          {elect.ObjectStorage, []elect.NodeID{1, 2, 3}, []func(*Tracker) bool{chunk(12)}, 12},
		"a chunk without receipts":         {elect.Majority, []elect.NodeID{1, 2, 3}, []func(*Tracker) bool{durable(12), chunk(11)}, 11},
		"a Primary that does not vote":     {elect.Majority, []elect.NodeID{2, 3}, []func(*Tracker) bool{receipt(2, 14), receipt(3, 14), durable(12)}, 12},
	} {
		tr := tracked(c.rule, c.members...)
		for i, event := range c.events {
			was := tr.Committed()
			if moved := event(tr); moved != (tr.Committed() > was) {
				t.Errorf("%s: event %d reports %v", name, i, moved)
			}
		}
		if tr.Committed() != c.want {
			t.Errorf("%s: committed up to %d, not %d", name, tr.Committed(), c.want)
		}
	}
}

func TestTrackerRefusesReceiptsOfOtherEpochs(t *testing.T) {
	tr := tracked(elect.Majority, 1, 2, 3)
	tr.Durable(12)
	if tr.Receipt(2, 1, 12) || tr.Receipt(2, 3, 12) || tr.Committed() != 10 {
		t.Errorf("committed up to %d", tr.Committed())
	}
}

func TestDeposedTrackerCommitsByChunksOnly(t *testing.T) {
	tr := tracked(elect.Majority, 1, 2, 3)
	tr.Receipt(2, 2, 15)
	tr.Depose()
	if tr.Durable(12) || tr.Receipt(3, 2, 12) || tr.TakeUp([]elect.NodeID{1}) || tr.Committed() != 10 {
		t.Errorf("committed up to %d by receipts", tr.Committed())
	}
	if !tr.ChunkCreated(11) || tr.Committed() != 11 {
		t.Errorf("committed up to %d after a chunk up to 11", tr.Committed())
	}
}

// What was committed under other members, or by a chunk, says nothing about the
// members as they are now.
func TestCountedToIsOfTheNewMembers(t *testing.T) {
	tr := tracked(elect.Majority, 1, 2, 3)
	tr.Durable(12)
	tr.Receipt(2, 2, 12)
	if tr.CountedTo() != 12 {
		t.Errorf("counted to %d", tr.CountedTo())
	}
	tr.TakeUp([]elect.NodeID{1, 2, 3, 4})
	tr.ChunkCreated(12)
	if tr.CountedTo() >= 12 || tr.Committed() != 12 {
		t.Errorf("counted to %d, committed up to %d", tr.CountedTo(), tr.Committed())
	}
	if tr.Receipt(4, 2, 12); tr.CountedTo() != 12 {
		t.Errorf("counted to %d", tr.CountedTo())
	}
}
