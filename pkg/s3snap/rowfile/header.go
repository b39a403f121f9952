package rowfile

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Kind says what a file is. Zero is no kind.
type Kind uint8

// The kinds of files. Their numbers are part of the format.
const (
	// KindChunk holds every row from First to Head.
	KindChunk Kind = 1
	// KindSnapshot holds the rows that are still kept at Head.
	KindSnapshot Kind = 2
)

// Valid reports whether k is one of the kinds above.
func (k Kind) Valid() bool { return k == KindChunk || k == KindSnapshot }

func (k Kind) String() string {
	switch k {
	case KindChunk:
		return "chunk"
	case KindSnapshot:
		return "snapshot"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Header says which rows a file covers and who wrote it.
type Header struct {
	Kind Kind
	// Cluster and Node are the identity of the writer's log; Incarnation is a
	// random number per process. A writer tells its own chunk from another
	// writer's by them.
	Cluster, Node, Incarnation uint64
	// First is the first id covered; 1 for a snapshot.
	First sqllog.ID
	// Before is the epoch of the row First-1; 0 if there is none.
	Before sqllog.Epoch
	// Head is the last row covered, whether or not it is in the file.
	Head sqllog.Head
	// Compaction is what rows no longer in a snapshot said. It is zero in a
	// chunk, whose rows say it themselves.
	Compaction sqllog.Compaction
	// Written is in milliseconds since the Unix epoch.
	Written int64
}

const (
	magic   = "kinsyrow"
	version = 1

	// envelopeMagic begins an encrypted object, see package object.
	envelopeMagic = "KINSYENC"

	prefixSize = 16  // magic, version and kind, with a checksum of their own
	headerSize = 108 // the prefix included

	// maxID bounds ids, epochs and revisions, as in package sqllog.
	maxID = math.MaxInt64 / 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// validate checks what must hold of the header of any file.
func (h *Header) validate() error {
	c := &h.Compaction
	switch {
	case !h.Kind.Valid():
		return fmt.Errorf("%v is no kind of file", h.Kind)
	case h.First < 1 || h.First > h.Head.ID || h.Head.ID > maxID:
		return fmt.Errorf("the file covers rows %d to %d", h.First, h.Head.ID)
	case h.Kind == KindSnapshot && h.First != 1:
		return fmt.Errorf("a snapshot begins at row %d", h.First)
	case h.Before < 0 || h.First == 1 && h.Before != 0:
		return fmt.Errorf("row %d has a row of epoch %d before it", h.First, h.Before)
	case h.Head.Epoch < max(1, h.Before) || h.Head.Epoch > maxID:
		return fmt.Errorf("the head has epoch %d after epoch %d", h.Head.Epoch, h.Before)
	case h.Head.Revision < 1 || h.Head.Revision > maxID:
		return fmt.Errorf("the head has revision %d", h.Head.Revision)
	case c.Revision < 0 || c.Revision > h.Head.Revision:
		return fmt.Errorf("revision %d was compacted to %d", h.Head.Revision, c.Revision)
	case c.Revision == 0 && len(c.Deleted) > 0:
		return fmt.Errorf("%d keys were deleted at no revision", len(c.Deleted))
	case h.Kind == KindChunk && c.Revision != 0:
		return fmt.Errorf("a chunk has compacted revision %d", c.Revision)
	}
	for i := range c.Deleted {
		d := &c.Deleted[i]
		if len(d.Key) == 0 || len(d.Key) > maxRow || d.Sub < 0 || d.Sub > maxID {
			return fmt.Errorf("deleted key %d has length %d and position %d", i, len(d.Key), d.Sub)
		}
	}
	return nil
}

// append gives the header as it stands in the file; doc.go has the table.
func (h *Header) append(b []byte) []byte {
	start := len(b)
	b = append(b, magic...)
	b = append(b, version, byte(h.Kind), 0, 0)
	b = binary.BigEndian.AppendUint32(b, checksum(b[start:]))
	for _, v := range [...]uint64{
		h.Cluster, h.Node, h.Incarnation,
		uint64(h.First), uint64(h.Before),
		uint64(h.Head.ID), uint64(h.Head.Epoch), uint64(h.Head.Revision),
		uint64(h.Compaction.Revision), uint64(len(h.Compaction.Deleted)),
		uint64(h.Written),
	} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return binary.BigEndian.AppendUint32(b, checksum(b[start:]))
}

// parsePrefix checks what every version of the format begins with.
func parsePrefix(b []byte) error {
	if string(b[:len(envelopeMagic)]) == envelopeMagic {
		return ErrEncrypted
	}
	if string(b[:len(magic)]) != magic {
		return corruptf(0, "it does not begin with %q", magic)
	}
	if binary.BigEndian.Uint32(b[12:]) != checksum(b[:12]) {
		return corruptf(0, "the checksum of the first 12 bytes does not match")
	}
	if v := b[8]; v != version {
		if v == 0 {
			return corruptf(0, "it has format version 0")
		}
		return fmt.Errorf("%w: format version %d", ErrNewer, v)
	}
	return nil
}

// parseHeader reads a header of headerSize bytes whose prefix was checked. It
// gives the number of deleted keys, which follow in blocks of their own.
func parseHeader(b []byte) (h Header, deleted uint64, err error) {
	if binary.BigEndian.Uint32(b[headerSize-4:]) != checksum(b[:headerSize-4]) {
		return h, 0, corruptf(0, "the checksum of the header does not match")
	}
	if b[10] != 0 || b[11] != 0 {
		return h, 0, corruptf(0, "reserved bytes of the header are used")
	}
	var v [11]uint64
	for i := range v {
		v[i] = binary.BigEndian.Uint64(b[prefixSize+8*i:])
	}
	h = Header{
		Kind:    Kind(b[9]),
		Cluster: v[0], Node: v[1], Incarnation: v[2],
		First: sqllog.ID(v[3]), Before: sqllog.Epoch(v[4]),
		Head:       sqllog.Head{ID: sqllog.ID(v[5]), Epoch: sqllog.Epoch(v[6]), Revision: sqllog.Revision(v[7])},
		Compaction: sqllog.Compaction{Revision: sqllog.Revision(v[8])},
		Written:    int64(v[10]),
	}
	if err := h.validate(); err != nil {
		return Header{}, 0, corruptf(0, "%v", err)
	}
	if v[9] > 0 && h.Compaction.Revision == 0 {
		return Header{}, 0, corruptf(0, "%d keys were deleted at no revision", v[9])
	}
	return h, v[9], nil
}
