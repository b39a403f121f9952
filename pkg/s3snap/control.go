package s3snap

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/sirupsen/logrus"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Control reads and changes the objects by which the nodes of a cluster agree:
// cluster.json, elector.json, members.json and nodes/. Every change is a
// compare-and-swap that is tried a few times; a lost answer is recognised by what
// is there. Its methods may be called concurrently. They return ErrUnavailable if
// object storage does not answer or ctx ends (what was asked for may still
// happen), ErrConflict if somebody else was first, ErrNoHistory if there is no
// cluster.json, and ErrCorruptChain or ErrNewerFormat for objects that cannot be
// read.
type Control struct {
	store       object.Store
	self        elect.NodeID
	incarnation uint64
	log         logrus.FieldLogger
	known       known
}

// NewControl is for the node with a disk, in a process; log nil means logrus'
// standard logger.
func NewControl(store object.Store, self elect.NodeID, incarnation uint64, log logrus.FieldLogger) *Control {
	if log == nil {
		log = logrus.StandardLogger()
	}
	return &Control{store: store, self: self, incarnation: incarnation, log: log}
}

// controlTries bounds the tries of one change; a try more costs those who wait for
// an election less than an answer that never comes.
const controlTries = 4

// few calls fn until it succeeds, fails for good or was tried enough. fn returns
// errAgain to be called again at once.
func (c *Control) few(ctx context.Context, fn func() error) error {
	var pause backoff
	for tries := 1; ; tries++ {
		err := fn()
		switch {
		case errors.Is(err, errAgain):
		case transient(err):
			if tries < controlTries && ctx.Err() == nil && pause.pause(ctx) == nil {
				continue
			}
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		case err != nil && ctx.Err() != nil:
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		default:
			return err
		}
		if tries >= 4*controlTries {
			return fmt.Errorf("%w: %w", ErrConflict, err)
		}
	}
}

// errAgain: the object has changed since it was read.
var errAgain = errors.New("object has changed meanwhile")

// Read returns what cluster.json says. Members are empty where a single node has
// had the prefix so far.
func (c *Control) Read(ctx context.Context) (out elect.Cluster, err error) {
	err = c.few(ctx, func() error {
		file, _, err := c.readCluster(ctx)
		if err != nil {
			return noCluster(err)
		}
		out = file.voters()
		return nil
	})
	return out, err
}

// ClusterID returns the id of the cluster that has the prefix.
func (c *Control) ClusterID(ctx context.Context) (id uint64, err error) {
	err = c.few(ctx, func() error {
		file, err := readCluster(ctx, c.store)
		id = file.cluster()
		return noCluster(err)
	})
	return id, err
}

// noCluster names what the absence of cluster.json means.
func noCluster(err error) error {
	if errors.Is(err, object.ErrNotFound) {
		return fmt.Errorf("%w: there is no %s", ErrNoHistory, clusterKey)
	}
	return err
}

// update changes cluster.json. change may be called several times.
func (c *Control) update(ctx context.Context, change func(*clusterFile) error) (elect.Cluster, error) {
	return c.swap(ctx, newNonce(), false, change)
}

// swap is update for a change with a nonce, that was tried before or not.
//
// There is one nonce for all tries: the first one may take effect after the second
// one has looked. And one for each change, so that no content comes twice: some
// stores compare contents.
func (c *Control) swap(ctx context.Context, nonce string, tried bool, change func(*clusterFile) error) (out elect.Cluster, err error) {
	err = c.few(ctx, func() error {
		file, info, err := c.readCluster(ctx)
		if err != nil {
			return noCluster(err)
		}
		if tried && file.Nonce == nonce {
			out = file.voters()
			return nil
		}
		if err := change(&file); err != nil {
			return err
		}
		file.Nonce, tried = nonce, true
		out = file.voters()
		return c.swapCluster(ctx, file, info.Version)
	})
	if err != nil {
		return elect.Cluster{}, err
	}
	return out, nil
}

// updateKnown is update, first from what is known of cluster.json. next gives the
// change for that try, and another one for those after it.
func (c *Control) updateKnown(ctx context.Context, next func() func(*clusterFile) error) (elect.Cluster, error) {
	nonce := newNonce()
	file, version := c.known.cluster()
	if version == "" || next()(&file) != nil {
		return c.swap(ctx, nonce, false, next())
	}
	file.Nonce = nonce
	err := c.swapCluster(ctx, file, version)
	if err == nil {
		return file.voters(), nil
	}
	return c.swap(ctx, nonce, !errors.Is(err, errAgain), next())
}

// swapped turns a failed compare-and-swap into errAgain.
func swapped(err error) error {
	if errors.Is(err, object.ErrPrecondition) {
		return fmt.Errorf("%w: %w", errAgain, err)
	}
	return err
}

func newNonce() string { return fmt.Sprintf("%016x", rand.Uint64()) }

// Raise asks for an epoch above one and above all that were asked for, and returns
// the cluster as it is in that epoch. rule comes into force with it, unless another
// change of the rule is not settled yet. Where nobody votes yet, this node becomes
// the first voter. ErrConflict: somebody else has raised the epoch meanwhile.
func (c *Control) Raise(ctx context.Context, above sqllog.Epoch, rule elect.Rule) (elect.Cluster, error) {
	return c.raise(ctx, above, rule, func(*clusterFile) error { return nil })
}

