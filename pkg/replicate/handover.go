package replicate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// handOverLimit bounds a hand-over: writes wait for it, and no longer than they wait
// for a Primary otherwise.
const handOverLimit = leaderPatience / 2

// errHandingOver: the Primary takes no writes while it hands over, nor when it is not
// the Primary any more; the request had no effect.
var errHandingOver = errors.New("the primary hands over")

// Primary is the node that orders writes as far as this one knows, 0 if it knows
// none.
func (m *Member) Primary() elect.NodeID {
	n, _, _ := m.leader.get()
	return n
}

// Voters are the nodes that vote, as last heard of.
func (m *Member) Voters() []elect.NodeID { return m.control.state().cluster.Members }

// MovePrimary makes another node Primary, if this one is it: target, or, for 0, the
// voter that is nearest. Writes wait meanwhile. It returns nil when another node was
// heard as Primary, at once if this node is not Primary and target is 0 or is it
// already. It gives up after half the time that a request waits for a Primary, if ctx
// does not end before. ErrNotPrimary, ErrNoSuccessor: this node remains what it was, or a third one
// is Primary.
func (m *Member) MovePrimary(ctx context.Context, target elect.NodeID) error {
	p := m.primary()
	switch {
	case p == nil && (target == 0 || target == m.Primary()), target == m.self && p != nil:
		return nil
	case p == nil:
		return ErrNotPrimary
	}
	chosen := m.successor(target)
	if chosen == 0 {
		return ErrNoSuccessor
	}
	started := time.Now()
	ctx, cancel := context.WithTimeout(ctx, handOverLimit)
	defer cancel()
	p.handOver(true)
	defer p.handOver(false) // if it has failed; a Primary that is gone does not mind
	if err := m.prepare(ctx, p, chosen); err != nil {
		return fmt.Errorf("%w: %w", ErrNoSuccessor, err)
	}
	m.control.do(func(core *elect.Core, now time.Duration) { core.HandOver(now, chosen) })
	node, epoch, err := m.leader.await(ctx, p.quorum.cfg.Cluster.Epoch)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoSuccessor, err)
	}
	if node == m.self {
		return fmt.Errorf("%w: this one was elected again", ErrNoSuccessor)
	}
	if target != 0 && node != target {
		return fmt.Errorf("%w: node %s was elected, %s did not answer in time", ErrNoSuccessor, node, target)
	}
	m.logger.WithField("primary", node).WithField("epoch", epoch).WithField("took", time.Since(started)).Info("handed over")
	return nil
}

// HandOver is MovePrimary for who is no node: peer.Handler. It returns the Primary that
// is heard then.
func (m *Member) HandOver(ctx context.Context, to elect.NodeID) (elect.NodeID, error) {
	err := m.MovePrimary(ctx, to)
	return m.Primary(), err
}

// successor chooses who is to be Primary next: the healthy voter that holds most.
func (m *Member) successor(target elect.NodeID) elect.NodeID {
	cluster := m.control.state().cluster
	var best followerState
	for _, f := range m.followers.states() {
		if !cluster.IsMember(f.node) || !m.healthy(f.node) || target != 0 && f.node != target {
			continue
		}
		if best.node == 0 || f.id > best.id {
			best = f
		}
	}
	return best.node
}

// prepare waits until everything is committed and uploaded, and the successor has it.
func (m *Member) prepare(ctx context.Context, p *Primary, successor elect.NodeID) error {
	if err := p.settle(ctx); err != nil {
		return err
	}
	head := m.store.Head().ID
	m.archive.UploadNow(head)
	if err := m.archive.WaitUploaded(ctx.Done(), head); err != nil {
		return err
	}
	return m.awaitReceipt(ctx, successor, head)
}

// settle waits until nothing is pending.
func (p *Primary) settle(ctx context.Context) error {
	for {
		p.mu.Lock()
		g := p.newestPendingLocked()
		p.mu.Unlock()
		if g == nil {
			return nil
		}
		select {
		case <-g.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// awaitReceipt waits until a Replica holds every row up to an id.
func (m *Member) awaitReceipt(ctx context.Context, n elect.NodeID, id sqllog.ID) error {
	for {
		held, changed, ok := m.followers.held(n)
		if !ok {
			return fmt.Errorf("node %s does not follow any more", n)
		}
		if held >= id {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// handOver has writes refused, before they begin, or taken again.
func (p *Primary) handOver(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handing = on
	p.makeRoomLocked()
}
