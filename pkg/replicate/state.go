package replicate

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
)

// Status reports on this node. It does not wait for writes. A Primary that hears too few
// voters asks object storage, for confirmLimit at most, whether it still is one.
func (m *Member) Status() Status {
	var st Status
	if p := m.primary(); p != nil {
		st = p.Status()
		if m.hangs() {
			st.Errors, st.Healthy = append(st.Errors, m.silence()), false
		} else if err := p.quorum.stuckErr(); err != nil && !st.NoSpace {
			st.Errors, st.Healthy = append(st.Errors, err.Error()), false
		}
		if err := m.unconfirmed(p.quorum); err != nil {
			st.Errors, st.Healthy = append(st.Errors, err.Error()), false
		}
	} else {
		st = m.replicaStatus()
	}
	if node, _, _ := m.leader.get(); node != 0 {
		st.Primary = node
	}
	return st
}

func (m *Member) replicaStatus() Status {
	st := Status{Revision: m.store.Revision()}
	sizeOf(m.log, &m.lastSize, &st)
	_, lack := m.room.lack()
	if st.NoSpace = lack != nil && m.control.state().primary != 0; st.NoSpace {
		st.Errors = []string{lack.Error()} // whence it is behind, or cannot even promise to follow
	} else if st.Errors = m.replicaProblems(); lack != nil {
		st.Errors = append(st.Errors, lack.Error())
	} else if m.hangs() {
		st.Errors = append(st.Errors, m.silence())
	} else if err := m.room.brokenErr(); err != nil {
		st.Errors = append(st.Errors, err.Error())
	}
	if err := m.store.Damage(); err != nil {
		st.Errors = append(st.Errors, err.Error())
	}
	st.Healthy = len(st.Errors) == 0
	return st
}

// State implements peer.Handler.
func (m *Member) State() *peerpb.NodeState {
	core, st := m.control.state(), m.Status()
	s := &peerpb.NodeState{
		NodeId: uint64(m.self), Epoch: int64(core.epoch), Promised: int64(core.promise), Primary: uint64(core.primary),
		Elector: core.elector, Revision: st.Revision, Committed: int64(m.store.Head().ID),
		Durable: int64(m.log.Head().ID), Uploaded: int64(m.archive.Uploaded()),
		Problems: st.Errors, LogBytes: st.DBSize, Rule: int64(core.cluster.Rule),
	}
	s.Role = map[elect.Role]peerpb.Role{
		elect.Replica: peerpb.Role_ROLE_REPLICA, elect.Candidate: peerpb.Role_ROLE_CANDIDATE, elect.Primary: peerpb.Role_ROLE_PRIMARY,
	}[core.role]
	s.Health = peerpb.Health_HEALTH_DEGRADED
	switch {
	case st.Healthy:
		s.Health = peerpb.Health_HEALTH_HEALTHY
	case !m.joined.Load():
		s.Health = peerpb.Health_HEALTH_LOADING
	}
	for _, n := range core.cluster.Members {
		s.Members = append(s.Members, uint64(n))
	}
	if m.primary() != nil {
		for _, f := range m.followers.states() {
			s.Replicas = append(s.Replicas, &peerpb.ReplicaState{
				Name: f.name, NodeId: uint64(f.node), Connected: true, Voter: core.cluster.IsMember(f.node),
				Durable: int64(f.id), BehindRows: max(s.Durable-int64(f.id), 0), ReceiptAgeMs: time.Since(f.at).Milliseconds(),
			})
		}
	}
	if m.cfg.Describe != nil {
		m.cfg.Describe(s)
	}
	return s
}

var (
	descRole      = prometheus.NewDesc("kinsy_role", "1 for the role of this node.", []string{"role"}, nil)
	descElector   = prometheus.NewDesc("kinsy_elector", "1 if this node holds the elector's lock as far as it knows, else 0.", nil, nil)
	descEpoch     = prometheus.NewDesc("kinsy_epoch", "Epoch of the primary that this node is or hears; 0 for none.", nil, nil)
	descPromised  = prometheus.NewDesc("kinsy_promised_epoch", "Epoch below which this node takes nothing.", nil, nil)
	descCommitted = prometheus.NewDesc("kinsy_committed_id", "Newest row that this node shows to clients.", nil, nil)
	descDurable   = prometheus.NewDesc("kinsy_durable_id", "Newest row in this node's log.", nil, nil)
	descLag       = prometheus.NewDesc("kinsy_replica_lag_rows", "Rows of the primary's log that a replica has not said to hold.", []string{"node"}, nil)
	descVoters    = prometheus.NewDesc("kinsy_voters", "Nodes that vote.", nil, nil)
)

var _ prometheus.Collector = (*Member)(nil)

// Describe implements prometheus.Collector. The Primary's metrics come and go.
func (m *Member) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m *Member) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	s := m.State()
	for _, r := range []elect.Role{elect.Replica, elect.Candidate, elect.Primary} {
		is := 0.0
		if role, _ := m.role(); role == r {
			is = 1
		}
		gauge(descRole, is, r.String())
	}
	elector := 0.0
	if s.Elector {
		elector = 1
	}
	gauge(descElector, elector)
	gauge(descEpoch, float64(s.Epoch))
	gauge(descPromised, float64(s.Promised))
	gauge(descCommitted, float64(s.Committed))
	gauge(descDurable, float64(s.Durable))
	gauge(descVoters, float64(len(s.Members)))
	for _, r := range s.Replicas {
		gauge(descLag, float64(r.BehindRows), r.Name)
	}
	m.metrics.collect(ch)
	if p := m.primary(); p != nil {
		p.Collect(ch)
	}
}

func (m *Member) role() (elect.Role, int64) {
	s := m.control.state()
	return s.role, int64(s.epoch)
}
