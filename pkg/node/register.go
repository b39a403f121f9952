package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// register says where this node is, and reads who the others are and what the cluster is. Where object storage does not
// answer, a node that has known the others goes on with that, and registers once it answers.
func (p *clusterParts) register(ctx context.Context, urls []string) (elect.Cluster, error) {
	p.directory = newDirectory(p.objects.archive.Control(), p.self, p.env.cfg.DataFolder(), p.transport.SetPeers, p.env.log)
	me := s3snap.Registration{
		Name: p.env.cfg.nodeID(), PeerAddress: p.transport.Address(), ClientURLs: urls, Version: p.env.cfg.Version,
		Started: time.Now().UnixMilli(),
	}
	p.directory.holds = p.holds
	p.directory.register = func(ctx context.Context) error {
		me := me
		me.Promised, me.Last = p.holds()
		if err := p.takeOtherNames(ctx, me.Name); err != nil {
			return err
		}
		return p.directory.control.Register(ctx, me, p.mayReplace(ctx))
	}
	p.directory.called, p.directory.fail = me.Name, p.env.fail
	for first := true; ; first = false {
		// A log that was opened without object storage may be of a cluster that is yet to begin.
		var cluster elect.Cluster
		err := p.objects.archive.Join(ctx)
		if err == nil {
			cluster, err = p.tryRegister(ctx)
		}
		if err == nil {
			p.memberID = p.directory.memberID(p.self)
			return cluster, nil
		}
		if ctx.Err() != nil || !errors.Is(err, s3snap.ErrUnavailable) {
			return cluster, fmt.Errorf("register: %w", err)
		}
		if first {
			if cluster, ok := p.directory.recall(); ok {
				p.env.log.WithError(err).Warn("object storage does not answer; the node starts with what it knows of the others")
				p.memberID = p.directory.memberID(p.self)
				p.wg.Go(p.registerLater)
				return cluster, nil
			}
			p.env.log.WithError(err).Warn("object storage does not answer; the node waits for it to find the others")
		}
		p.env.waiting(err)
		if !sleep(ctx, time.Second) {
			return cluster, ctx.Err()
		}
	}
}

// holds is the epoch that the disk has promised, and a row up to which it holds all, which are committed.
func (p *clusterParts) holds() (sqllog.Epoch, sqllog.ID) {
	promised, last := p.log.Promised(), p.log.Committed().ID
	if m := p.member.Load(); m != nil {
		last = max(last, p.store.Head().ID) // it shows nothing that its own disk does not hold
	}
	return promised, last
}

// sleep waits and reports true, or false when ctx ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *clusterParts) tryRegister(ctx context.Context) (elect.Cluster, error) {
	if err := p.directory.enrol(ctx); err != nil {
		return elect.Cluster{}, err
	}
	return p.directory.cluster(), nil
}

// registerLater registers a node that has started without object storage. If it should not have, it ends.
func (p *clusterParts) registerLater() {
	for sleep(p.ctx, time.Second) {
		_, err := p.tryRegister(p.ctx)
		if err == nil {
			p.env.log.Info("registered in object storage")
			return
		}
		if p.ctx.Err() == nil && !errors.Is(err, s3snap.ErrUnavailable) {
			p.env.fail(fmt.Errorf("register: %w", err))
			return
		}
	}
}

// deregister removes the registration of a node whose vote was taken away. One that is alive after all registers again.
func (p *clusterParts) deregister(n elect.NodeID) {
	r, known := p.directory.find(n)
	if !known {
		return
	}
	p.wg.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, directoryTimeout)
		defer cancel()
		if err := p.directory.control.Deregister(ctx, r); err != nil && p.ctx.Err() == nil {
			p.env.log.WithError(err).WithField("node", r.Name).Info("the node's registration was not removed")
		}
	})
}

// takeOtherNames removes registrations of this disk under other names: the node was renamed, unless a process answers.
func (p *clusterParts) takeOtherNames(ctx context.Context, name string) error {
	all, err := p.directory.control.Registrations(ctx)
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.ID != p.self || r.Name == name {
			continue
		}
		if err := p.mayReplace(ctx)(r); err != nil {
			return err
		}
		p.env.log.WithField("was", r.Name).Info("this node has another name now")
		if err := p.directory.control.Deregister(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// mayReplace judges a registration of this node's name that is there already: a process that still answers for it is
// another node with the same name.
func (p *clusterParts) mayReplace(ctx context.Context) func(s3snap.Registration) error {
	return func(there s3snap.Registration) error {
		if there.ID == p.self && (there.Promised > p.log.Promised() || there.Last > p.log.Head().ID) {
			return fmt.Errorf("%w: it had promised epoch %d and held row %d when it registered last, and now has %d and ends at row %d; delete it, so that the node joins with an empty disk",
				ErrOldDisk, there.Promised, there.Last, p.log.Promised(), p.log.Head().ID)
		}
		if there.PeerAddress == p.transport.Address() {
			return nil // nobody else can listen there
		}
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		state, err := p.askAsClient(ctx, there.PeerAddress)
		if err == nil && state.Name == there.Name && state.ClusterId == peer.ClusterID(p.env.cfg.ClusterID) && elect.NodeID(state.NodeId) == there.ID {
			return cloned(there, there.ID == p.self)
		}
		return nil
	}
}

// cloned says what another process shares with this one.
func cloned(with s3snap.Registration, disk bool) error {
	if disk {
		return fmt.Errorf("%w: %s at %s has the same disk, %s, so that one of the two is a copy: delete it, or the one that is not needed, and give each node a --node-id of its own",
			ErrCloned, with.Name, with.PeerAddress, with.ID)
	}
	return fmt.Errorf("%w: %s answers at %s; give this one another --node-id", ErrCloned, with.Name, with.PeerAddress)
}

// askAsClient asks whoever is at an address for its state. A node would refuse one with its own name or disk.
func (p *clusterParts) askAsClient(ctx context.Context, address string) (_ *peerpb.NodeState, err error) {
	client, err := peer.New(p.peerConfig())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, client.Close(ctx)) }()
	return client.State(ctx, address)
}
