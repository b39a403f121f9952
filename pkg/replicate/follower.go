package replicate

import (
	"errors"
	"fmt"

	"github.com/kinsy/kinsy/internal/rules"
	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// The reasons for which a Replica leaves a stream.
var (
	// ErrDivergence: the Primary wants rows to be cut that are committed here, or its
	// rows do not follow this log's.
	ErrDivergence = errors.New("stream does not follow the log")
	// ErrOldDisk: the Primary has had receipts of this disk for rows that are not on it:
	// it was brought back from an older copy. This ends the node.
	ErrOldDisk = errors.New("the log is an old copy")
	// ErrBadStream: the Primary has broken the protocol.
	ErrBadStream = errors.New("stream is malformed")
)

// Follower is what a Replica knows of one Follow stream, and what it may take from
// it. It is not safe for concurrent use.
//
//	opened      the Primary names the last common row
//	            -> cut to it (unless the log ends there), durably
//	streaming   frames are appended, receipts sent, Committed believed
type Follower struct {
	epoch     sqllog.Epoch
	received  elect.Position // the last row taken from the stream, or the common row
	durable   sqllog.ID
	committed sqllog.ID // in this node's index
	streaming bool
}

// NewFollower begins a stream of a Primary's epoch, which is promised, on a log
// that ends at a position and whose rows are committed up to an id.
func NewFollower(epoch sqllog.Epoch, end elect.Position, committed sqllog.ID) *Follower {
	return &Follower{epoch: epoch, received: end, durable: end.ID, committed: committed}
}

// Opened takes the Primary's answer: common is the last row that both logs share.
// It returns whether the log is to be cut to it, before anything else.
func (f *Follower) Opened(epoch sqllog.Epoch, common elect.Position) (cut bool, err error) {
	switch {
	case f.streaming:
		return false, fmt.Errorf("%w: it was opened twice", ErrBadStream)
	case epoch != f.epoch && !rules.Broken(rules.OldEpochsRefused):
		return false, fmt.Errorf("%w: it is of epoch %d, not %d", ErrBadStream, epoch, f.epoch)
	case common.ID > f.received.ID || common.ID < 0:
		return false, fmt.Errorf("%w: the common row %d is beyond the end %d", ErrBadStream, common.ID, f.received.ID)
	case common.ID < f.committed:
		return false, fmt.Errorf("%w: it is to be cut to row %d, and is committed up to %d", ErrDivergence, common.ID, f.committed)
	}
	cut = common.ID < f.received.ID
	if !cut && common.Epoch != f.received.Epoch {
		return false, fmt.Errorf("%w: row %d is of epoch %d there and %d here", ErrDivergence, common.ID, common.Epoch, f.received.Epoch)
	}
	f.received, f.durable, f.streaming = common, min(f.durable, common.ID), true
	return cut, nil
}

// Frame checks that rows, the last of which is at a position, may be appended: they
// follow what was received, after prev.
func (f *Follower) Frame(prev, last elect.Position, rows int) error {
	switch {
	case !f.streaming:
		return fmt.Errorf("%w: rows came before it was opened", ErrBadStream)
	case rows == 0:
		return nil
	case prev != f.received:
		return fmt.Errorf("%w: rows after %d of epoch %d came after %d of %d", ErrDivergence, prev.ID, prev.Epoch, f.received.ID, f.received.Epoch)
	case last.ID != prev.ID+sqllog.ID(rows) || last.Epoch < prev.Epoch || last.Epoch > f.epoch:
		return fmt.Errorf("%w: %d rows after %d end at %d of epoch %d", ErrBadStream, rows, prev.ID, last.ID, last.Epoch)
	}
	f.received = last
	return nil
}

// Appended notes that rows up to an id are durable, and gives the receipt to send:
// every row up to it is.
func (f *Follower) Appended(id sqllog.ID) (receipt sqllog.ID) {
	f.durable = max(f.durable, id)
	return f.durable
}

// Receipt is what can be said before any frame was taken: the log is as the
// Primary's up to there.
func (f *Follower) Receipt() sqllog.ID { return f.durable }

// Committed takes what the Primary says is committed, and returns up to where rows
// may be shown here: never beyond what this log holds durably. It never goes back.
func (f *Follower) Committed(id sqllog.ID) sqllog.ID {
	if !f.streaming && !rules.Broken(rules.CommittedFromStream) {
		return f.committed
	}
	if !rules.Broken(rules.CommittedWithinLog) {
		id = min(id, f.durable)
	}
	f.committed = max(f.committed, id)
	return f.committed
}