// RaiseKnown is Raise for a node that knows the epoch in cluster.json. If there is a
// higher one, another Elector is at work: nothing is changed, and the cluster as it is
// there is returned with ErrConflict.
func (c *Control) RaiseKnown(ctx context.Context, known sqllog.Epoch, rule elect.Rule) (elect.Cluster, error) {
	var there elect.Cluster
	raised, err := c.raise(ctx, known, rule, func(f *clusterFile) error {
		if f.Epoch <= int64(known) || len(f.Members) == 0 {
			return nil
		}
		there = f.voters()
		return fmt.Errorf("%w: epoch %d is asked for", ErrConflict, f.Epoch)
	})
	if err != nil {
		return there, err
	}
	return raised, nil
}

// raise raises the epoch unless refuse has a reason against it.
func (c *Control) raise(ctx context.Context, above sqllog.Epoch, rule elect.Rule, refuse func(*clusterFile) error) (elect.Cluster, error) {
	return c.updateKnown(ctx, func() func(*clusterFile) error {
		first := int64(-1)
		return func(f *clusterFile) error {
			if err := refuse(f); err != nil {
				return err
			}
			if first >= 0 && f.Epoch != first {
				return fmt.Errorf("%w: epoch %d is asked for", ErrConflict, f.Epoch)
			}
			first = f.Epoch
			c.claim(f, rule, 0)
			f.Epoch = max(f.Epoch, int64(above)) + 1
			if *f.Quorum == *f.QuorumBefore {
				f.setRule(rule, elect.Rule(*f.Quorum))
			}
			return nil
		}
	})
}

// claim makes this node the first voter of a prefix without one, whose newest rows
// may be of epoch own. A log on its own has written epoch 1 without asking.
func (c *Control) claim(f *clusterFile, rule elect.Rule, own sqllog.Epoch) {
	if len(f.Members) > 0 {
		return
	}
	f.Members = []string{c.self.String()}
	f.setRule(rule, rule)
	f.Changing = false
	f.Epoch = max(f.Epoch, int64(own), 1)
}

// Claim makes this node the first voter of a prefix that a single node has had so
// far, and returns the cluster; where there are voters it changes nothing. own is
// the newest epoch in this node's log.
func (c *Control) Claim(ctx context.Context, rule elect.Rule, own sqllog.Epoch) (elect.Cluster, error) {
	there, err := c.Read(ctx)
	if err != nil || len(there.Members) > 0 {
		return there, err
	}
	out, err := c.update(ctx, func(f *clusterFile) error {
		if len(f.Members) > 0 {
			there = f.voters()
			return errClaimed
		}
		c.claim(f, rule, own)
		return nil
	})
	if errors.Is(err, errClaimed) {
		return there, nil
	}
	return out, err
}

// errClaimed: there are voters already.
var errClaimed = errors.New("prefix has voters")

// Settle says that the Primary of an epoch has written its epoch row: no row of an
// older rule can be missing any more. ErrConflict: the epoch is another one now.
func (c *Control) Settle(ctx context.Context, epoch sqllog.Epoch) error {
	there, err := c.Read(ctx)
	if err != nil {
		return err
	}
	if there.Epoch == epoch && there.Rule == there.RuleBefore {
		return nil
	}
	_, err = c.update(ctx, func(f *clusterFile) error {
		if err := f.inEpoch(epoch); err != nil {
			return err
		}
		f.QuorumBefore = f.Quorum
		return nil
	})
	return err
}

// ChangeMembers changes the voters, which only the Primary of an epoch may do.
// change gets the cluster as it is, and may be called several times; its error is
// returned. It may add or take away one voter where no change is under way
// (ErrChanging), and that begins a change; or it changes Changing only, as
// DoneChanging does. ErrConflict: the epoch is another one now.
func (c *Control) ChangeMembers(ctx context.Context, epoch sqllog.Epoch, change func(*elect.Cluster) error) (elect.Cluster, error) {
	return c.update(ctx, func(f *clusterFile) error {
		if err := f.inEpoch(epoch); err != nil {
			return err
		}
		before, after := f.voters(), f.voters()
		if err := change(&after); err != nil {
			return err
		}
		slices.Sort(after.Members)
		if !slices.Equal(before.Members, after.Members) {
			if err := oneStep(before, after.Members); err != nil {
				return err
			}
			after.Changing = true
		}
		f.setMembers(after.Members)
		f.Changing = after.Changing
		return nil
	})
}

// oneStep allows a change of the voters by one.
func oneStep(before elect.Cluster, after []elect.NodeID) error {
	if before.Changing {
		return ErrChanging
	}
	if len(after) == 0 || after[0] == 0 || len(slices.Compact(slices.Clone(after))) != len(after) {
		return fmt.Errorf("change voters: %v are none", after)
	}
	differ := 0
	for _, n := range after {
		if !before.IsMember(n) {
			differ++
		}
	}
	for _, n := range before.Members {
		if !slices.Contains(after, n) {
			differ++
		}
	}
	if differ > 1 {
		return fmt.Errorf("change voters: %d of them differ, one may", differ)
	}
	return nil
}

// DoneChanging is for ChangeMembers: the change of the voters is done.
func DoneChanging(c *elect.Cluster) error {
	c.Changing = false
	return nil
}

// Force is for operators: it raises the epoch and sets the voters in one step,
// whoever is the Primary. Rows that only the voters hold which it takes away are
// lost.
func (c *Control) Force(ctx context.Context, members []elect.NodeID, rule elect.Rule) (elect.Cluster, error) {
	members = slices.Compact(slices.Sorted(slices.Values(members)))
	if len(members) == 0 || members[0] == 0 {
		return elect.Cluster{}, fmt.Errorf("force voters: %v are none", members)
	}
	return c.update(ctx, func(f *clusterFile) error {
		f.Epoch = max(f.Epoch, 1) + 1
		f.setMembers(members)
		f.setRule(rule, rule)
		f.Changing = false
		return nil
	})
}
