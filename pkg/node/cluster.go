package node

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/gateway"
	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/peer"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
	"github.com/kinsy/kinsy/pkg/replicate"
	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/server"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// clusterParts is the engine of a node of a cluster.
type clusterParts struct {
	env       engineEnv
	objects   *objects
	log       *sqllog.Log
	store     *mvcc.Store
	self      elect.NodeID
	memberID  uint64
	transport *peer.Transport
	directory *directory
	member    atomic.Pointer[replicate.Member] // nil while the node is being opened
	server    *server.Server
	rest      *rest // nil without REST

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

var (
	_ engine       = (*clusterParts)(nil)
	_ peer.Handler = (*clusterParts)(nil)
)

// openCluster opens a node of a cluster, as a Replica.
func openCluster(ctx context.Context, env engineEnv) (_ engine, err error) {
	p := &clusterParts{env: env}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = describeDamage(ctx, env.cfg.LogPath(), errors.Join(err, p.Close()))
		}
	}()
	if err = p.openLog(ctx); err != nil {
		return nil, err
	}
	if err = p.openPeers(); err != nil {
		return nil, err
	}
	urls, err := env.listen(ctx)
	if err != nil {
		return nil, err
	}
	cluster, err := p.register(ctx, urls)
	if err != nil {
		return nil, err
	}
	p.store, err = mvcc.Open(ctx, p.log, mvcc.Config{
		CacheBytes: orOff(env.cfg.ValueCacheBytes, -1), ProgressInterval: orOff(env.cfg.NotifyInterval, math.MaxInt64),
		Head: p.log.Committed(), Logger: env.log,
	})
	if err != nil {
		return nil, fmt.Errorf("open log %s: %w", env.cfg.LogPath(), err)
	}
	p.startMember(cluster)
	cfg := p.serverConfig(urls)
	if err = cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure server: %w", err)
	}
	if p.rest, err = newREST(env, p.restConfig(cfg)); err != nil {
		return nil, err
	}
	p.server = server.New(cfg)
	return p, nil
}

// openLog opens the log together with object storage.
func (p *clusterParts) openLog(ctx context.Context) error {
	cfg := p.env.cfg
	config := cfg.ObjectStore
	config.Logger = p.env.log
	store, err := object.Open(ctx, config)
	if err != nil {
		return fmt.Errorf("open object store: %w", err)
	}
	p.objects = &objects{}
	p.objects.store, p.objects.metrics = object.Instrument(store)
	archive := cfg.archive(p.env, p.objects.store)
	archive.CommitByChunk = false
	archive.Cluster, archive.Rule = peer.ClusterID(cfg.ClusterID), elect.Rule(cfg.Quorum)
	archive.OnDeposed = func(e sqllog.Epoch, err error) {
		if m := p.member.Load(); m != nil {
			m.ArchiveDeposed(e, err)
		}
	}
	archive.OnUploaded = func(e sqllog.Epoch, end sqllog.Head) {
		if m := p.member.Load(); m != nil {
			m.Uploaded(e, end)
		}
	}
	p.objects.log, p.objects.archive, err = s3snap.OpenReplica(ctx, archive)
	if err != nil {
		p.objects = nil
		return errors.Join(err, object.Close(store))
	}
	p.log, p.self = p.objects.log, elect.NodeID(p.objects.log.Identity().Node)
	return nil
}

// openPeers opens the listener for peers and begins to serve them.
func (p *clusterParts) openPeers() error {
	var err error
	cfg := p.peerConfig()
	cfg.Self, cfg.Handler, cfg.ListenAddress, cfg.AdvertiseAddress = p.self, p, p.env.cfg.PeerListenAddress, p.env.cfg.PeerAdvertiseAddress
	if p.transport, err = peer.New(cfg); err != nil {
		return fmt.Errorf("listen for peers: %w", err)
	}
	p.wg.Go(func() {
		if err := p.transport.Serve(); err != nil {
			p.env.fail(fmt.Errorf("serve peers: %w", err))
		}
	})
	return nil
}

// forwardFactor is how much larger than a client's request the one may be that is forwarded for it: a put by REST carries
// its value twice and its key three times.
const forwardFactor = 4

