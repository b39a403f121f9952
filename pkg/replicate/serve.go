package replicate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// streamBytes is about how much is sent to a Replica at a time.
const streamBytes = 1 << 20

// Follow serves a Replica: peer.Handler.
func (m *Member) Follow(ctx context.Context, s peer.FollowStream) error {
	p := m.primary()
	if p == nil {
		return status.Error(codes.FailedPrecondition, "this node is not the primary")
	}
	q := p.quorum
	open := s.Open()
	if e := q.cfg.Cluster.Epoch; open.Promised > e {
		m.refused(s.From(), open.Promised)
		return status.Errorf(codes.FailedPrecondition, "epoch %d is promised, this primary is of %d", open.Promised, e)
	}
	if err := m.checkDisk(q, s.From(), s.Name(), open.Last.ID); err != nil {
		return err
	}
	history := historyOf(m.store.Epochs())
	q.recent.mu.Lock()
	end := q.recent.end.ID
	q.recent.mu.Unlock()
	common := history.Common(end, open.Last)
	if err := s.Opened(peer.FollowOpened{Epoch: q.cfg.Cluster.Epoch, TruncateTo: common}); err != nil {
		return err
	}
	m.followers.enter(s.From(), s.Name())
	defer m.followers.leave(s.From())
	go m.takeReceipts(q, s) // ends with the stream, which may hang for longer than Close does
	return (&sender{m: m, q: q, s: s, sent: common}).run(ctx)
}

// checkDisk refuses a Replica whose log ends below a receipt that it gave to this
// Primary: its disk was brought back from an older copy, or did not keep what it had
// fsynced, and may have forgotten promises too. In an epoch a log never shrinks below a
// receipt: it is cut to what it shares with the Primary, of which the receipt told, or by
// a Primary, or a chain, of a higher epoch, which the Replica would have promised.
func (m *Member) checkDisk(q *quorum, from elect.NodeID, name string, last sqllog.ID) error {
	q.mu.Lock()
	held := q.tracker.Held(from)
	q.mu.Unlock()
	if last >= held {
		return nil
	}
	m.logger.WithField("node", name).WithField("disk", from).WithField("held", held).WithField("last", last).
		Error("a replica has lost rows that it had on its disk; it is refused")
	q.cfg.UploadNow(held) // its copies of them count no more
	return status.Errorf(codes.DataLoss, "disk %s held row %d in epoch %d and now ends at row %d", from, held, q.cfg.Cluster.Epoch, last)
}

// takeReceipts counts a Replica's receipts until its stream ends.
func (m *Member) takeReceipts(q *quorum, s peer.FollowStream) {
	for {
		id, err := s.Receipt()
		if err != nil {
			return
		}
		m.metrics.receipts.Inc()
		m.followers.receipt(s.From(), id)
		q.receipt(s.From(), id)
	}
}

// sender sends a log to one Replica.
type sender struct {
	m         *Member
	q         *quorum
	s         peer.FollowStream
	sent      elect.Position
	committed sqllog.ID // as told
	uploaded  sqllog.ID // likewise
}

func (d *sender) run(ctx context.Context) error {
	for {
		n := d.q.recent.after(d.sent.ID, streamBytes)
		var err error
		switch {
		case n.closed:
			return status.Error(codes.FailedPrecondition, "this node is not the primary any more")
		case n.behind:
			err = d.fromLog(ctx, n)
		case len(n.frames) > 0:
			err = d.fromMemory(n)
		case n.committed > d.committed || n.uploaded > d.uploaded:
			err = d.send(&peer.Frame{Prev: d.sent, Committed: n.committed, Uploaded: n.uploaded})
		default:
			select {
			case <-n.more:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err != nil {
			return err
		}
	}
}

func (d *sender) send(f *peer.Frame) error {
	if err := d.s.Send(f); err != nil {
		return err
	}
	if n := len(f.Rows); n > 0 {
		d.sent = elect.Position{ID: f.Rows[n-1].ID, Epoch: f.Rows[n-1].Epoch}
	}
	d.committed, d.uploaded = max(d.committed, f.Committed), max(d.uploaded, f.Uploaded)
	return nil
}

// fromMemory sends groups that are in memory; the last one tells what is committed.
func (d *sender) fromMemory(n next) error {
	for _, f := range n.frames {
		if f.prev != d.sent {
			return fmt.Errorf("%w: group after %d, sent up to %d", ErrDivergence, f.prev.ID, d.sent.ID)
		}
		if err := d.send(&peer.Frame{Prev: f.prev, Rows: f.rows, Committed: n.committed, Uploaded: n.uploaded}); err != nil {
			return err
		}
	}
	return nil
}

// errNeedChain: this Primary's log does not have the rows that come next. The Replica is
// told by OutOfRange.
var errNeedChain = errors.New("the next rows are in object storage only")

// errFrameFull ends the scan of a frame.
var errFrameFull = errors.New("frame is full")

// fromLog sends rows from this node's own log, whole revisions at a time. Rows that
// compaction has removed leave a hole that the Replica has to get from the chain.
func (d *sender) fromLog(ctx context.Context, n next) error {
	for d.sent.ID < n.oldest {
		f := &peer.Frame{Prev: d.sent, Committed: n.committed, Uploaded: n.uploaded}
		size := 0
		err := d.m.log.Scan(ctx, d.sent.ID, n.oldest, func(r *sqllog.Row) error {
			if size >= streamBytes && (r.Sub == 0 || !r.Kind.Changes()) {
				return errFrameFull
			}
			if r.ID != d.sent.ID+sqllog.ID(len(f.Rows))+1 {
				return errNeedChain
			}
			row := *r
			row.Key, row.Value = append([]byte(nil), r.Key...), append([]byte(nil), r.Value...)
			f.Rows = append(f.Rows, row)
			size += len(row.Key) + len(row.Value) + rowOverhead
			return nil
		})
		switch {
		case errors.Is(err, errNeedChain) || err == nil && len(f.Rows) == 0:
			return status.Error(codes.OutOfRange, errNeedChain.Error())
		case err != nil && !errors.Is(err, errFrameFull):
			return fmt.Errorf("read rows to send: %w", err)
		}
		if err := d.send(f); err != nil {
			return err
		}
	}
	return nil
}

// healthy reports whether a Replica follows and has answered of late.
func (m *Member) healthy(n elect.NodeID) bool {
	return m.followers.connected(n) && m.control.answers(n, m.cfg.Suspicion)
}

// refused notes that a Replica has promised a higher epoch than this Primary's.
func (m *Member) refused(from elect.NodeID, promised sqllog.Epoch) {
	m.control.do(func(core *elect.Core, now time.Duration) {
		_, e := core.Role()
		core.Receive(now, from, elect.HeartbeatAck{Epoch: e, Promise: promised})
	})
}
