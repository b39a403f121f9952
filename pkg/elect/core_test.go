package elect

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

const ms = time.Millisecond

// script drives one Core and compares what it wants to be done.
type script struct {
	*testing.T
	core *Core
	now  time.Duration
}

func three(rule Rule, epoch sqllog.Epoch) Cluster {
	return Cluster{Epoch: epoch, Rule: rule, RuleBefore: rule, Members: []NodeID{1, 2, 3}}
}

func newScript(t *testing.T, c Cluster) *script {
	return &script{T: t, core: New(Config{Self: 1, Promise: 1, Cluster: c}, 0)}
}

// wants compares the effects since the last call; heartbeats are left out.
func (s *script) wants(want ...string) {
	s.Helper()
	var got []string
	for _, e := range s.core.Effects() {
		if send, ok := e.(Send); ok {
			if _, beat := send.Message.(Heartbeat); !beat {
				got = append(got, fmt.Sprintf("to %d: %s%v", send.To, name(send.Message), send.Message))
			}
			continue
		}
		got = append(got, fmt.Sprintf("%s%v", name(e), e))
	}
	if !slices.Equal(got, want) {
		s.Fatalf("at %v: effects are\n\t%s\nnot\n\t%s", s.now, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func name(v any) string { return strings.TrimPrefix(fmt.Sprintf("%T", v), "elect.") }

func (s *script) receive(from NodeID, m Message) { s.core.Receive(s.now, from, m) }

// pass lets time pass in ticks.
func (s *script) pass(d time.Duration) {
	for range d / (20 * ms) {
		s.now += 20 * ms
		s.core.Tick(s.now)
	}
}

// primary makes the Core the Primary of an epoch.
func (s *script) primary(c Cluster) {
	s.Helper()
	s.receive(2, Appoint{Cluster: c})
	s.core.Promised(c.Epoch, Position{ID: 1, Epoch: 1})
	s.core.Led(s.now, c.Epoch, true)
	s.core.Effects()
	if role, e := s.core.Role(); role != Primary || e != c.Epoch {
		s.Fatalf("role is %v of %d", role, e)
	}
}

func TestAuditIsAnsweredAfterThePromise(t *testing.T) {
	s := newScript(t, three(Majority, 1))
	s.receive(2, Audit{Epoch: 3})
	s.wants("Promise{3}")
	s.receive(3, Audit{Epoch: 5}) // while the first is under way
	s.wants()
	s.receive(3, Audit{Epoch: 4})
	s.wants("to 3: AuditAnswer{4 5 {0 0} false}") // refused: 5 is being promised
	s.core.Promised(3, Position{ID: 7, Epoch: 1})
	s.wants("to 2: AuditAnswer{3 3 {7 1} false}", "Promise{5}")
	s.core.Promised(5, Position{ID: 8, Epoch: 1})
	s.wants("to 3: AuditAnswer{5 5 {8 1} false}")
	s.receive(2, Audit{Epoch: 3})
	s.wants("to 2: AuditAnswer{3 5 {0 0} false}")
}

func TestPromiseThatFailsAnswersNobody(t *testing.T) {
	s := newScript(t, three(Majority, 1))
	s.receive(2, Audit{Epoch: 3})
	s.core.PromiseFailed()
	s.wants("Promise{3}")
	s.receive(2, Audit{Epoch: 3})
	s.wants("Promise{3}")
}

func TestPrimaryThatPromisesMoreStopsFirst(t *testing.T) {
	s := newScript(t, three(Majority, 1))
	s.primary(three(Majority, 2))
	s.receive(3, Audit{Epoch: 3})
	s.wants("StepDown{2}", "Promise{3}")
	if _, ok := s.core.Read(s.now); ok {
		t.Error("it serves reads")
	}
}

func TestAppointment(t *testing.T) {
	s := newScript(t, three(Majority, 1))
	c := three(Majority, 2)
	s.receive(2, Appoint{Cluster: c})
	s.wants("Promise{2}", "to 2: AppointAnswer{2 true}")
	s.core.Promised(2, Position{})
	s.wants(fmt.Sprintf("Lead{%v}", c))
	s.receive(2, Appoint{Cluster: c}) // repeated
	s.wants("to 2: AppointAnswer{2 true}")
	s.core.Led(s.now, 2, false)
	s.receive(2, Appoint{Cluster: c}) // an epoch is tried once
	s.wants("to 2: AppointAnswer{2 false}")
}

func TestReadIsConfirmedByALaterPing(t *testing.T) {
	s := newScript(t, three(Majority, 1))
	s.primary(three(Majority, 2))
	sent := s.core.rounds.sent
	round, ok := s.core.Read(s.now)
	if !ok || round <= s.core.rounds.confirmed {
		t.Fatalf("round %d, %v", round, ok)
	}
	s.receive(2, HeartbeatAck{Epoch: 2, Round: sent, Promise: 2})
	s.wants(fmt.Sprintf("Confirmed{2 %d}", sent)) // the round before: it does not do
	if sent >= round {
		t.Fatalf("the read is confirmed by round %d, which began before it", sent)
	}
	s.receive(3, HeartbeatAck{Epoch: 2, Round: round, Promise: 3}) // a refusal
	s.receive(3, HeartbeatAck{Epoch: 1, Round: round, Promise: 1})
	s.receive(4, HeartbeatAck{Epoch: 2, Round: round, Promise: 2}) // no member
	s.wants()
	s.receive(3, HeartbeatAck{Epoch: 2, Round: round, Promise: 2})
	s.wants(fmt.Sprintf("Confirmed{2 %d}", round))
}

func TestReplicaFollowsOnceItHasPromised(t *testing.T) {
	s := newScript(t, three(Majority, 1))
	s.receive(2, Heartbeat{Epoch: 2, Round: 1, Candidate: true})
	s.wants("to 2: HeartbeatAck{2 1 1 false}")
	s.receive(2, Heartbeat{Epoch: 2, Round: 2})
	s.wants("to 2: HeartbeatAck{2 2 1 false}", "Promise{2}")
	s.core.Promised(2, Position{})
	s.wants("Follow{0000000000000002 2}")
	s.receive(3, Heartbeat{Epoch: 1, Round: 9}) // an old one
	s.wants("to 3: HeartbeatAck{1 9 2 false}")
	if p, e := s.core.Heard(); p != 2 || e != 2 {
		t.Errorf("hears %v of %d", p, e)
	}
}

func TestElection(t *testing.T) {
	s := newScript(t, three(Majority, 1))
	s.pass(700 * ms)
	s.wants()
	s.pass(20 * ms)
	s.wants("to 2: Ask{1}", "to 3: Ask{1}")
	s.receive(2, Answer{Seq: 1})
	s.wants("TakeLock{true}")
	s.core.Locked(s.now, true)
	s.wants("Raise{1}")
	c := three(Majority, 2)
	s.core.EpochRaised(s.now, c, true)
	s.wants("Promise{2}", "to 2: Audit{2}", "to 3: Audit{2}")
	s.core.Promised(2, Position{ID: 5, Epoch: 1})
	s.receive(2, AuditAnswer{Epoch: 2, Promise: 2, Last: Position{ID: 6, Epoch: 1}})
	s.receive(4, AuditAnswer{Epoch: 2, Promise: 2, Last: Position{ID: 9, Epoch: 1}}) // no member
	s.wants()                                                                        // the third has a little time
	s.pass(60 * ms)
	s.wants(fmt.Sprintf("to 2: Appoint{%v}", c))
	s.receive(2, AppointAnswer{Epoch: 2, Accepted: true})
	s.pass(600 * ms)
	s.wants()
}

func TestNobodyElectsWhileAnotherHears(t *testing.T) {
	s := newScript(t, three(Majority, 1))
	s.pass(720 * ms)
	s.receive(2, Answer{Seq: 1, Primary: 3, Epoch: 1})
	s.wants("to 2: Ask{1}", "to 3: Ask{1}", "to 3: HeartbeatAck{1 0 1 false}")
	if _, stage := s.core.Elector(); stage != "watching" {
		t.Errorf("stage is %s", stage)
	}
}

// With a rule for which fewer than a majority can elect, a survivor waits for the
// lock to expire.
func TestSurvivorOfAStaticRuleElects(t *testing.T) {
	s := newScript(t, three(2, 1))
	s.pass(720 * ms)
	s.wants("to 2: Ask{1}", "to 3: Ask{1}")
	s.pass(200 * ms)
	s.wants("TakeLock{false}")
	s = newScript(t, three(1, 1)) // two of three must answer
	s.pass(720 * ms)
	s.wants("to 2: Ask{1}", "to 3: Ask{1}")
	s.pass(200 * ms)
	s.wants()
}

func TestElectorThatVotesNoMoreIsNone(t *testing.T) {
	s := newScript(t, three(Majority, 1))
	s.core.Locked(s.now, true)
	if holder, _ := s.core.Elector(); !holder {
		t.Fatal("it has the lock")
	}
	s.core.SetMembers(Cluster{Epoch: 1, Rule: Majority, RuleBefore: Majority, Members: []NodeID{2, 3}})
	if holder, _ := s.core.Elector(); holder {
		t.Error("it would renew a lock that it cannot use")
	}
	s.receive(2, Ask{Seq: 4})
	s.wants("to 2: Answer{4 0000000000000000 0 false}")
}

// Another Elector has raised the epoch: it is left to act, then raised above.
func TestRaiseGivesWay(t *testing.T) {
	s := newScript(t, three(Majority, 1))
	s.pass(720 * ms)
	s.receive(2, Answer{Seq: 1})
	s.core.Locked(s.now, true)
	s.wants("to 2: Ask{1}", "to 3: Ask{1}", "TakeLock{true}", "Raise{1}")
	s.core.EpochRaised(s.now, three(Majority, 4), false)
	s.wants()
	for stage := ""; stage != "asking"; _, stage = s.core.Elector() {
		s.pass(20 * ms)
	}
	s.receive(2, Answer{Seq: s.core.election.seq})
	s.core.Locked(s.now, true)
	got := s.core.Effects()
	if last := got[len(got)-1]; last != (Raise{Above: 4}) {
		t.Errorf("it wants %v", got)
	}
}

// A Primary goes on below a higher epoch in cluster.json, and then has itself
// appointed anew.
func TestSurpassedPrimaryHoldsAnElection(t *testing.T) {
	s := newScript(t, three(Majority, 1))
	s.primary(three(Majority, 2))
	s.core.Surpassed(s.now, 3)
	s.pass(700 * ms)
	s.wants()
	if role, _ := s.core.Role(); role != Primary {
		t.Fatalf("it is %v", role)
	}
	s.pass(20 * ms)
	s.wants("TakeLock{true}")
	s.core.Locked(s.now, true)
	s.wants("Raise{3}")
}

func TestHandOver(t *testing.T) {
	s := newScript(t, three(Majority, 1))
	s.primary(three(Majority, 2))
	s.core.HandOver(s.now, 3)
	s.wants("Raise{2}")
	c := three(Majority, 3)
	s.core.EpochRaised(s.now, c, true)
	s.wants("StepDown{2}", "Promise{3}", "to 2: Audit{3}", "to 3: Audit{3}")
	last := Position{ID: 5, Epoch: 2}
	s.core.Promised(3, last)
	s.receive(2, AuditAnswer{Epoch: 3, Promise: 3, Last: last})
	s.receive(3, AuditAnswer{Epoch: 3, Promise: 3, Last: last})
	s.wants(fmt.Sprintf("to 3: Appoint{%v}", c))
}

// A node that was suspended has not heard anything because it was not there.
func TestSuspendedNodeDoesNotSuspect(t *testing.T) {
	s := newScript(t, three(Majority, 1))
	s.receive(2, Heartbeat{Epoch: 1, Round: 1})
	s.core.Effects()
	s.now += time.Hour
	s.core.Tick(s.now)
	s.wants()
	s.pass(720 * ms)
	s.wants("to 2: Ask{1}", "to 3: Ask{1}")
}

// TestNewDiskElectsWhereTheChainDecides: with rule 0 nobody has to agree, so that a
// node whose disk is no voter's elects itself where all voters are gone.
func TestNewDiskElectsWhereTheChainDecides(t *testing.T) {
	for _, rule := range []Rule{ObjectStorage, Majority} {
		s := &script{T: t, core: New(Config{Self: 9, Promise: 1, Cluster: three(rule, 4)}, 0)}
		s.pass(2 * time.Second)
		locks := slices.ContainsFunc(s.core.Effects(), func(e Effect) bool { return e == TakeLock{Force: false} })
		if locks != (rule == ObjectStorage) {
			t.Fatalf("rule %d: the lock was asked for: %t", rule, locks)
		}
		if !locks {
			continue
		}
		s.core.Locked(s.now, true)
		s.wants("Raise{4}")
		s.core.EpochRaised(s.now, three(rule, 5), true)
		s.core.Effects()
		s.core.Promised(5, Position{ID: 7, Epoch: 4})
		s.pass(100 * ms) // the others' time to answer
		if role, e := s.core.Role(); role != Candidate || e != 5 {
			t.Fatalf("it is %s of epoch %d", role, e)
		}
	}
}
