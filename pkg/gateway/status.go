package gateway

import (
	"context"
	"slices"
)

// States of a node in the answer to status: AntiEtcd's words.
const (
	stateLeader    = "leader"
	stateFollower  = "follower"
	stateCandidate = "candidate"
)

// status answers /v3/maintenance/status. It asks nobody, and so answers while there
// is no Primary.
func (g *Gateway) status(ctx context.Context, _ object) ([]byte, error) {
	st := g.cfg.Admin.Status()
	var members []Member
	if g.cfg.Members != nil {
		members = g.cfg.Members(ctx)
	}
	b := append([]byte(nil), `{"header":{`...)
	if name := memberName(members, g.cfg.MemberID); name != "" {
		b = append(b, `"member_id":`...)
		b = append(appendText(b, name), ',')
	}
	b = append(b, `"revision":`...)
	b = appendInt(b, st.Revision)
	b = append(b, `,"compact_revision":`...)
	b = appendInt(b, g.cfg.CompactRevision())
	epoch := g.epoch()
	if epoch != 0 {
		b = append(b, `,"raft_term":`...)
		b = appendInt(b, epoch)
	}
	b = append(b, `},"version":`...)
	b = appendText(b, g.version())
	if g.cfg.Members != nil {
		b = g.appendCluster(b, members, epoch)
	}
	b = append(b, `,"dbSize":`...)
	b = appendInt(b, st.DBSize)
	return append(b, '}'), nil
}

// appendCluster writes who is in the cluster and which of them orders the writes.
func (g *Gateway) appendCluster(b []byte, members []Member, epoch int64) []byte {
	b = append(b, `,"cluster":{`...)
	for i, m := range members {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendText(b, m.Name), ':')
		b = appendText(b, m.URL)
	}
	b = append(b, '}')
	state, leader := stateCandidate, g.leader()
	if leader != 0 {
		b = append(b, `,"leader":`...)
		b = appendText(b, memberName(members, leader))
		state = stateFollower
	}
	if leader == g.cfg.MemberID {
		state = stateLeader
		b = append(b, `,"followers":[`...)
		for i, m := range slices.DeleteFunc(slices.Clone(members), func(m Member) bool { return m.ID == leader }) {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendText(b, m.Name)
		}
		b = append(b, ']')
	}
	b = append(b, `,"raftTerm":`...)
	b = appendInt(b, epoch)
	b = append(b, `,"raftState":"`...)
	b = append(b, state...)
	return append(b, '"')
}

func memberName(members []Member, id uint64) string {
	for _, m := range members {
		if m.ID == id {
			return m.Name
		}
	}
	return ""
}

func (g *Gateway) epoch() int64 {
	if g.cfg.Epoch == nil {
		return 0
	}
	return g.cfg.Epoch()
}

// version is kinsy's name and version in one word each.
func (g *Gateway) version() string {
	if g.cfg.Version == "" {
		return "kinsy"
	}
	return "kinsy " + g.cfg.Version
}

// leader is the member id of the Primary, 0 if none is known.
func (g *Gateway) leader() uint64 {
	if g.cfg.Leader == nil {
		return g.cfg.MemberID
	}
	return g.cfg.Leader()
}
