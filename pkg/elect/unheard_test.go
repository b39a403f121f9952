package elect

import (
	"slices"
	"testing"
)

// TestMemberThatThePrimaryDoesNotKnow: a change of members took effect and its answer
// was lost, so that the new member waits for heartbeats of a Primary that sends it
// none. What others say of the Primary lets it make itself known, and the Primary's
// answer lets it follow.
func TestMemberThatThePrimaryDoesNotKnow(t *testing.T) {
	changed := three(Majority, 1)
	changed.Changing = true
	member := newScript(t, changed) // it is 1
	member.pass(720 * ms)
	member.core.Effects()
	member.receive(3, Answer{Seq: 1, Primary: 2, Epoch: 1})
	member.wants("to 2: HeartbeatAck{1 0 1 false}")

	before := Cluster{Epoch: 1, Rule: Majority, RuleBefore: Majority, Members: []NodeID{2, 3}}
	primary := &script{T: t, core: New(Config{Self: 2, Promise: 1, Cluster: before}, 0)}
	primary.receive(3, Appoint{Cluster: before})
	primary.core.Promised(1, Position{})
	primary.core.Led(0, 1, true)
	primary.core.Effects()
	primary.receive(1, HeartbeatAck{Epoch: 1, Promise: 1})
	beat := slices.IndexFunc(primary.core.Effects(), func(e Effect) bool {
		send, ok := e.(Send)
		if ok && send.To == 1 {
			member.receive(2, send.Message)
		}
		return ok && send.To == 1
	})
	if beat < 0 {
		t.Fatal("the primary does not answer")
	}
	member.wants("to 2: HeartbeatAck{1 1 1 false}", "Follow{0000000000000002 1}")
	primary.receive(1, HeartbeatAck{Epoch: 1, Round: 1, Promise: 1})
	if got := primary.core.Effects(); len(got) > 0 {
		t.Errorf("the answer to its answer is answered, and so on: %v", got)
	}
	primary.core.SetObservers([]NodeID{1})
	primary.receive(1, HeartbeatAck{Epoch: 1, Promise: 1})
	if got := primary.core.Effects(); len(got) > 0 {
		t.Errorf("one that follows is answered: %v", got)
	}
}

// TestHigherPromiseOfANodeThatDoesNotVote: it has raised the epoch, and was appointed by
// nobody. It can follow only a Primary of that epoch or above.
func TestHigherPromiseOfANodeThatDoesNotVote(t *testing.T) {
	other := &script{T: t, core: New(Config{Self: 9, Promise: 3, Cluster: three(ObjectStorage, 2)}, 0)}
	other.pass(720 * ms)
	other.core.Effects()
	other.receive(2, Answer{Seq: 1, Primary: 1, Epoch: 2})
	other.wants("to 1: HeartbeatAck{2 0 3 false}")

	s := newScript(t, three(Majority, 1))
	s.primary(three(Majority, 2))
	s.receive(9, HeartbeatAck{Epoch: 2, Promise: 3})
	s.pass(720 * ms)
	s.wants("TakeLock{true}")
}
