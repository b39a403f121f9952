package s3snap

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

// Lock is what elector.json says. Two that are equal are one and the same state:
// a holder that lives changes it again and again.
type Lock struct {
	// Holder is the node that has the lock; 0 for nobody.
	Holder      elect.NodeID
	Incarnation uint64 // of Holder's process
	// Seq grows by one with each change.
	Seq uint64
}

// lockFile is elector.json.
type lockFile struct {
	Format      int    `json:"format"`
	Node        string `json:"node"` // 16 hexadecimal digits; empty: nobody
	Incarnation string `json:"incarnation"`
	Seq         uint64 `json:"seq"`
}

// Observe reads who holds the Elector's lock. It is the zero Lock if nobody ever
// has. Beside it, it reads cluster.json, which a Raise that follows then knows.
func (c *Control) Observe(ctx context.Context) (l Lock, err error) {
	var beside sync.WaitGroup
	beside.Go(func() { _, _, _ = c.readCluster(ctx) })
	defer beside.Wait()
	err = c.few(ctx, func() error {
		l, _, err = c.readLock(ctx)
		return err
	})
	return l, err
}

func (c *Control) readLock(ctx context.Context) (Lock, object.Info, error) {
	var f lockFile
	info, err := readJSON(ctx, c.store, electorKey, &f)
	if errors.Is(err, object.ErrNotFound) {
		c.known.setLock(Lock{}, object.Info{})
		return Lock{}, object.Info{}, nil
	}
	if err != nil {
		return Lock{}, object.Info{}, err
	}
	l := Lock{Seq: f.Seq}
	if l.Incarnation, err = parseHex(f.Incarnation); err == nil && f.Node != "" {
		l.Holder, err = elect.ParseNodeID(f.Node)
	}
	if err != nil {
		return Lock{}, object.Info{}, fmt.Errorf("%w: %s: %w", ErrCorruptChain, electorKey, err)
	}
	c.known.setLock(l, info)
	return l, info, nil
}

// TakeLock takes the Elector's lock from the state that Observe has told, and
// returns the new one. ErrConflict: it has changed since. It is the caller who
// knows whether the holder is gone; nothing depends on that but progress.
func (c *Control) TakeLock(ctx context.Context, seen Lock) (Lock, error) {
	return c.swapLock(ctx, seen, Lock{Holder: c.self, Incarnation: c.incarnation, Seq: seen.Seq + 1})
}

// Renew changes the lock that this node holds, to show that it lives. ErrConflict:
// it is another's.
func (c *Control) Renew(ctx context.Context, held Lock) (Lock, error) {
	if held.Holder != c.self || held.Incarnation != c.incarnation {
		return Lock{}, fmt.Errorf("%w: node %s holds the lock", ErrConflict, held.Holder)
	}
	return c.TakeLock(ctx, held)
}

// Release gives the lock back. ErrConflict: it is another's already.
func (c *Control) Release(ctx context.Context, held Lock) error {
	_, err := c.swapLock(ctx, held, Lock{Seq: held.Seq + 1})
	return err
}

func (c *Control) swapLock(ctx context.Context, from, to Lock) (Lock, error) {
	state, known := c.known.lockState(from)
	tried := false
	err := c.few(ctx, func() error {
		if !known {
			there, info, err := c.readLock(ctx)
			switch {
			case err != nil:
				return err
			case tried && there == to:
				return nil // the answer was lost
			case there != from:
				return fmt.Errorf("%w: node %s holds the lock", ErrConflict, there.Holder)
			}
			state = info
		}
		known, tried = false, true
		return c.putLock(ctx, to, state)
	})
	if err != nil {
		return Lock{}, err
	}
	return to, nil
}

// putLock writes the lock where its object is in a state.
func (c *Control) putLock(ctx context.Context, to Lock, from object.Info) error {
	f := lockFile{Format: formatVersion, Incarnation: formatHex(to.Incarnation), Seq: to.Seq}
	if to.Holder != 0 {
		f.Node = to.Holder.String()
	}
	version, err := putJSONVersion(ctx, c.store, electorKey, f, unchanged(from))
	if err == nil {
		c.known.setLock(to, object.Info{Version: version})
	}
	return swapped(err)
}
