package peer

import (
	"fmt"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

const (
	// partBytes is where a part of a frame ends.
	partBytes = 256 << 10
	// rowOverhead is what a row counts for beside its key and value, in bytes.
	rowOverhead = 64
	// maxRevisionBytes bounds a frame of one revision, which may be larger than
	// others: it cannot be cut.
	maxRevisionBytes = 1 << 30
)

// Frame carries rows from the Primary to a Replica. It holds whole revisions, of
// Config.MaxFrameBytes at most unless it is one revision. The rows must not be changed
// once the frame was given to Send; one frame may be sent to any number of Replicas,
// concurrently, and is encoded once. Frames must not be copied.
type Frame struct {
	// Prev is the row before the first one; zero where the log begins. Without rows
	// it does not matter.
	Prev elect.Position
	// Rows are contiguous. There may be none: the frame then only tells Committed.
	Rows []sqllog.Row
	// Committed is the newest committed row that the sender knows, wherever it is.
	Committed sqllog.ID
	// Uploaded is the newest row up to which object storage is known to hold all.
	Uploaded sqllog.ID

	once  sync.Once
	parts []encoded
	err   error
}

// Last is the position after the frame.
func (f *Frame) Last() elect.Position {
	if n := len(f.Rows); n > 0 {
		return elect.Position{ID: f.Rows[n-1].ID, Epoch: f.Rows[n-1].Epoch}
	}
	return f.Prev
}

// encode checks the frame and returns its parts. ErrFrame.
func (f *Frame) encode(maxBytes int) ([]encoded, error) {
	f.once.Do(func() {
		c := &frameChecker{last: f.Prev, limit: maxBytes}
		if f.err = c.add(f.Rows); f.err == nil && (f.Committed < 0 || f.Uploaded < 0) {
			f.err = fmt.Errorf("%w: committed is %d, uploaded %d", ErrFrame, f.Committed, f.Uploaded)
		}
		if f.err == nil {
			f.parts, f.err = f.encodeParts(maxBytes + frameSlack)
		}
	})
	return f.parts, f.err
}

// encodeParts encodes the frame in messages of at most limit bytes; a row that is larger
// has no place in one.
func (f *Frame) encodeParts(limit int) ([]encoded, error) {
	var parts []encoded
	prev, rows := f.Prev, f.Rows
	for {
		n := partLength(rows)
		part := &peerpb.FramePart{Prev: encodePosition(prev), Rows: encodeRows(rows[:n]), Committed: int64(f.Committed), Uploaded: int64(f.Uploaded), More: n < len(rows)}
		b, err := proto.Marshal(&peerpb.FollowReply{Reply: &peerpb.FollowReply_Part{Part: part}})
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFrame, err)
		}
		if len(b) > limit {
			return nil, fmt.Errorf("%w: row %d has %d bytes", ErrFrame, rows[0].ID, len(b))
		}
		parts = append(parts, b)
		if rows = rows[n:]; len(rows) == 0 {
			return parts, nil
		}
		prev = elect.Position{ID: rows[0].ID - 1, Epoch: f.Rows[len(f.Rows)-len(rows)-1].Epoch}
	}
}

// partLength is how many of the rows go into the next part; at least one does.
func partLength(rows []sqllog.Row) int {
	size := 0
	for i := range rows {
		if size += rowBytes(&rows[i]); i > 0 && size > partBytes {
			return i
		}
	}
	return len(rows)
}

func rowBytes(r *sqllog.Row) int { return rowOverhead + len(r.Key) + len(r.Value) }

func encodeRows(rows []sqllog.Row) []*peerpb.Row {
	slab := make([]peerpb.Row, len(rows))
	out := make([]*peerpb.Row, len(rows))
	for i := range rows {
		r, p := &rows[i], &slab[i]
		p.Id, p.Epoch, p.Revision, p.Sub = int64(r.ID), int64(r.Epoch), int64(r.Revision), r.Sub
		p.Kind, p.Key, p.Value = uint32(r.Kind), r.Key, r.Value
		p.CreateRevision, p.PrevRevision, p.Version = int64(r.CreateRevision), int64(r.PrevRevision), r.Version
		p.Lease, p.WrittenAt = r.Lease, r.WrittenAt
		out[i] = p
	}
	return out
}

// decodeRows decodes rows; they are not checked but for what a sqllog.Row cannot hold.
func decodeRows(rows []*peerpb.Row, to []sqllog.Row) ([]sqllog.Row, error) {
	for _, p := range rows {
		kind := sqllog.Kind(p.GetKind())
		if uint32(kind) != p.GetKind() {
			return nil, fmt.Errorf("%w: row %d has unknown kind %d", ErrFrame, p.GetId(), p.GetKind())
		}
		to = append(to, sqllog.Row{
			ID: sqllog.ID(p.GetId()), Epoch: sqllog.Epoch(p.GetEpoch()), Revision: sqllog.Revision(p.GetRevision()), Sub: p.GetSub(),
			Kind: kind, Key: p.GetKey(), Value: p.GetValue(),
			CreateRevision: sqllog.Revision(p.GetCreateRevision()), PrevRevision: sqllog.Revision(p.GetPrevRevision()), Version: p.GetVersion(),
			Lease: p.GetLease(), WrittenAt: p.GetWrittenAt(),
		})
	}
	return to, nil
}

// frameChecker checks the rows of one frame, on both sides.
type frameChecker struct {
	last     elect.Position // before the next row
	limit    int            // bytes
	maxEpoch sqllog.Epoch   // 0 for none

	size        int
	revision    sqllog.Revision // of the last row, 0 before the first one
	severalRevs bool
}

// add checks the rows that follow. ErrFrame.
func (c *frameChecker) add(rows []sqllog.Row) error {
	for i := range rows {
		r := &rows[i]
		if err := r.Validate(); err != nil {
			return fmt.Errorf("%w: %w", ErrFrame, err)
		}
		switch {
		case r.ID != c.last.ID+1:
			return fmt.Errorf("%w: row %d follows row %d", ErrFrame, r.ID, c.last.ID)
		case r.Epoch < c.last.Epoch || c.maxEpoch > 0 && r.Epoch > c.maxEpoch:
			return fmt.Errorf("%w: row %d of epoch %d follows one of epoch %d in a stream of epoch %d", ErrFrame, r.ID, r.Epoch, c.last.Epoch, c.maxEpoch)
		case r.Revision < c.revision:
			return fmt.Errorf("%w: row %d of revision %d follows one of revision %d", ErrFrame, r.ID, r.Revision, c.revision)
		}
		c.severalRevs = c.severalRevs || c.revision != 0 && r.Revision != c.revision
		c.last, c.revision = elect.Position{ID: r.ID, Epoch: r.Epoch}, r.Revision
		c.size += rowBytes(r)
	}
	return c.checkSize()
}

func (c *frameChecker) checkSize() error {
	limit := maxRevisionBytes
	if c.severalRevs {
		limit = c.limit + frameSlack
	}
	if c.size > limit {
		return fmt.Errorf("%w: more than %d bytes", ErrFrame, limit)
	}
	return nil
}
