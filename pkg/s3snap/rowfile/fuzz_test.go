package rowfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"testing"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// FuzzDecode: no bytes make the decoder panic, and what it takes is what the
// encoder gives.
func FuzzDecode(f *testing.F) {
	for _, s := range samples(f) {
		f.Add(s.file)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		decodeAndBack(t, b)
		if err := Describe(io.Discard, bytes.NewReader(b), true); (err == nil) != (readAll(bytes.NewReader(b)) == nil) {
			t.Fatalf("Describe gives %v", err)
		}
	})
}

// FuzzForged gets behind the checksums: they hold whatever the header, the rows
// and the deleted keys are.
func FuzzForged(f *testing.F) {
	rows := makeRows(9, 40, 20)
	h := chunkHeader(rows)
	var plain []byte
	for i := range rows {
		plain = appendRow(plain, &rows[i])
	}
	sh, kept := makeSnapshot(20, 20, 3)
	var plainKept []byte
	for i := range kept {
		plainKept = appendRow(plainKept, &kept[i])
	}
	f.Add(h.append(nil), []byte{}, 0, plain, len(rows))
	f.Add(sh.append(nil), sqllog.EncodeDeleted(sh.Compaction.Deleted), 3, plainKept, len(kept))
	f.Fuzz(func(t *testing.T, head, deleted []byte, keys int, plain []byte, n int) {
		var fg forgery
		fg.file = make([]byte, headerSize)
		copy(fg.file, head)
		fg.patchHeader(8, version)
		if len(deleted) > 0 {
			fg.block(blockDeleted, keys, deleted)
		}
		if len(plain) > 0 {
			fg.block(blockRows, n, sumRows(plain))
		}
		decodeAndBack(t, fg.end(n))
	})
}

// sumRows makes the checksums of rows hold as far as there are whole rows.
func sumRows(plain []byte) []byte {
	plain = bytes.Clone(plain)
	for b := plain; len(b) >= rowHeaderSize; {
		size := uint64(binary.BigEndian.Uint32(b))
		if size > uint64(len(b)-rowHeaderSize) {
			break
		}
		binary.BigEndian.PutUint32(b[4:], checksum(b[rowHeaderSize:rowHeaderSize+size]))
		b = b[rowHeaderSize+size:]
	}
	return plain
}

// decodeAndBack decodes, and if that succeeds encodes and decodes again.
func decodeAndBack(t *testing.T, b []byte) {
	t.Helper()
	h, rows, err := Decode(b)
	if err != nil {
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewer) && !errors.Is(err, ErrEncrypted) {
			t.Fatalf("decode: %v", err)
		}
		return
	}
	again, err := Encode(h, rows)
	if err != nil {
		t.Fatalf("what was decoded is not encoded: %v", err)
	}
	gotHeader, got, err := Decode(again)
	if err != nil || !reflect.DeepEqual(gotHeader, h) {
		t.Fatalf("header is %+v, want %+v: %v", gotHeader, h, err)
	}
	sameRows(t, got, rows)
}

// FuzzRoundTrip: what the encoder takes is decoded to the same rows, and cut or
// changed anywhere it is refused.
func FuzzRoundTrip(f *testing.F) {
	f.Add(int64(1), int64(2), int64(60), []byte("key"), []byte("value"), []byte{1, 1, 2, 3, 4, 5, 6}, uint32(70))
	f.Add(int64(77), int64(-1), int64(0), []byte{}, []byte{}, []byte{3}, uint32(1))
	f.Fuzz(func(t *testing.T, first, lease, version int64, key, value, kinds []byte, damage uint32) {
		rows := make([]sqllog.Row, len(kinds))
		for i, k := range kinds {
			rows[i] = sqllog.Row{
				ID: sqllog.ID(first + int64(i)), Epoch: 1 + sqllog.Epoch(i/3), Revision: 1 + sqllog.Revision(i),
				Kind: sqllog.Kind(k & 7), Sub: int64(k >> 3), Lease: lease, Version: version,
				CreateRevision: 1 + sqllog.Revision(i/2), PrevRevision: sqllog.Revision(k >> 6), WrittenAt: first ^ lease,
				Key: key[:len(key)>>(k>>6)], Value: value[len(value)>>(k>>5):],
			}
		}
		if len(rows) == 0 {
			return
		}
		h := chunkHeader(rows)
		file, err := Encode(h, rows)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("encode: %v", err)
			}
			return
		}
		decodeAndBack(t, file)
		at := int(damage) % len(file)
		if _, _, err := Decode(file[:at]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut at %d: %v", at, err)
		}
		file[at] ^= byte(damage>>24) | 1
		if _, _, err := Decode(file); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("byte %d changed: %v", at, err)
		}
	})
}