// peerConfig is for a client of the other nodes.
func (p *clusterParts) peerConfig() peer.Config {
	cfg := p.env.cfg
	return peer.Config{
		Name: cfg.nodeID(), Cluster: peer.ClusterID(cfg.ClusterID),
		CertFile: cfg.PeerCertFile, KeyFile: cfg.PeerKeyFile, CAFile: cfg.PeerCAFile, Insecure: cfg.InsecurePeers,
		MaxFrameBytes: max(peer.DefaultMaxFrameBytes, forwardFactor*int(cfg.MaxRequestBytes)), Logger: p.env.log,
	}
}

// startMember lets the node take part.
func (p *clusterParts) startMember(cluster elect.Cluster) {
	cfg := p.env.cfg
	m := replicate.NewMember(replicate.MemberConfig{
		Self: p.self, Rule: elect.Rule(cfg.Quorum), Cluster: cluster, Log: p.log, Store: p.store,
		Archive: p.objects.archive, Control: p.objects.archive.Control(), Peers: peers{p.transport, p.directory},
		Primary: replicate.Config{Compaction: cfg.compaction()}, Clock: s3snap.BootClock,
		Describe: p.describe, Names: p.directory.name, Deregister: p.deregister, Status: server.StatusError, StaleRead: cfg.StaleRead,
		Heartbeat: cfg.HeartbeatInterval, Suspicion: cfg.SuspicionTime, DeregisterAfter: cfg.DeregisterAfter,
		MaxPendingUpload: cfg.MaxPendingUploadBytes, OnFatal: p.env.fail, Logger: p.env.log,
	})
	p.member.Store(m)
	p.wg.Go(func() { p.directory.run(p.ctx) })
	m.Start()
}

// peers makes a Transport what package replicate wants.
type peers struct {
	*peer.Transport
	directory *directory
}

// Send implements replicate.Peers. A node that is not known yet may be soon.
func (t peers) Send(to elect.NodeID, m elect.Message) {
	t.directory.look(to)
	t.Transport.Send(to, m)
}

// Follow implements replicate.Peers.
func (t peers) Follow(ctx context.Context, to elect.NodeID, open peer.FollowOpen) (replicate.Following, error) {
	return t.Transport.Follow(ctx, to, open)
}

func (p *clusterParts) describe(s *peerpb.NodeState) {
	cfg := p.env.cfg
	s.Name, s.ClusterId, s.MemberId = cfg.nodeID(), peer.ClusterID(cfg.ClusterID), p.memberID
	s.PrimaryName, _ = p.directory.name(elect.NodeID(s.Primary))
	s.Version, s.PeerAddress = cfg.Version, p.transport.Address()
	s.ProtocolMajor, s.ProtocolMinor = peer.ProtocolMajor, peer.ProtocolMinor
	if me, known := p.directory.own(); known {
		s.ClientUrls, s.StartedMs = me.ClientURLs, me.Started
	}
	for _, r := range s.Replicas {
		if reg, known := p.directory.find(elect.NodeID(r.NodeId)); known {
			r.Address = reg.PeerAddress
		}
	}
}

func (p *clusterParts) serverConfig(urls []string) server.Config {
	m := p.member.Load()
	c := commonServerConfig(p.env, urls, p.log, p.store)
	c.KV, c.Lessor, c.Admin = m, m, m
	c.MemberID, c.MemberName = p.memberID, p.env.cfg.nodeID()
	scheme := "https"
	if p.env.cfg.InsecurePeers {
		scheme = "http"
	}
	c.Leader = func() uint64 { return p.directory.memberID(m.Primary()) }
	c.Members = func(ctx context.Context) ([]*pb.Member, error) {
		if err := p.directory.freshen(ctx); err != nil {
			p.env.log.WithError(err).Debug("members as they were last known")
		}
		return p.directory.list(scheme, m.Voters()), nil
	}
	c.MoveLeader = func(ctx context.Context, target uint64) error {
		n, known := p.directory.node(target)
		if !known {
			return rpctypes.ErrGRPCBadLeaderTransferee
		}
		return m.MovePrimary(ctx, n)
	}
	return c
}

