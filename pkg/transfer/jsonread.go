package transfer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

const (
	// jsonFormat names the format of WriteJSON.
	jsonFormat = "kinsy-json-1"
	// jsonPrefix is what all versions of the format begin with.
	jsonPrefix = "kinsy-json-"
	// MaxLine bounds a line of JSON, in bytes.
	MaxLine = 64 << 20
)

// ReadJSON reads what WriteJSON wrote into a sink; doc.go has the format. An
// error names the line. ErrForeign, ErrNewer, ErrDamaged; ctx ends it with its
// own error.
func ReadJSON(ctx context.Context, r io.Reader, sink Sink) (Summary, error) {
	return readJSON(ctx, r, sink, MaxLine)
}

func readJSON(ctx context.Context, r io.Reader, sink Sink, maxLine int) (Summary, error) {
	j := &jsonReader{r: bufio.NewReaderSize(r, 64<<10), max: maxLine}
	s, err := j.read(ctx, sink)
	if err != nil {
		return Summary{}, fmt.Errorf("read JSON line %d: %w", j.number, err)
	}
	return s, nil
}

// jsonReader reads one file.
type jsonReader struct {
	r      *bufio.Reader
	max    int
	buf    []byte
	number int64 // of the line, from 1
	header jsonHeader
	b      *builder
	change bool // a change was read: no lease may follow
}

// jsonHeader is the first line.
type jsonHeader struct {
	revision, compact sqllog.Revision
	history           bool
	lines             int64 // -1: not told
}

func (j *jsonReader) read(ctx context.Context, sink Sink) (Summary, error) {
	text, err := j.next()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: the file is empty", ErrForeign)
		}
		return Summary{}, err
	}
	if j.header, err = parseHeader(text); err != nil {
		return Summary{}, err
	}
	j.b = newBuilder(ctx, sink, j.header.compact)
	for {
		text, err := j.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = j.line(text)
		}
		if err != nil {
			return Summary{}, err
		}
	}
	if h := j.header; h.lines >= 0 && h.lines != j.number-1 {
		return Summary{}, syntax("the file ends here, and should have %d lines after the first", h.lines)
	}
	return j.b.finish(j.header.revision)
}

// next reads a line of at most max bytes; io.EOF after the last.
func (j *jsonReader) next() ([]byte, error) {
	j.buf = j.buf[:0]
	for {
		part, err := j.r.ReadSlice('\n')
		if len(j.buf)+len(part) > j.max {
			j.number++
			return nil, syntax("the line is longer than %d bytes", j.max)
		}
		j.buf = append(j.buf, part...)
		switch {
		case err == nil, errors.Is(err, io.EOF) && len(j.buf) > 0:
			j.number++
			return bytes.TrimSuffix(j.buf, []byte("\n")), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

func parseHeader(text []byte) (jsonHeader, error) {
	fields, err := parseLine(text)
	format := fields["format"]
	if err != nil || format.kind != 's' {
		return jsonHeader{}, fmt.Errorf("%w: the first line names no format", ErrForeign)
	}
	switch {
	case string(format.text) == jsonFormat:
	case bytes.HasPrefix(format.text, []byte(jsonPrefix)):
		return jsonHeader{}, fmt.Errorf("%w: %.40q", ErrNewer, format.text)
	default:
		return jsonHeader{}, fmt.Errorf("%w: format %.40q", ErrForeign, format.text)
	}
	delete(fields, "format")
	f := fieldSet{fields: fields}
	h := jsonHeader{lines: -1}
	if _, ok := fields["lines"]; ok {
		h.lines = f.integer("lines", 0)
	}
	h.history = f.boolean("history")
	h.revision = sqllog.Revision(f.integer("revision", 1))
	h.compact = sqllog.Revision(f.integer("compact_revision", 0))
	switch {
	case h.revision == 0:
		f.fail("field %q is needed", "revision")
	case h.compact > h.revision:
		f.fail("compact revision %d is above revision %d", h.compact, h.revision)
	case !h.history && h.compact != h.revision:
		f.fail("without history, compact revision %d must be revision %d", h.compact, h.revision)
	}
	return h, f.end()
}

// line reads a lease or a change.
func (j *jsonReader) line(text []byte) error {
	fields, err := parseLine(text)
	if err != nil {
		return err
	}
	f := &fieldSet{fields: fields}
	if _, ok := fields["ttl"]; ok {
		return j.lease(f)
	}
	c := change{kv: &mvccpb.KeyValue{}}
	c.rev, c.sub = sqllog.Revision(f.integer("mod_revision", 1)), f.integer("sub", 0)
	c.deleted = f.boolean("deleted")
	c.kv.Key, c.kv.ModRevision = f.bytes("key"), int64(c.rev)
	if !c.deleted {
		c.kv.Value = f.bytes("value")
		c.kv.CreateRevision, c.kv.Version = f.integer("create_revision", 1), f.integer("version", 1)
		c.kv.Lease = f.lease()
	}
	switch {
	case c.deleted && !j.header.history:
		f.fail("a delete in a file without history")
	case c.rev > j.header.revision:
		f.fail("revision %d is above %d, which the first line names", c.rev, j.header.revision)
	}
	if err := f.end(); err != nil {
		return err
	}
	j.change = true
	return j.b.addChange(c)
}

func (j *jsonReader) lease(f *fieldSet) error {
	id, ttl := f.lease(), f.integer("ttl", 1)
	if j.change {
		f.fail("a lease comes after a change")
	}
	if err := f.end(); err != nil {
		return err
	}
	return j.b.addLease(id, ttl)
}
