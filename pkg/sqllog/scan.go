package sqllog

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"
)

// A scan reads up to scanRows rows, or a little over scanBytes bytes of them, at
// once, and then hands them out.
const (
	scanRows  = 250
	scanBytes = 1 << 20
)

// Scan calls fn with every row in (after, upTo], in order of id. Rows that
// compaction has removed are passed over. The row and its bytes are valid only
// during the call. A damaged row ends the scan with ErrCorrupt, after the rows
// before it; ctx ends it with its own error, and fn's error is passed on. No
// lock and no transaction is held while fn runs, and writes go on: the scan is
// not a snapshot, but rows do not change. Rows appended after it began are left
// out.
func (l *Log) Scan(ctx context.Context, after, upTo ID, fn func(*Row) error) error {
	return l.scan(ctx, after, upTo, false, fn)
}

// ScanKeys is Scan without the values: Value is nil and ValueSize says how long
// it is.
func (l *Log) ScanKeys(ctx context.Context, after, upTo ID, fn func(*Row) error) error {
	return l.scan(ctx, after, upTo, true, fn)
}

func (l *Log) scan(ctx context.Context, after, upTo ID, keys bool, fn func(*Row) error) error {
	upTo, err := l.lastUpTo(ctx, upTo)
	if err != nil {
		return fmt.Errorf("scan rows after %d: %w", after, err)
	}
	p := page{keys: keys, last: Head{ID: max(after, 0)}}
	for p.last.ID < upTo && !p.end {
		start := time.Now()
		err := l.readPage(ctx, &p, upTo)
		l.slow(start, "slow log scan")
		for i := range p.rows {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := fn(&p.rows[i]); err != nil {
				return err
			}
		}
		if err != nil {
			return fmt.Errorf("scan rows after %d: %w", p.last.ID, err)
		}
	}
	if p.last.ID >= upTo {
		return nil
	}
	// The last row was not reached: it was removed meanwhile, or the way to it is
	// damaged, such as by a row in the wrong place.
	last, err := l.lastUpTo(ctx, upTo)
	if err == nil && last > p.last.ID {
		err = fmt.Errorf("%w: row %d is not reached", ErrCorrupt, last)
	}
	if err != nil {
		return fmt.Errorf("scan rows after %d: %w", p.last.ID, err)
	}
	return nil
}

// lastUpTo gives the id of the last row whose id is not above upTo.
func (l *Log) lastUpTo(ctx context.Context, upTo ID) (ID, error) {
	r, err := l.readers.take(ctx)
	if err != nil {
		return 0, err
	}
	defer l.readers.put(r)
	head, err := lastRow(r.last, upTo)
	return head.ID, err
}

// page is what one statement of a scan has read.
type page struct {
	keys bool
	rows []Row // reused from page to page
	size int64
	last Head // the newest row read
	end  bool // no row is left
}

func (l *Log) readPage(ctx context.Context, p *page, upTo ID) error {
	p.rows, p.size, p.end = p.rows[:0], 0, false
	r, err := l.readers.take(ctx)
	if err != nil {
		return err
	}
	defer l.readers.put(r)
	s := r.scan
	if p.keys {
		s = r.scanKeys
	}
	full := false
	// The page is small: that ctx is looked at before and after it is enough.
	err = s.bind(int64(p.last.ID), int64(upTo), int64(scanRows)).
		each(context.Background(), func(v []driver.Value) (bool, error) {
			err := p.add(v)
			full = p.size >= scanBytes || len(p.rows) == scanRows
			return !full, err
		})
	p.end = !full
	return err
}

// add decodes a row and checks its place in the log.
func (p *page) add(v []driver.Value) error {
	var r Row
	if err := decodeRow(v, p.keys, &r); err != nil {
		return err
	}
	if r.ID <= p.last.ID || r.Epoch < p.last.Epoch || r.Revision < p.last.Revision {
		return fmt.Errorf("%w: row %d of epoch %d and revision %d comes after row %d of %d and %d", ErrCorrupt,
			r.ID, r.Epoch, r.Revision, p.last.ID, p.last.Epoch, p.last.Revision)
	}
	p.rows = append(p.rows, r)
	p.last = Head{ID: r.ID, Epoch: r.Epoch, Revision: r.Revision}
	p.size += int64(len(r.Key)+len(r.Value)) + rowOverhead
	return nil
}

// decodeRow reads a row of logColumns, or of keyColumns if keys is set. What no
// Append has written is ErrCorrupt.
func decodeRow(v []driver.Value, keys bool, r *Row) error {
	if len(v) != len(logColumns) {
		return fmt.Errorf("%w: a row of %d columns", ErrCorrupt, len(v))
	}
	d := decoder{v: v}
	*r = Row{
		ID: ID(d.integer(0)), Epoch: Epoch(d.integer(1)), Revision: Revision(d.integer(2)),
		Sub: d.integer(3), Key: d.bytes(5),
		CreateRevision: Revision(d.integer(7)), PrevRevision: Revision(d.integer(8)),
		Version: d.integer(9), Lease: d.integer(10), WrittenAt: d.integer(11),
	}
	kind := d.integer(4)
	if keys {
		r.ValueSize = d.integer(6)
	} else {
		r.Value = d.bytes(6)
		r.ValueSize = int64(len(r.Value))
	}
	if d.err != nil {
		return fmt.Errorf("%w: row %d: %w", ErrCorrupt, r.ID, d.err)
	}
	if kind < 0 || kind > 255 || r.ValueSize < 0 {
		return fmt.Errorf("%w: row %d has kind %d and a value of %d bytes", ErrCorrupt, r.ID, kind, r.ValueSize)
	}
	r.Kind = Kind(kind)
	if err := r.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return nil
}

// decoder reads typed columns and keeps the first failure.
type decoder struct {
	v   []driver.Value
	err error
}

func (d *decoder) integer(i int) int64 {
	n, ok := d.v[i].(int64)
	if !ok {
		d.fail(i)
	}
	return n
}

// bytes gives a blob, never nil: the driver gives nil for an empty one.
func (d *decoder) bytes(i int) []byte {
	b, ok := d.v[i].([]byte)
	if !ok {
		d.fail(i)
	}
	return blob(b)
}

func (d *decoder) fail(i int) {
	if d.err == nil {
		d.err = fmt.Errorf("column %s is a %T", logColumns[i], d.v[i])
	}
}
