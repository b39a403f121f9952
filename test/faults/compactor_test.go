package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// compactKey is where kube-apiserver names the revision that it compacts to.
const compactKey = "compact_rev_key"

// compaction is what is known of a store's compacted revision.
type compaction struct {
	asked int64 // highest revision that was asked for
	done  int64 // highest revision whose compaction was acknowledged or seen
}

// confirm takes the compacted revision that a store tells; 0: it did not say one.
func (c *compaction) confirm(revision int64) error {
	if revision == 0 {
		return nil
	}
	if revision < c.done || revision > c.asked {
		return fmt.Errorf("compacted to revision %d; %d was acknowledged and %d asked for", revision, c.done, c.asked)
	}
	c.done = revision
	return nil
}

// compactor compacts again and again, never beyond what every watcher of the test has seen, so that none is cancelled.
type compactor struct {
	*writer
	s *soak
}

func (s *soak) compactor(seed uint64) *compactor {
	return &compactor{writer: newWriter("compactor", s.clients[crashClients-1], rand.New(rand.NewPCG(seed, 3)), false), s: s}
}

func (c *compactor) run(ctx context.Context, stop *atomic.Bool) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !stop.Load() {
		if err := c.once(ctx); err != nil {
			if !stop.Load() {
				c.fault = fmt.Errorf("compactor: %w", err)
			}
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func (c *compactor) once(ctx context.Context) error {
	ctx, cancel := within(ctx)
	defer cancel()
	safe := min(c.s.all.reached(), c.s.shared.reached(), c.s.steady.reached())
	target := safe - c.rng.Int64N(200)
	if target <= c.s.compacted.asked {
		return nil
	}
	c.s.compacted.asked = target
	if c.s.n.api == profileNetsy {
		return c.nameRevision(ctx, target)
	}
	_, err := c.client.Compact(ctx, target)
	if errors.Is(err, rpctypes.ErrCompacted) {
		return nil
	}
	if err != nil {
		return err
	}
	c.s.compacted.done = target
	if c.rng.IntN(5) == 0 {
		_, err = c.client.Defragment(ctx, c.s.n.addr)
	}
	return err
}

// nameRevision writes compact_rev_key as kube-apiserver does.
func (c *compactor) nameRevision(ctx context.Context, target int64) error {
	value := strconv.FormatInt(target, 10)
	wr := c.begin(change{key: compactKey, value: value})
	resp, err := c.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(compactKey), "=", c.shared[compactKey])).
		Then(clientv3.OpPut(compactKey, value)).Else(clientv3.OpGet(compactKey)).Commit()
	if err != nil {
		return err
	}
	c.acknowledge(wr, resp)
	if c.shared[compactKey] = resp.Header.Revision; !resp.Succeeded {
		c.shared[compactKey] = resp.Responses[0].GetResponseRange().Kvs[0].ModRevision
	}
	return nil
}
