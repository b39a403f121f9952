package replicate

import "github.com/kinsy/kinsy/pkg/mvcc"

// publishGroup makes a committed group visible and answers its clients. Groups are
// published one at a time, in order.
func (p *Primary) publishGroup(g *group) {
	p.store.Publish(g.batch)
	if p.cfg.Archive != nil {
		p.cfg.Archive.Committed(g.last, g.batch.Bytes)
	}
	p.wakeFollowers(g.batch)
	p.mu.Lock()
	if p.inflight == g {
		p.inflight = nil
	}
	p.mu.Unlock()
	close(g.done)
}

// rollbackLocked fails groups, and the forming one, and takes them out of the
// index. Their rows may be in logs: nobody knows whether they will appear.
func (p *Primary) rollbackLocked(pending []*group, err error) {
	batches := make([]*mvcc.Batch, 0, len(pending)+1)
	for _, g := range pending {
		batches = append(batches, g.batch)
	}
	batches = append(batches, p.forming.batch)
	p.store.Rollback(batches...)
	p.refuseFormingLocked(err)
	for _, g := range pending {
		g.err = err
		close(g.done)
	}
}

// scrubs is what a scrubber of this Primary's own works on.
func (p *Primary) scrubs() scrubberConfig {
	c := scrubberConfig{store: p.store, space: p.space, batchSize: p.cfg.Compaction.BatchSize, logger: p.cfg.Logger, stop: p.stop}
	if p.cfg.Archive != nil {
		c.uploaded = p.cfg.Archive.WaitUploaded
	}
	return c
}
