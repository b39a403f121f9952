package rowfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// The parts that may follow the header. Zero is none of them.
const (
	blockRows    = 1
	blockDeleted = 2
	blockEnd     = 3
)

const (
	blockHeaderSize = 24
	// blockSize is how many plain bytes a block holds, unless one row has more.
	blockSize = 256 << 10
	// maxPlain bounds the plain bytes of a block, and so the size of a row.
	maxPlain = 1 << 30
	// zstdBlock is the most that one zstd block expands to, and zstdBlockMin the
	// fewest bytes it takes.
	zstdBlock, zstdBlockMin = 128 << 10, 4
)

// blockHeader stands before the compressed bytes of a block.
type blockHeader struct {
	kind    byte
	entries uint32 // rows or keys
	plain   uint32 // bytes before compression
	packed  uint32 // bytes after compression
	sum     uint32 // CRC-32C of the packed bytes
}

func (h *blockHeader) append(b []byte) []byte {
	start := len(b)
	b = append(b, h.kind, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, h.entries)
	b = binary.BigEndian.AppendUint32(b, h.plain)
	b = binary.BigEndian.AppendUint32(b, h.packed)
	b = binary.BigEndian.AppendUint32(b, h.sum)
	return binary.BigEndian.AppendUint32(b, checksum(b[start:]))
}

// parseBlockHeader checks a block header so far that the sizes in it may be
// allocated.
func parseBlockHeader(b []byte) (h blockHeader, err error) {
	if binary.BigEndian.Uint32(b[20:]) != checksum(b[:20]) {
		return h, errors.New("the checksum of the block header does not match")
	}
	h = blockHeader{
		kind:    b[0],
		entries: binary.BigEndian.Uint32(b[4:]),
		plain:   binary.BigEndian.Uint32(b[8:]),
		packed:  binary.BigEndian.Uint32(b[12:]),
		sum:     binary.BigEndian.Uint32(b[16:]),
	}
	smallest := uint64(minRowSize)
	if h.kind == blockDeleted {
		smallest = 3 // position, length and a key of one byte
	}
	switch {
	case h.kind != blockRows && h.kind != blockDeleted:
		return h, fmt.Errorf("%d is no type of block", h.kind)
	case b[1] != 0 || b[2] != 0 || b[3] != 0:
		return h, errors.New("reserved bytes of the block header are used")
	case h.entries == 0 || uint64(h.entries)*smallest > uint64(h.plain):
		return h, fmt.Errorf("the block has %d entries in %d bytes", h.entries, h.plain)
	case h.plain > maxPlain || h.plain > blockSize && h.entries > 1:
		return h, fmt.Errorf("the block has %d entries in %d bytes", h.entries, h.plain)
	case uint64(h.packed) > uint64(h.plain)+uint64(h.plain)>>8+64,
		uint64(h.plain) > (uint64(h.packed)/zstdBlockMin+1)*zstdBlock:
		return h, fmt.Errorf("%d compressed bytes cannot stand for %d", h.packed, h.plain)
	}
	return h, nil
}

// maxCodecs bounds how many blocks are compressed at once in the process, and
// with it the memory of the encoders (about 1 MiB each).
const maxCodecs = 4

// encoder is shared: its EncodeAll may be called concurrently, and keeps its
// tables between calls.
var encoder = sync.OnceValue(newEncoder)

func newEncoder() *zstd.Encoder {
	e, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderCRC(false),
		zstd.WithWindowSize(blockSize),
		zstd.WithLowerEncoderMem(true),
		zstd.WithEncoderConcurrency(min(maxCodecs, runtime.GOMAXPROCS(0))))
	if err != nil {
		panic(err) // the options are constants
	}
	return e
}

// decoder is shared like encoder. It never writes beyond the capacity it is
// given.
var decoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(min(maxCodecs, runtime.GOMAXPROCS(0))),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(blockSize),
		zstd.WithDecoderMaxMemory(maxPlain),
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return d
})

// unpack decompresses a block into dst, which it may replace.
func unpack(h *blockHeader, packed, dst []byte) ([]byte, error) {
	if checksum(packed) != h.sum {
		return dst, errors.New("the checksum of the block does not match")
	}
	dst = slices.Grow(dst[:0], int(h.plain))
	plain, err := decoder().DecodeAll(packed, dst)
	if err != nil {
		return dst, fmt.Errorf("decompress the block: %w", err)
	}
	if len(plain) != int(h.plain) {
		return dst, fmt.Errorf("the block has %d plain bytes, not %d", len(plain), h.plain)
	}
	return plain, nil
}

// buffers are what writing or reading blocks needs; both grow to the largest
// block met.
type buffers struct {
	plain, packed []byte
}

var bufferPool = sync.Pool{New: func() any { return new(buffers) }}

// maxPooled keeps the buffers of a very large row from staying in memory.
const maxPooled = 4 * blockSize

func (b *buffers) release() {
	if cap(b.plain) <= maxPooled && cap(b.packed) <= maxPooled {
		b.plain, b.packed = b.plain[:0], b.packed[:0]
		bufferPool.Put(b)
	}
}
