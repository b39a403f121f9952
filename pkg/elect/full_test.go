package elect

import (
	"fmt"
	"testing"
)

// audited brings a Core, whose disk may be full, to the audit of epoch 2, in which it
// has promised itself.
func audited(t *testing.T, c Cluster, own Position, full bool) *script {
	t.Helper()
	s := newScript(t, c)
	s.pass(720 * ms)
	s.receive(2, Answer{Seq: 1})
	s.core.Locked(s.now, true)
	c.Epoch = 2
	s.core.EpochRaised(s.now, c, true)
	s.core.SetFull(full)
	s.core.Promised(2, own)
	s.core.Effects()
	return s
}

// appointed gives whom a Core has appointed, or 0: itself too.
func (s *script) appointed() NodeID {
	for _, e := range s.core.Effects() {
		switch e := e.(type) {
		case Lead:
			return s.core.cfg.Self
		case Send:
			if _, ok := e.Message.(Appoint); ok {
				return e.To
			}
		}
	}
	return 0
}

func TestFullDiskRanksLast(t *testing.T) {
	newest, older := Position{ID: 9, Epoch: 1}, Position{ID: 5, Epoch: 1}
	oldest := Position{ID: 2, Epoch: 1}
	type answer struct {
		last Position
		full bool
	}
	for _, c := range []struct {
		name string
		rule Rule
		own  answer
		more map[NodeID]answer
		want NodeID
	}{
		{"the newest is full, the others are enough", Majority, answer{older, false}, map[NodeID]answer{2: {newest, true}, 3: {oldest, false}}, 1},
		{"the Elector is full", Majority, answer{newest, true}, map[NodeID]answer{2: {oldest, false}, 3: {older, false}}, 3},
		{"the newest is full and needed", Majority, answer{older, false}, map[NodeID]answer{2: {newest, true}}, 2},
		{"of equal ones the full one", Majority, answer{newest, true}, map[NodeID]answer{2: {newest, false}}, 2},
		{"all are full", Majority, answer{older, true}, map[NodeID]answer{2: {newest, true}, 3: {oldest, true}}, 2},
		{"two of three are full", Majority, answer{older, false}, map[NodeID]answer{2: {newest, true}, 3: {newest, true}}, 2},
		{"two of three have to answer", 1, answer{older, false}, map[NodeID]answer{2: {newest, true}, 3: {oldest, false}}, 1},
		{"one of three has to", 2, answer{oldest, false}, map[NodeID]answer{2: {newest, true}, 3: {older, true}}, 1},
		{"none has to", ObjectStorage, answer{newest, true}, map[NodeID]answer{2: {oldest, false}, 3: {newest, true}}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := audited(t, three(c.rule, 1), c.own.last, c.own.full)
			for n, a := range c.more {
				s.receive(n, AuditAnswer{Epoch: 2, Promise: 2, Last: a.last, Full: a.full})
			}
			var got NodeID
			for range 5 { // the time of those that have not answered
				if got == 0 {
					got = s.appointed()
				}
				s.pass(20 * ms)
			}
			if got != c.want {
				t.Errorf("%d is appointed, not %d", got, c.want)
			}
		})
	}
}

func TestFullDiskHoldsNoElection(t *testing.T) {
	s := newScript(t, three(Majority, 1))
	s.core.SetFull(true)
	s.pass(3000 * ms)
	s.wants()
	s.core.SetFull(false)
	s.pass(20 * ms)
	s.wants("to 2: Ask{1}", "to 3: Ask{1}")
}

// TestFullDiskThatCannotPromise: nobody counts on it, until it has room.
func TestFullDiskThatCannotPromise(t *testing.T) {
	s := newScript(t, three(Majority, 1))
	answer := fmt.Sprintf("to 2: %s%v", "Answer", Answer{Seq: 4})
	s.core.SetFull(true)
	s.pass(720 * ms)
	s.receive(2, Ask{Seq: 4})
	s.wants(answer)
	s.receive(2, Audit{Epoch: 3})
	s.core.PromiseFailed()
	s.wants("Promise{3}")
	s.receive(2, Ask{Seq: 4})
	s.wants()
	s.receive(3, Heartbeat{Epoch: 1, Round: 1})
	s.wants("to 3: HeartbeatAck{1 1 1 true}", "Follow{0000000000000003 1}")
	s.receive(2, Ask{Seq: 4}) // it tells what it hears all the same
	s.wants(fmt.Sprintf("to 2: Answer%v", Answer{Seq: 4, Primary: 3, Epoch: 1}))
	s.pass(720 * ms)
	s.core.SetFull(false)
	s.receive(2, Ask{Seq: 4})
	s.wants(answer)
}
