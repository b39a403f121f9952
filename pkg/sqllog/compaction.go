package sqllog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// Compaction is what the newest compact row says.
type Compaction struct {
	// Revision is the revision compacted to: reads below it are refused. 0 if
	// the log was never compacted.
	Revision Revision
	// Deleted are the keys that revision deleted, with their position in it. A
	// watch may start at the compacted revision itself, and needs their events
	// after the delete rows are gone.
	Deleted []DeletedKey
}

// DeletedKey is a key deleted at the compacted revision.
type DeletedKey struct {
	Sub int64
	Key []byte
}

// EncodeDeleted gives the value of a compact row: for each key its sub and its
// length as varints, then its bytes.
func EncodeDeleted(keys []DeletedKey) []byte {
	var out []byte
	for _, k := range keys {
		out = binary.AppendUvarint(out, uint64(k.Sub))
		out = binary.AppendUvarint(out, uint64(len(k.Key)))
		out = append(out, k.Key...)
	}
	return out
}

// DecodeDeleted reads what EncodeDeleted wrote. The keys alias b.
func DecodeDeleted(b []byte) ([]DeletedKey, error) {
	var keys []DeletedKey
	for len(b) > 0 {
		sub, n := binary.Uvarint(b)
		if n <= 0 || sub > maxID {
			return nil, fmt.Errorf("%w: deleted key %d has no position", ErrCorrupt, len(keys))
		}
		b = b[n:]
		size, n := binary.Uvarint(b)
		if n <= 0 || size == 0 || size > uint64(len(b)-n) {
			return nil, fmt.Errorf("%w: deleted key %d is cut short", ErrCorrupt, len(keys))
		}
		b = b[n:]
		keys = append(keys, DeletedKey{Sub: int64(sub), Key: b[:size:size]})
		b = b[size:]
	}
	return keys, nil
}

// cloneDeleted gives keys that share no memory with those given.
func cloneDeleted(keys []DeletedKey) []DeletedKey {
	out := slices.Clone(keys)
	for i := range out {
		out[i].Key = bytes.Clone(out[i].Key)
	}
	return out
}

// encodeCompaction is the form kept in meta: the revision, then the keys.
func encodeCompaction(rev Revision, deleted []byte) []byte {
	return append(binary.AppendUvarint(nil, uint64(rev)), deleted...)
}

func decodeCompaction(b []byte) (Compaction, error) {
	rev, n := binary.Uvarint(b)
	if n <= 0 || rev > maxID {
		return Compaction{}, fmt.Errorf("%w: meta entry compaction has no revision", ErrCorrupt)
	}
	deleted, err := DecodeDeleted(b[n:])
	if err != nil {
		return Compaction{}, err
	}
	return Compaction{Revision: Revision(rev), Deleted: deleted}, nil
}
