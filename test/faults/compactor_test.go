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

	"github.com/kinsy/kinsy/test/harness/client"
	"github.com/kinsy/kinsy/test/harness/history"
	"github.com/kinsy/kinsy/test/harness/ledger"
	"github.com/kinsy/kinsy/test/harness/process"
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
	*ledger.Writer
	s      *soak
	client *clientv3.Client
	rng    *rand.Rand
	named  int64 // modification revision of compactKey as it knows it
}

func (s *soak) compactor(seed uint64) *compactor {
	c, rng := s.clients[crashClients-1], rand.New(rand.NewPCG(seed, 3))
	return &compactor{Writer: ledger.NewWriter("compactor", c, rng, true, client.WaitLimit), s: s, client: c, rng: rng}
}

// run compacts until stop is set, or an error before that, which it returns.
func (c *compactor) run(ctx context.Context, stop *atomic.Bool) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !stop.Load() {
		if err := c.once(ctx); err != nil {
			if stop.Load() {
				return nil
			}
			return fmt.Errorf("compactor: %w", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return nil
}

func (c *compactor) once(ctx context.Context) error {
	ctx, cancel := client.Within(ctx)
	defer cancel()
	safe := min(c.s.all.Reached(), c.s.shared.Reached(), c.s.steady.Reached())
	target := safe - c.rng.Int64N(200)
	if target <= c.s.compacted.asked {
		return nil
	}
	c.s.compacted.asked = target
	if c.s.n.API == process.ProfileNetsy {
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
		_, err = c.client.Defragment(ctx, c.s.n.Addr)
	}
	return err
}

// nameRevision writes compact_rev_key as kube-apiserver does.
func (c *compactor) nameRevision(ctx context.Context, target int64) error {
	value := strconv.FormatInt(target, 10)
	wr := c.Begin(history.Change{Key: compactKey, Value: value})
	resp, err := c.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(compactKey), "=", c.named)).
		Then(clientv3.OpPut(compactKey, value)).Else(clientv3.OpGet(compactKey)).Commit()
	if err != nil {
		return err
	}
	c.Acknowledge(wr, resp)
	if c.named = resp.Header.Revision; !resp.Succeeded {
		c.named = resp.Responses[0].GetResponseRange().Kvs[0].ModRevision
	}
	return nil
}
