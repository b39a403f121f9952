package simulate

import (
	"fmt"

	"github.com/kinsy/kinsy/internal/rules"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Step is what a Candidate does next.
type Step uint8

// The steps of a candidacy, in order; one that finds its position taken goes back
// to the first.
const (
	// ReadChain reads the chain to its end, takes over what the log lacks, and cuts
	// what disagrees.
	ReadChain Step = iota
	// Upload writes the rows that the chain lacks as ordinary chunks.
	Upload
	// WriteFence writes the epoch row as a chunk at the chain's end.
	WriteFence
	// AppendFence appends the epoch row to the log.
	AppendFence
	// Lead: the node is Primary.
	Lead
	// GiveUp: the chain holds a row of this epoch or of a higher one.
	GiveUp
)

func (s Step) String() string {
	return [...]string{"read the chain", "upload the log", "write the epoch row", "append the epoch row", "lead", "give up"}[s]
}

// Candidacy is the way of one process to become Primary of an epoch, once. It is
// not safe for concurrent use.
type Candidacy struct {
	epoch sqllog.Epoch
	step  Step
	end   sqllog.ID // of the chain
	log   sqllog.ID // end of the log
}

// NewCandidacy begins one.
func NewCandidacy(epoch sqllog.Epoch) *Candidacy { return &Candidacy{epoch: epoch} }

// Step is what is to be done now.
func (c *Candidacy) Step() Step { return c.step }

// Read tells where the chain ended when it was read, and where the log ends that
// was brought to it: at that row or beyond it.
func (c *Candidacy) Read(end sqllog.Head, log sqllog.ID) {
	c.end, c.log = end.ID, log
	switch {
	case end.Epoch >= c.epoch && !rules.Broken(rules.HigherEpochEnds):
		c.step = GiveUp
	case c.end < c.log && !rules.Broken(rules.FenceAfterBacklog):
		c.step = Upload
	default:
		c.step = WriteFence
	}
}

// Created tells that a chunk of this process, up to a row, exists: a part of the
// backlog, or the epoch row.
func (c *Candidacy) Created(upTo sqllog.ID) {
	switch {
	case c.step == WriteFence:
		c.step = AppendFence
	case c.step == Upload:
		if c.end = upTo; c.end >= c.log {
			c.step = WriteFence
		}
	}
}

// Taken tells that the position of a PUT is another process's, or another PUT's of
// an earlier process of this node: the chain has to be read on.
func (c *Candidacy) Taken() { c.step = ReadChain }

// Appended tells that the log ends with the epoch row.
func (c *Candidacy) Appended() { c.step = Lead }

// Fence is the id of the epoch row to be written.
func (c *Candidacy) Fence() sqllog.ID { return max(c.end, c.log) + 1 }

func (c *Candidacy) String() string {
	return fmt.Sprintf("candidacy for epoch %d: %s", c.epoch, c.step)
}