// restConfig adds what status tells of the cluster.
func (p *clusterParts) restConfig(s server.Config) gateway.Config {
	c := restConfig(p.env, s, p.store)
	c.Epoch = func() int64 { return p.member.Load().State().GetEpoch() }
	c.Members = func(ctx context.Context) []gateway.Member {
		list, err := s.Members(ctx)
		if err != nil {
			return nil
		}
		members := make([]gateway.Member, 0, len(list))
		for _, m := range list {
			member := gateway.Member{ID: m.ID, Name: m.Name}
			if len(m.ClientURLs) > 0 {
				member.URL = m.ClientURLs[0]
			}
			members = append(members, member)
		}
		return members
	}
	return c
}

// Receive implements peer.Handler.
func (p *clusterParts) Receive(from elect.NodeID, msg elect.Message) {
	if m := p.member.Load(); m != nil {
		p.directory.look(from)
		m.Receive(from, msg)
	}
}

// Follow implements peer.Handler.
func (p *clusterParts) Follow(ctx context.Context, s peer.FollowStream) error {
	m := p.member.Load()
	if m == nil {
		return errLoading
	}
	p.directory.look(s.From())
	return m.Follow(ctx, s)
}

// Forward implements peer.Handler.
func (p *clusterParts) Forward(ctx context.Context, r *peerpb.ForwardRequest) *peerpb.ForwardResponse {
	if m := p.member.Load(); m != nil {
		return m.Forward(ctx, r)
	}
	return nil
}

// Committed implements peer.Handler.
func (p *clusterParts) Committed(ctx context.Context, e sqllog.Epoch) (sqllog.ID, error) {
	if m := p.member.Load(); m != nil {
		return m.Committed(ctx, e)
	}
	return 0, errLoading
}

// State implements peer.Handler.
func (p *clusterParts) State() *peerpb.NodeState {
	if m := p.member.Load(); m != nil {
		return m.State()
	}
	s := &peerpb.NodeState{Health: peerpb.Health_HEALTH_LOADING, NodeId: uint64(p.self)}
	s.Name, s.ClusterId = p.env.cfg.nodeID(), peer.ClusterID(p.env.cfg.ClusterID)
	return s
}

// HandOver implements peer.Handler.
func (p *clusterParts) HandOver(ctx context.Context, to elect.NodeID) (elect.NodeID, error) {
	if m := p.member.Load(); m != nil {
		return m.HandOver(ctx, to)
	}
	return 0, errLoading
}

// Serve implements engine.
func (p *clusterParts) Serve(l net.Listener) error { return p.server.Serve(l) }

// ServeREST implements engine.
func (p *clusterParts) ServeREST(l net.Listener) error { return p.rest.serve(l) }

// handOverLimit is what a stop gives the search for another Primary.
const handOverLimit = 2 * time.Second

// Drain implements engine: another node becomes Primary before this one stops to answer.
func (p *clusterParts) Drain(ctx context.Context) {
	wasPrimary := false
	if m := p.member.Load(); m != nil {
		wasPrimary = m.Primary() == p.self
		handing, cancel := context.WithTimeout(ctx, handOverLimit)
		if err := m.MovePrimary(handing, 0); err != nil {
			p.env.log.WithError(err).Info("no other node took over before the stop")
		}
		cancel()
	}
	drainFronts(ctx, p.server, p.rest)
	if wasPrimary {
		// What others have sent before they heard of the new Primary is refused, not cut off: they send it there.
		timer := time.NewTimer(p.env.cfg.HeartbeatInterval)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// Status implements engine.
func (p *clusterParts) Status() engineStatus {
	s := p.member.Load().Status()
	return engineStatus{healthy: s.Healthy, noSpace: s.NoSpace, reasons: s.Errors}
}

// Collectors implements engine.
func (p *clusterParts) Collectors() []prometheus.Collector {
	return append(p.objects.collectors(), p.rest.collectors(p.log, p.store, p.member.Load(), p.server)...)
}

// Close implements engine.
func (p *clusterParts) Close() error {
	p.cancel()
	if m := p.member.Load(); m != nil {
		m.Close()
	}
	if p.transport != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := p.transport.Close(ctx); err != nil {
			p.env.log.WithError(err).Debug("closing the transport")
		}
	}
	p.wg.Wait()
	return closeStorage(p.objects, p.store, p.log)
}
