package rowfile

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

const (
	trailerSize = 56
	hashedSize  = 16 // of the trailer: type and number of rows
	endMagic    = "kinsyend"
)

var errFinished = errors.New("row file is finished")

// Writer writes a file row by row, holding one block in memory. It is used by
// one goroutine. After an error every call returns it.
type Writer struct {
	out    io.Writer
	sum    hash.Hash
	header Header
	order  order
	buf    *buffers
	count  uint32 // entries in buf.plain
	err    error
}

// NewWriter begins a file of the rows that h covers: it writes the header to w.
// ErrInvalid if the header cannot be; other errors are those of w. Until Close
// has returned nil what was written is no file.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	if err := h.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	fw := &Writer{out: w, sum: sha256.New(), header: h, buf: bufferPool.Get().(*buffers)}
	fw.order = newOrder(&fw.header)
	fw.write(h.append(make([]byte, 0, headerSize)))
	for i := range h.Compaction.Deleted {
		d := h.Compaction.Deleted[i : i+1 : i+1]
		fw.room(blockDeleted, len(d[0].Key)+2*binary.MaxVarintLen64)
		fw.buf.plain = append(fw.buf.plain, sqllog.EncodeDeleted(d)...)
		fw.count++
	}
	fw.flush(blockDeleted)
	if fw.err != nil {
		return nil, fw.err
	}
	return fw, nil
}

// Add writes the next row. ErrInvalid if it may not follow: the rows of a chunk
// are contiguous from First to Head, those of a snapshot ascend and may have
// holes. The row may be reused when Add returns. ValueSize is not kept.
func (w *Writer) Add(r *sqllog.Row) error {
	if w.err != nil {
		return w.err
	}
	if err := w.order.add(r); err != nil {
		w.err = fmt.Errorf("%w: %w", ErrInvalid, err)
		return w.err
	}
	w.room(blockRows, len(r.Key)+len(r.Value)+maxRowOverhead)
	w.buf.plain = appendRow(w.buf.plain, r)
	w.count++
	return w.err
}

// Close writes what is left and the trailer; it does not close what NewWriter
// was given. ErrInvalid if rows of a chunk are missing.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	if err := w.order.done(); err != nil {
		w.err = fmt.Errorf("%w: %w", ErrInvalid, err)
		return w.err
	}
	w.flush(blockRows)
	end := append(make([]byte, 0, trailerSize), blockEnd, 0, 0, 0, 0, 0, 0, 0)
	end = binary.BigEndian.AppendUint64(end, w.order.rows)
	w.sum.Write(end)
	end = append(w.sum.Sum(end), endMagic...)
	w.send(end)
	if w.err != nil {
		return w.err
	}
	w.buf.release()
	w.err = errFinished
	return nil
}

// room ends the block of the given type if it cannot take size bytes more.
func (w *Writer) room(kind byte, size int) {
	if len(w.buf.plain)+size > blockSize {
		w.flush(kind)
	}
}

// flush writes the block that was filled, if it has entries.
func (w *Writer) flush(kind byte) {
	if w.count == 0 {
		return
	}
	var head [blockHeaderSize]byte
	packed := encoder().EncodeAll(w.buf.plain, append(w.buf.packed[:0], head[:]...))
	h := blockHeader{
		kind:    kind,
		entries: w.count,
		plain:   uint32(len(w.buf.plain)),
		packed:  uint32(len(packed) - blockHeaderSize),
		sum:     checksum(packed[blockHeaderSize:]),
	}
	h.append(packed[:0])
	w.write(packed)
	w.buf.plain, w.buf.packed, w.count = w.buf.plain[:0], packed[:0], 0
}

func (w *Writer) write(b []byte) {
	w.sum.Write(b)
	w.send(b)
}

func (w *Writer) send(b []byte) {
	if w.err != nil {
		return
	}
	if _, err := w.out.Write(b); err != nil {
		w.err = fmt.Errorf("write row file: %w", err)
	}
}
