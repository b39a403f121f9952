package transfer

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// JSONOptions says what WriteJSON writes.
type JSONOptions struct {
	// History writes every change that is kept, not only the keys that exist.
	History bool
}

// WriteJSON writes a source as JSON lines; doc.go has the format. ctx ends it
// with its own error.
func WriteJSON(ctx context.Context, w io.Writer, src Source, opts JSONOptions) (Summary, error) {
	sv, err := takeSurvey(ctx, src, !opts.History)
	if err != nil {
		return Summary{}, fmt.Errorf("write JSON: %w", err)
	}
	j := &jsonWriter{w: bufio.NewWriterSize(w, 64<<10), sv: sv, history: opts.History}
	if err := j.write(ctx); err != nil {
		return Summary{}, fmt.Errorf("write JSON: %w", err)
	}
	return j.summary, nil
}

// jsonWriter writes one file.
type jsonWriter struct {
	w       *bufio.Writer
	sv      *survey
	history bool
	buf     []byte
	summary Summary
}

func (j *jsonWriter) write(ctx context.Context) error {
	j.summary = j.sv.summary()
	rows, lines := j.sv.existing, j.sv.live
	if j.history {
		rows, lines = j.sv.history, j.sv.changes()
	} else {
		j.summary.CompactRevision = j.summary.Revision
	}
	lines += int64(len(j.sv.leases))
	if err := j.header(lines); err != nil {
		return err
	}
	for _, id := range j.sv.leaseIDs() {
		j.buf = appendInteger(appendLeaseID(append(j.buf[:0], '{'), id), "ttl", j.sv.leases[id])
		if err := j.end(); err != nil {
			return err
		}
	}
	if err := rows(ctx, j.row); err != nil {
		return err
	}
	return j.w.Flush()
}

func (j *jsonWriter) header(lines int64) error {
	b := appendText(append(j.buf[:0], '{'), "format", []byte(jsonFormat))
	b = appendInteger(b, "revision", int64(j.summary.Revision))
	b = appendInteger(b, "compact_revision", int64(j.summary.CompactRevision))
	b = strconv.AppendBool(appendName(b, "history"), j.history)
	j.buf = appendInteger(b, "lines", lines)
	return j.end()
}

func (j *jsonWriter) row(r *sqllog.Row) error {
	b := appendText(append(j.buf[:0], '{'), "key", r.Key)
	if r.Kind == sqllog.KindDelete {
		b = strconv.AppendBool(appendName(b, "deleted"), true)
	} else {
		b = appendText(b, "value", r.Value)
		b = appendInteger(b, "create_revision", int64(r.CreateRevision))
	}
	b = appendInteger(b, "mod_revision", int64(r.Revision))
	if r.Sub > 0 {
		b = appendInteger(b, "sub", r.Sub)
	}
	if r.Kind == sqllog.KindPut {
		b = appendInteger(b, "version", r.Version)
		if r.Lease != 0 {
			b = appendLeaseID(b, r.Lease)
		}
	}
	j.summary.Changes++
	j.buf = b
	return j.end()
}

// end ends the line in buf and writes it.
func (j *jsonWriter) end() error {
	j.buf = append(j.buf, '}', '\n')
	_, err := j.w.Write(j.buf)
	return err
}
