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
)

// register says where this node is, and reads who the others are and what the cluster is. Where object storage does not
// answer, a node that has known the others goes on with that, and registers once it answers.
func (p *clusterParts) register(ctx context.Context, urls []string) (elect.Cluster, error) {
	p.directory = newDirectory(p.objects.archive.Control(), p.self, p.env.cfg.DataFolder(), p.transport.SetPeers, p.env.log)
	me := s3snap.Registration{
		Name: p.env.cfg.nodeID(), PeerAddress: p.transport.Address(), ClientURLs: urls, Version: p.env.cfg.Version,
		Started: time.Now().UnixMilli(), Promised: p.log.Promised(), Last: p.log.Committed().ID,
	}
	p.directory.register = func(ctx context.Context) error {
		return p.directory.control.Register(ctx, me, p.mayReplace(ctx))
	}
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
	if err := p.directory.register(ctx); err != nil {
		return elect.Cluster{}, err
	}
	if err := p.directory.refresh(ctx); err != nil {
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

// mayReplace judges a registration of this node's name that is there already: a process that still answers for it is
// another node with the same name.
func (p *clusterParts) mayReplace(ctx context.Context) func(s3snap.Registration) error {
	return func(there s3snap.Registration) error {
		if there.ID == p.self && (there.Promised > p.log.Promised() || there.Last > p.log.Committed().ID) {
			return fmt.Errorf("%w: it had promised epoch %d and held %d committed rows when it started last, and now has %d and %d; delete it, so that the node joins with an empty disk",
				ErrOldDisk, there.Promised, there.Last, p.log.Promised(), p.log.Committed().ID)
		}
		if there.PeerAddress == p.transport.Address() {
			return nil // nobody else can listen there
		}
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		state, err := p.askAsClient(ctx, there.PeerAddress)
		if err == nil && state.Name == there.Name && state.ClusterId == peer.ClusterID(p.env.cfg.ClusterID) && elect.NodeID(state.NodeId) == there.ID {
			return fmt.Errorf("%w: %s answers at %s; give this one another --node-id", ErrCloned, there.Name, there.PeerAddress)
		}
		return nil
	}
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
