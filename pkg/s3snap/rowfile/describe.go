package rowfile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Describe prints what the file is and holds, and whether it is sound; with
// verbose also a line for each block and each row, with its key but not its
// value. It reads r to the end, in constant memory. An error of the file is
// printed where it was met, and returned; so is an error of w.
func Describe(w io.Writer, r io.Reader, verbose bool) error {
	d := &description{out: bufio.NewWriter(w), verbose: verbose}
	err := d.print(r)
	if err != nil {
		d.line("checks", "FAILED: %v", err)
	}
	return errors.Join(err, d.out.Flush())
}

// description is what Describe has counted so far.
type description struct {
	out     *bufio.Writer
	verbose bool

	blocks, deletedBlocks int
	plain, packed         int64
	kinds                 [sqllog.KindMember + 1]int
	rows, bytes           int64
	first, last           sqllog.Row // without key and value
	oldest, newest        int64      // written at
}

// line prints a name and what it stands for.
func (d *description) line(name, format string, args ...any) {
	fmt.Fprintf(d.out, "%-12s ", name)
	fmt.Fprintf(d.out, format, args...)
	fmt.Fprintln(d.out)
}

func (d *description) print(in io.Reader) error {
	r, err := newReader(in, d.block)
	if err != nil {
		return err
	}
	d.header(r.Header())
	for {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			d.totals()
			return err
		}
		d.row(row)
	}
	d.totals()
	d.line("file", "%d bytes", r.src.offset)
	d.line("checks", "ok: checksums of header, blocks and rows, order of rows, hash of the file")
	return nil
}

func (d *description) header(h Header) {
	d.line("kind", "%v, format version %d", h.Kind, version)
	d.line("cluster", "%016x", h.Cluster)
	d.line("writer", "node %016x, process %016x", h.Node, h.Incarnation)
	d.line("written", "%s", timestamp(h.Written))
	d.line("covers", "rows %d to %d", h.First, h.Head.ID)
	if h.Before > 0 {
		d.line("follows", "a row of epoch %d", h.Before)
	}
	d.line("head", "row %d of epoch %d at revision %d", h.Head.ID, h.Head.Epoch, h.Head.Revision)
	if h.Kind == KindSnapshot {
		d.line("compacted", "revision %d, which deleted %d keys", h.Compaction.Revision, len(h.Compaction.Deleted))
	}
	if d.verbose {
		for _, k := range h.Compaction.Deleted {
			fmt.Fprintf(d.out, "  deleted sub=%d key=%q\n", k.Sub, k.Key)
		}
	}
}

func (d *description) block(b blockInfo) {
	d.blocks++
	if b.kind == blockDeleted {
		d.deletedBlocks++
	}
	d.plain += int64(b.plain)
	d.packed += int64(b.packed)
	if d.verbose {
		what := "rows"
		if b.kind == blockDeleted {
			what = "deleted keys"
		}
		fmt.Fprintf(d.out, "block at byte %d: %d %s, %d bytes compressed to %d\n", b.offset, b.entries, what, b.plain, b.packed)
	}
}

func (d *description) row(r *sqllog.Row) {
	if d.rows == 0 {
		d.first, d.oldest, d.newest = *r, r.WrittenAt, r.WrittenAt
		d.first.Key, d.first.Value = nil, nil
	}
	d.rows++
	d.kinds[r.Kind]++
	d.bytes += int64(len(r.Key) + len(r.Value))
	d.last = *r
	d.last.Key, d.last.Value = nil, nil
	d.oldest, d.newest = min(d.oldest, r.WrittenAt), max(d.newest, r.WrittenAt)
	if d.verbose {
		fmt.Fprintf(d.out, "  %d epoch=%d rev=%d sub=%d %v key=%q value=%dB create=%d prev=%d version=%d lease=%x at=%s\n",
			r.ID, r.Epoch, r.Revision, r.Sub, r.Kind, r.Key, len(r.Value),
			r.CreateRevision, r.PrevRevision, r.Version, uint64(r.Lease), timestamp(r.WrittenAt))
	}
}

// totals prints what was counted, up to the damage if there is some.
func (d *description) totals() {
	d.line("blocks", "%d, %d of them deleted keys; %d bytes compressed to %d", d.blocks, d.deletedBlocks, d.plain, d.packed)
	d.line("rows", "%d with %d bytes of keys and values", d.rows, d.bytes)
	for k := sqllog.KindPut; k <= sqllog.KindMember; k++ {
		if n := d.kinds[k]; n > 0 {
			d.line("  "+k.String(), "%d", n)
		}
	}
	if d.rows == 0 {
		return
	}
	d.line("ids", "%d to %d", d.first.ID, d.last.ID)
	d.line("epochs", "%d to %d", d.first.Epoch, d.last.Epoch)
	d.line("revisions", "%d to %d", d.first.Revision, d.last.Revision)
	d.line("times", "%s to %s", timestamp(d.oldest), timestamp(d.newest))
}

// timestamp gives milliseconds since the Unix epoch as a time in UTC.
func timestamp(ms int64) string {
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}
