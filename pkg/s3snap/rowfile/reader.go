package rowfile

import (
	"bytes"
	"encoding/binary"
	"io"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Reader reads and verifies a file, holding one block in memory. It is used by
// one goroutine. A file that is damaged gives a *CorruptError; what the
// io.Reader reports itself is wrapped and is no ErrCorrupt.
type Reader struct {
	src    *source
	header Header
	order  order
	buf    *buffers
	block  blockInfo
	rest   []byte // rows of the block not yet given
	left   uint32 // their number
	row    sqllog.Row
	err    error
	trace  func(blockInfo) // called for every block, if set
}

// blockInfo says what block was read, and where it begins.
type blockInfo struct {
	blockHeader
	offset int64
}

// NewReader reads the header of a file. ErrNewer and ErrEncrypted say that r is
// no file that this version reads; anything else that is none is ErrCorrupt.
func NewReader(r io.Reader) (*Reader, error) { return newReader(r, nil) }

func newReader(r io.Reader, trace func(blockInfo)) (*Reader, error) {
	fr := &Reader{src: newSource(r), trace: trace}
	var head [headerSize]byte
	if err := fr.src.read(head[:prefixSize]); err != nil {
		return nil, err
	}
	if err := parsePrefix(head[:]); err != nil {
		return nil, err
	}
	if err := fr.src.read(head[prefixSize:]); err != nil {
		return nil, err
	}
	h, deleted, err := parseHeader(head[:])
	if err != nil {
		return nil, err
	}
	fr.header, fr.buf = h, bufferPool.Get().(*buffers)
	if err := fr.readDeleted(deleted); err != nil {
		return nil, err
	}
	fr.order = newOrder(&fr.header)
	return fr, nil
}

// Header is what the file says of itself; it was verified by NewReader.
func (r *Reader) Header() Header { return r.header }

// Next gives the next row, which is valid until the following call. io.EOF means
// that the whole file, its trailer and its hash included, was verified: only
// then is the file known to be complete. Every later call gives the same error.
func (r *Reader) Next() (*sqllog.Row, error) {
	if r.err == nil {
		r.err = r.next()
	}
	if r.err != nil {
		return nil, r.err
	}
	return &r.row, nil
}

func (r *Reader) next() error {
	if r.left == 0 {
		if err := r.readBlock(blockRows); err != nil {
			return err
		}
		r.rest, r.left = r.buf.plain, r.block.entries
	}
	rest, err := parseRow(r.rest, &r.row)
	if err != nil {
		return corruptf(r.block.offset, "row %d of %d of the block: %v", r.block.entries-r.left+1, r.block.entries, err)
	}
	if err := r.order.add(&r.row); err != nil {
		return corruptf(r.block.offset, "%v", err)
	}
	r.rest = rest
	r.left--
	if r.left == 0 && len(rest) > 0 {
		return corruptf(r.block.offset, "%d bytes follow the last row of the block", len(rest))
	}
	return nil
}

// readDeleted reads the keys deleted at the compacted revision.
func (r *Reader) readDeleted(n uint64) error {
	for have := uint64(0); have < n; {
		if err := r.readBlock(blockDeleted); err != nil {
			return err
		}
		keys, err := sqllog.DecodeDeleted(bytes.Clone(r.buf.plain))
		if err != nil {
			return corruptf(r.block.offset, "%v", err)
		}
		have += uint64(len(keys))
		if len(keys) != int(r.block.entries) || have > n {
			return corruptf(r.block.offset, "the block has %d deleted keys of %d, and says %d", len(keys), n, r.block.entries)
		}
		r.header.Compaction.Deleted = append(r.header.Compaction.Deleted, keys...)
	}
	return nil
}

// readBlock reads the next block into buf.plain. io.EOF if the trailer is there
// instead, and everything holds.
func (r *Reader) readBlock(kind byte) error {
	at := r.src.offset
	var head [blockHeaderSize]byte
	// The hash covers the first bytes of a trailer, but all of a block.
	if err := r.src.read(head[:hashedSize]); err != nil {
		return err
	}
	if head[0] == blockEnd {
		return r.readTrailer(at, head[:hashedSize])
	}
	if err := r.src.read(head[hashedSize:]); err != nil {
		return err
	}
	h, err := parseBlockHeader(head[:])
	if err != nil {
		return corruptf(at, "%v", err)
	}
	if h.kind != kind {
		return corruptf(at, "a block of type %d stands where type %d belongs", h.kind, kind)
	}
	if r.buf.packed, err = r.src.readInto(r.buf.packed, int(h.packed)); err != nil {
		return err
	}
	if r.buf.plain, err = unpack(&h, r.buf.packed, r.buf.plain); err != nil {
		return corruptf(at, "%v", err)
	}
	r.block = blockInfo{blockHeader: h, offset: at}
	if r.trace != nil {
		r.trace(r.block)
	}
	return nil
}

// readTrailer checks the end of the file, whose first bytes are given.
func (r *Reader) readTrailer(at int64, begin []byte) error {
	want := r.src.sum.Sum(nil)
	var rest [trailerSize - hashedSize]byte
	if err := r.src.fill(rest[:]); err != nil {
		return err
	}
	rows := binary.BigEndian.Uint64(begin[8:])
	switch {
	case string(rest[len(want):]) != endMagic:
		return corruptf(at, "it does not end with %q", endMagic)
	case !bytes.Equal(rest[:len(want)], want):
		return corruptf(at, "the hash of the file does not match")
	case r.order.header == nil:
		return corruptf(at, "deleted keys are missing")
	case rows != r.order.rows:
		return corruptf(at, "it has %d rows, not %d", r.order.rows, rows)
	}
	if err := r.order.done(); err != nil {
		return corruptf(at, "%v", err)
	}
	if err := r.src.end(); err != nil {
		return err
	}
	r.buf.release()
	r.buf, r.row = nil, sqllog.Row{}
	return io.EOF
}
