package peer

import (
	"fmt"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// maxMembers bounds the voters that a message may name.
const maxMembers = 256

// encodeMessage encodes a message of pkg/elect.
func encodeMessage(m elect.Message) *peerpb.ElectMessage {
	switch m := m.(type) {
	case elect.Heartbeat:
		return &peerpb.ElectMessage{Message: &peerpb.ElectMessage_Heartbeat{Heartbeat: &peerpb.Heartbeat{
			Epoch: int64(m.Epoch), Round: m.Round, Candidate: m.Candidate}}}
	case elect.HeartbeatAck:
		return &peerpb.ElectMessage{Message: &peerpb.ElectMessage_HeartbeatAck{HeartbeatAck: &peerpb.HeartbeatAck{
			Epoch: int64(m.Epoch), Round: m.Round, Promise: int64(m.Promise), Full: m.Full}}}
	case elect.Ask:
		return &peerpb.ElectMessage{Message: &peerpb.ElectMessage_Ask{Ask: &peerpb.Ask{Seq: m.Seq}}}
	case elect.Answer:
		return &peerpb.ElectMessage{Message: &peerpb.ElectMessage_Answer{Answer: &peerpb.Answer{
			Seq: m.Seq, Primary: uint64(m.Primary), Epoch: int64(m.Epoch), Elector: m.Elector}}}
	case elect.Audit:
		return &peerpb.ElectMessage{Message: &peerpb.ElectMessage_Audit{Audit: &peerpb.Audit{Epoch: int64(m.Epoch)}}}
	case elect.AuditAnswer:
		return &peerpb.ElectMessage{Message: &peerpb.ElectMessage_AuditAnswer{AuditAnswer: &peerpb.AuditAnswer{
			Epoch: int64(m.Epoch), Promise: int64(m.Promise), Last: encodePosition(m.Last), Full: m.Full}}}
	case elect.Appoint:
		return &peerpb.ElectMessage{Message: &peerpb.ElectMessage_Appoint{Appoint: &peerpb.Appoint{Cluster: encodeCluster(m.Cluster)}}}
	case elect.AppointAnswer:
		return &peerpb.ElectMessage{Message: &peerpb.ElectMessage_AppointAnswer{AppointAnswer: &peerpb.AppointAnswer{
			Epoch: int64(m.Epoch), Accepted: m.Accepted}}}
	}
	panic(fmt.Sprintf("peer: message %T has no encoding", m)) // a test encodes every type
}

// decodeMessage decodes a message; nil if it is of a type that this version does not
// know.
func decodeMessage(p *peerpb.ElectMessage) (elect.Message, error) {
	d := decoder{}
	var m elect.Message
	switch p := p.GetMessage().(type) {
	case *peerpb.ElectMessage_Heartbeat:
		h := p.Heartbeat
		m = elect.Heartbeat{Epoch: d.epoch(h.GetEpoch()), Round: h.GetRound(), Candidate: h.GetCandidate()}
	case *peerpb.ElectMessage_HeartbeatAck:
		h := p.HeartbeatAck
		m = elect.HeartbeatAck{Epoch: d.epoch(h.GetEpoch()), Round: h.GetRound(), Promise: d.epoch(h.GetPromise()), Full: h.GetFull()}
	case *peerpb.ElectMessage_Ask:
		m = elect.Ask{Seq: p.Ask.GetSeq()}
	case *peerpb.ElectMessage_Answer:
		a := p.Answer
		m = elect.Answer{Seq: a.GetSeq(), Primary: elect.NodeID(a.GetPrimary()), Epoch: d.epoch(a.GetEpoch()), Elector: a.GetElector()}
	case *peerpb.ElectMessage_Audit:
		m = elect.Audit{Epoch: d.epoch(p.Audit.GetEpoch())}
	case *peerpb.ElectMessage_AuditAnswer:
		a := p.AuditAnswer
		m = elect.AuditAnswer{Epoch: d.epoch(a.GetEpoch()), Promise: d.epoch(a.GetPromise()), Last: d.position(a.GetLast()), Full: a.GetFull()}
	case *peerpb.ElectMessage_Appoint:
		m = elect.Appoint{Cluster: d.cluster(p.Appoint.GetCluster())}
	case *peerpb.ElectMessage_AppointAnswer:
		a := p.AppointAnswer
		m = elect.AppointAnswer{Epoch: d.epoch(a.GetEpoch()), Accepted: a.GetAccepted()}
	}
	if d.err != nil {
		return nil, d.err
	}
	return m, nil
}

func encodePosition(p elect.Position) *peerpb.Position {
	return &peerpb.Position{Id: int64(p.ID), Epoch: int64(p.Epoch)}
}

func encodeCluster(c elect.Cluster) *peerpb.Cluster {
	p := &peerpb.Cluster{Epoch: int64(c.Epoch), Rule: int64(c.Rule), RuleBefore: int64(c.RuleBefore), Changing: c.Changing}
	for _, member := range c.Members {
		p.Members = append(p.Members, uint64(member))
	}
	return p
}

// decoder decodes values that are in range, and remembers the first one that is not.
type decoder struct{ err error }

func (d *decoder) refuse(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
}

func (d *decoder) epoch(e int64) sqllog.Epoch {
	if e < 0 {
		d.refuse("epoch is %d", e)
	}
	return sqllog.Epoch(e)
}

func (d *decoder) id(id int64) sqllog.ID {
	if id < 0 {
		d.refuse("id is %d", id)
	}
	return sqllog.ID(id)
}

func (d *decoder) position(p *peerpb.Position) elect.Position {
	return elect.Position{ID: d.id(p.GetId()), Epoch: d.epoch(p.GetEpoch())}
}

func (d *decoder) rule(r int64) elect.Rule {
	if r < int64(elect.Majority) || r > maxMembers {
		d.refuse("commit rule is %d", r)
	}
	return elect.Rule(r)
}

func (d *decoder) cluster(p *peerpb.Cluster) elect.Cluster {
	c := elect.Cluster{
		Epoch: d.epoch(p.GetEpoch()), Rule: d.rule(p.GetRule()), RuleBefore: d.rule(p.GetRuleBefore()),
		Changing: p.GetChanging(),
	}
	if n := len(p.GetMembers()); n > maxMembers {
		d.refuse("%d members", n)
		return c
	}
	for i, member := range p.GetMembers() {
		if member == 0 || i > 0 && member <= p.Members[i-1] {
			d.refuse("members are not ascending")
		}
		c.Members = append(c.Members, elect.NodeID(member))
	}
	return c
}
