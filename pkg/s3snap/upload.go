package s3snap

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// scanner gives the rows of a log.
type scanner interface {
	Scan(ctx context.Context, after, upTo sqllog.ID, fn func(*sqllog.Row) error) error
}

// errPieceFull ends the scan of a piece.
var errPieceFull = errors.New("piece is full")

// uploadPiece writes one chunk of the rows after the chain's end, up to an id, of
// about maxBytes, and returns its size. Rows of one revision are not split: an
// object storage that ends inside a Txn would hold half of it.
func uploadPiece(ctx context.Context, chain *Chain, log scanner, upTo sqllog.ID, maxBytes int) (size int64, err error) {
	end := chain.End().ID
	var rows []sqllog.Row
	err = log.Scan(ctx, end, upTo, func(r *sqllog.Row) error {
		if size >= int64(maxBytes) && (r.Sub == 0 || !r.Kind.Changes()) {
			return errPieceFull
		}
		if want := end + sqllog.ID(len(rows)) + 1; r.ID != want {
			return missingRows(want, r.ID-1)
		}
		row := *r
		row.Key, row.Value = append([]byte(nil), r.Key...), append([]byte(nil), r.Value...)
		rows = append(rows, row)
		size += int64(len(row.Key)+len(row.Value)) + rowOverhead
		return nil
	})
	if err != nil && !errors.Is(err, errPieceFull) {
		return 0, fmt.Errorf("read rows to upload: %w", err)
	}
	if len(rows) == 0 {
		return 0, missingRows(end+1, upTo)
	}
	return size, chain.Append(ctx, rows)
}

// missingRows tells why the log cannot be uploaded. Removal waits for uploads; rows
// go missing where the node ran without object storage for a while.
func missingRows(first, last sqllog.ID) error {
	return fmt.Errorf("%w: rows %d to %d were compacted before they were uploaded, so the chain cannot go on; "+
		"give the node an --object-store prefix that is empty", ErrMissingRows, first, last)
}

// rowOverhead is what a row takes beside its key and value, about.
const rowOverhead = 64

// pending counts what is committed and not uploaded.
type pending struct {
	mu      sync.Mutex
	upTo    sqllog.ID // newest committed row
	size    int64     // bytes of rows above the chain's end
	since   time.Time // when the oldest of them was committed; zero if there are none
	changed chan struct{}
}

// add notes committed rows up to an id, with size bytes of keys and values.
func (p *pending) add(upTo sqllog.ID, size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if upTo > p.upTo {
		p.size += size + rowOverhead*int64(upTo-p.upTo)
		p.upTo = upTo
	}
	if p.since.IsZero() {
		p.since = time.Now()
	}
	p.signalLocked()
}

// begin notes where chain and log are when uploads begin. Rows may have been
// committed before.
func (p *pending) begin(end, committed sqllog.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.upTo = max(p.upTo, committed, end)
	if p.upTo == end {
		p.size, p.since = 0, time.Time{}
		return
	}
	p.size, p.since = rowOverhead*int64(p.upTo-end), time.Now()
	p.signalLocked()
}

// signal wakes who waits for something to upload.
func (p *pending) signal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.signalLocked()
}

func (p *pending) signalLocked() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// uploaded notes that object storage holds rows up to an id. What came meanwhile
// counts from now.
func (p *pending) uploaded(id sqllog.ID, size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.size = max(p.size-size, 0)
	p.since = time.Time{}
	if id < p.upTo {
		p.since = time.Now()
	} else {
		p.size = 0
	}
}

func (p *pending) bytes() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.size
}

// due says whether to upload now, by size or by age, or else when; negative:
// nothing waits.
func (p *pending) due(interval time.Duration, maxBytes int) (bySize, byAge bool, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.since.IsZero() {
		return false, false, -1
	}
	wait = time.Until(p.since.Add(interval))
	return p.size >= int64(maxBytes), wait <= 0, wait
}

// newest is the newest committed row.
func (p *pending) newest() sqllog.ID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.upTo
}
