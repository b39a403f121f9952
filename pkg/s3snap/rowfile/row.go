package rowfile

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

const (
	rowHeaderSize = 8                      // length and checksum of the body
	minRowSize    = rowHeaderSize + 1 + 10 // kind, nine numbers and the key's length
	// maxRowOverhead is what a row takes beside key and value, at most.
	maxRowOverhead = rowHeaderSize + 1 + 10*binary.MaxVarintLen64
	// maxRow bounds key and value of one row, in bytes. SQLite keeps no row
	// above 1e9 bytes.
	maxRow = maxPlain - maxRowOverhead
)

// appendRow appends a row as it stands in a block.
func appendRow(b []byte, r *sqllog.Row) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, byte(r.Kind))
	b = binary.AppendVarint(b, int64(r.ID))
	b = binary.AppendVarint(b, int64(r.Epoch))
	b = binary.AppendVarint(b, int64(r.Revision))
	b = binary.AppendVarint(b, r.Sub)
	b = binary.AppendVarint(b, int64(r.CreateRevision))
	b = binary.AppendVarint(b, int64(r.PrevRevision))
	b = binary.AppendVarint(b, r.Version)
	b = binary.AppendVarint(b, r.Lease)
	b = binary.AppendVarint(b, r.WrittenAt)
	b = binary.AppendUvarint(b, uint64(len(r.Key)))
	b = append(b, r.Key...)
	b = append(b, r.Value...)
	body := b[start+rowHeaderSize:]
	binary.BigEndian.PutUint32(b[start:], uint32(len(body)))
	binary.BigEndian.PutUint32(b[start+4:], checksum(body))
	return b
}

var (
	errRowCut = errors.New("it is cut short")
	errRowSum = errors.New("its checksum does not match")
)

// parseRow reads one row from the front of a block into r, whose key and value
// then alias b, and gives what follows it. The row is not validated.
func parseRow(b []byte, r *sqllog.Row) (rest []byte, err error) {
	if len(b) < minRowSize {
		return nil, errRowCut
	}
	size, sum := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	b = b[rowHeaderSize:]
	if uint64(size) > uint64(len(b)) || size < minRowSize-rowHeaderSize {
		return nil, fmt.Errorf("it has a body of %d bytes in %d", size, len(b))
	}
	body, rest := b[:size:size], b[size:]
	if checksum(body) != sum {
		return nil, errRowSum
	}
	var v [9]int64
	kind := sqllog.Kind(body[0])
	body = body[1:]
	for i := range v {
		var n int
		if v[i], n = binary.Varint(body); n <= 0 {
			return nil, errRowCut
		}
		body = body[n:]
	}
	key, n := binary.Uvarint(body)
	if n <= 0 || key > uint64(len(body)-n) {
		return nil, errRowCut
	}
	body = body[n:]
	*r = sqllog.Row{
		ID: sqllog.ID(v[0]), Epoch: sqllog.Epoch(v[1]), Revision: sqllog.Revision(v[2]), Sub: v[3], Kind: kind,
		CreateRevision: sqllog.Revision(v[4]), PrevRevision: sqllog.Revision(v[5]),
		Version: v[6], Lease: v[7], WrittenAt: v[8],
	}
	if key > 0 {
		r.Key = body[:key:key]
	}
	if uint64(len(body)) > key {
		r.Value = body[key:]
	}
	return rest, nil
}
