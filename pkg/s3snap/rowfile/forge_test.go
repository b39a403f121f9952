package rowfile

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// forgery makes files whose checksums and hash hold, whatever they say.
type forgery struct{ file []byte }

func (f *forgery) header(h Header) { f.file = h.append(f.file) }

// patchHeader changes a byte of the header and makes its checksums hold again.
func (f *forgery) patchHeader(at int, b byte) {
	f.file[at] = b
	binary.BigEndian.PutUint32(f.file[12:], checksum(f.file[:12]))
	binary.BigEndian.PutUint32(f.file[headerSize-4:], checksum(f.file[:headerSize-4]))
}

func (f *forgery) block(kind byte, entries int, plain []byte) {
	packed := encoder().EncodeAll(plain, nil)
	f.raw(blockHeader{
		kind: kind, entries: uint32(entries), plain: uint32(len(plain)), packed: uint32(len(packed)), sum: checksum(packed),
	}, packed)
}

func (f *forgery) raw(h blockHeader, packed []byte) {
	f.file = append(h.append(f.file), packed...)
}

func (f *forgery) rows(rows ...sqllog.Row) {
	var plain []byte
	for i := range rows {
		plain = appendRow(plain, &rows[i])
	}
	f.block(blockRows, len(rows), plain)
}

func (f *forgery) end(rows int) []byte {
	f.file = append(f.file, blockEnd, 0, 0, 0, 0, 0, 0, 0)
	f.file = binary.BigEndian.AppendUint64(f.file, uint64(rows))
	sum := sha256.Sum256(f.file)
	return append(append(f.file, sum[:]...), endMagic...)
}

// forge is a file of one block of rows.
func forge(h Header, rows ...sqllog.Row) []byte {
	var f forgery
	f.header(h)
	f.rows(rows...)
	return f.end(len(rows))
}

func TestForgeryIsSoundWhereTheRowsAre(t *testing.T) {
	rows := makeRows(9, 40, 20)
	h := chunkHeader(rows)
	if !bytes.Equal(forge(h, rows...), encode(t, h, rows)) {
		t.Fatal("the forgery of a sound file differs from it: the other tests show nothing")
	}
}

// TestBrokenInvariants: what may not be written is not read either.
func TestBrokenInvariants(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(h *Header, rows []sqllog.Row)
	}{
		{"no kind", func(h *Header, _ []sqllog.Row) { h.Kind = 0 }},
		{"unknown kind", func(h *Header, _ []sqllog.Row) { h.Kind = 3 }},
		{"first id 0", func(h *Header, _ []sqllog.Row) { h.First = 0 }},
		{"negative head", func(h *Header, _ []sqllog.Row) { h.Head.ID = -1 }},
		{"head before first", func(h *Header, _ []sqllog.Row) { h.First = h.Head.ID + 1 }},
		{"head out of range", func(h *Header, _ []sqllog.Row) { h.Head.ID = maxID + 1 }},
		{"snapshot from the middle", func(h *Header, _ []sqllog.Row) { h.Kind = KindSnapshot }},
		{"negative epoch before", func(h *Header, _ []sqllog.Row) { h.Before = -1 }},
		{"epoch before above the first row's", func(h *Header, _ []sqllog.Row) { h.Before = 4 }},
		{"epoch before above the head's", func(h *Header, _ []sqllog.Row) { h.Before = 5 }},
		{"head without epoch", func(h *Header, _ []sqllog.Row) { h.Head.Epoch, h.Before = 0, 0 }},
		{"head without revision", func(h *Header, _ []sqllog.Row) { h.Head.Revision = 0 }},
		{"head of a later epoch than its row", func(h *Header, _ []sqllog.Row) { h.Head.Epoch++ }},
		{"head of a later revision than its row", func(h *Header, _ []sqllog.Row) { h.Head.Revision++ }},
		{"rows missing at the end", func(h *Header, _ []sqllog.Row) { h.Head.ID++ }},
		{"rows missing at the start", func(h *Header, _ []sqllog.Row) { h.First-- }},
		{"a row too many", func(h *Header, _ []sqllog.Row) { h.Head.ID-- }},
		{"compacted chunk", func(h *Header, _ []sqllog.Row) { h.Compaction.Revision = 2 }},
		{"negative compacted revision", func(h *Header, _ []sqllog.Row) { h.Compaction.Revision = -2 }},
		{"gap", func(_ *Header, rows []sqllog.Row) { rows[20].ID++ }},
		{"id twice", func(_ *Header, rows []sqllog.Row) { rows[20].ID-- }},
		{"epoch falls", func(_ *Header, rows []sqllog.Row) { rows[20].Epoch-- }},
		{"epoch above the head's", func(_ *Header, rows []sqllog.Row) { rows[20].Epoch += 100 }},
		{"revision falls", func(_ *Header, rows []sqllog.Row) { rows[20].Revision -= 2 }},
		{"revision above the head's", func(_ *Header, rows []sqllog.Row) { rows[20].Revision += 100 }},
		{"position twice in a revision", func(_ *Header, rows []sqllog.Row) { rows[24].Sub = 0 }},
		{"row without kind", func(_ *Header, rows []sqllog.Row) { rows[0].Kind = 0 }},
		{"row of unknown kind", func(_ *Header, rows []sqllog.Row) { rows[0].Kind = 7 }},
		{"row without epoch", func(h *Header, rows []sqllog.Row) { rows[0].Epoch, h.Before = 0, 0 }},
		{"row without revision", func(_ *Header, rows []sqllog.Row) { rows[0].Revision = 0 }},
		{"put without key", func(_ *Header, rows []sqllog.Row) { rows[0].Key = nil }},
		{"put without create revision", func(_ *Header, rows []sqllog.Row) { rows[0].CreateRevision = 0 }},
		{"put without version", func(_ *Header, rows []sqllog.Row) { rows[0].Version = 0 }},
		{"negative position", func(_ *Header, rows []sqllog.Row) { rows[0].Sub = -1 }},
		{"previous revision above its own", func(_ *Header, rows []sqllog.Row) { rows[0].PrevRevision = rows[0].Revision + 1 }},
		{"lease 0", func(_ *Header, rows []sqllog.Row) { rows[3].Lease = 0 }},
		{"lease with a negative TTL", func(_ *Header, rows []sqllog.Row) { rows[3].Version = -1 }},
		{"compaction to 0", func(_ *Header, rows []sqllog.Row) { rows[11].CreateRevision = 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows := makeRows(9, 40, 20)
			h := chunkHeader(rows)
			c.change(&h, rows)
			if _, err := Encode(h, rows); !errors.Is(err, ErrInvalid) {
				t.Errorf("Encode: %v", err)
			}
			_, _, err := Decode(forge(h, rows...))
			wantCorrupt(t, err)
		})
	}
}

func TestBrokenSnapshots(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(h *Header, rows []sqllog.Row)
	}{
		{"compacted above the head", func(h *Header, _ []sqllog.Row) { h.Compaction.Revision = h.Head.Revision + 1 }},
		{"deleted at no revision", func(h *Header, _ []sqllog.Row) { h.Compaction.Revision = 0 }},
		{"deleted key without a name", func(h *Header, _ []sqllog.Row) { h.Compaction.Deleted[1].Key = nil }},
		{"deleted key out of range", func(h *Header, _ []sqllog.Row) { h.Compaction.Deleted[1].Sub = -1 }},
		{"row 0", func(_ *Header, rows []sqllog.Row) { rows[0].ID = 0 }},
		{"rows out of order", func(_ *Header, rows []sqllog.Row) { rows[3], rows[4] = rows[4], rows[3] }},
		{"row beyond the head", func(h *Header, rows []sqllog.Row) { rows[len(rows)-1].ID = h.Head.ID + 1 }},
		{"head row of another revision", func(h *Header, rows []sqllog.Row) { rows[len(rows)-1].ID = h.Head.ID }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, rows := makeSnapshot(40, 20, 3)
			c.change(&h, rows)
			if _, err := Encode(h, rows); !errors.Is(err, ErrInvalid) {
				t.Errorf("Encode: %v", err)
			}
			var f forgery
			f.header(h)
			f.block(blockDeleted, 3, sqllog.EncodeDeleted(h.Compaction.Deleted))
			f.rows(rows...)
			_, _, err := Decode(f.end(len(rows)))
			wantCorrupt(t, err)
		})
	}
}

func TestForgedParts(t *testing.T) {
	rows := makeRows(9, 3, 20)
	h := chunkHeader(rows)
	sh, kept := makeSnapshot(3, 20, 2)
	deleted := sqllog.EncodeDeleted(sh.Compaction.Deleted)
	var plain []byte
	for i := range rows {
		plain = appendRow(plain, &rows[i])
	}
	longBody := appendRow(nil, &rows[0])
	binary.BigEndian.PutUint32(longBody, uint32(len(longBody)))
	noNumbers := appendBody(bytes.Repeat([]byte{0x80}, 40))
	longKey := appendRow(nil, &sqllog.Row{Kind: sqllog.KindEpoch, ID: 9, Epoch: 3, Revision: 10})
	longKey = appendBody(append(longKey[rowHeaderSize:len(longKey)-1], 9))
	for _, c := range []struct {
		name string
		make func(f *forgery) []byte
		want string // in the reason
	}{
		{"no rows in a chunk", func(f *forgery) []byte { f.header(h); return f.end(0) }, "the rows end at"},
		{"number of rows", func(f *forgery) []byte { f.header(h); f.rows(rows...); return f.end(4) }, "it has 3 rows, not 4"},
		{"fewer entries than rows", func(f *forgery) []byte { f.header(h); f.block(blockRows, 2, plain); return f.end(3) }, "follow the last row"},
		{"more entries than rows", func(f *forgery) []byte { f.header(h); f.block(blockRows, 4, plain); return f.end(3) }, "row 4 of 4"},
		{"no entries", func(f *forgery) []byte { f.header(h); f.block(blockRows, 0, plain); return f.end(3) }, "0 entries"},
		{"more entries than fit", func(f *forgery) []byte { f.header(h); f.block(blockRows, 1<<20, plain); return f.end(3) }, "entries"},
		{"empty block", func(f *forgery) []byte { f.header(h); f.block(blockRows, 0, nil); return f.end(3) }, "entries"},
		{"block of type 0", func(f *forgery) []byte { f.header(h); f.block(0, 3, plain); return f.end(3) }, "0 is no type"},
		{"block of type 4", func(f *forgery) []byte { f.header(h); f.block(4, 3, plain); return f.end(3) }, "4 is no type"},
		{"deleted keys in a chunk", func(f *forgery) []byte { f.header(h); f.block(blockDeleted, 2, deleted); return f.end(0) }, "type 2 stands where"},
		{"deleted keys after rows", func(f *forgery) []byte {
			f.header(sh)
			f.rows(kept...)
			f.block(blockDeleted, 2, deleted)
			return f.end(len(kept))
		}, "type 1 stands where"},
		{"deleted keys missing", func(f *forgery) []byte { f.header(sh); return f.end(0) }, "deleted keys are missing"},
		{"more deleted keys than the block says", func(f *forgery) []byte {
			f.header(sh)
			f.block(blockDeleted, 1, deleted)
			return f.end(0)
		}, "2 deleted keys of 2, and says 1"},
		{"deleted key cut short", func(f *forgery) []byte {
			f.header(sh)
			f.block(blockDeleted, 2, deleted[:len(deleted)-1])
			return f.end(0)
		}, "cut short"},
		{"many entries in a large block", func(f *forgery) []byte {
			f.header(h)
			f.block(blockRows, 2, make([]byte, blockSize+1))
			return f.end(0)
		}, "2 entries in 262145 bytes"},
		{"size that the compressed bytes cannot have", func(f *forgery) []byte {
			f.header(h)
			f.raw(blockHeader{kind: blockRows, entries: 1, plain: maxPlain, packed: 100}, make([]byte, 100))
			return f.end(0)
		}, "100 compressed bytes cannot stand for 1073741824"},
		{"compressed bytes beyond any need", func(f *forgery) []byte {
			f.header(h)
			f.raw(blockHeader{kind: blockRows, entries: 1, plain: 100, packed: 1 << 31}, nil)
			return f.end(0)
		}, "2147483648 compressed bytes cannot stand for 100"},
		{"plain size too small", func(f *forgery) []byte {
			f.header(h)
			packed := encoder().EncodeAll(plain, nil)
			f.raw(blockHeader{kind: blockRows, entries: 3, plain: uint32(len(plain) - 1), packed: uint32(len(packed)), sum: checksum(packed)}, packed)
			return f.end(3)
		}, "plain bytes"},
		{"plain size too large", func(f *forgery) []byte {
			f.header(h)
			packed := encoder().EncodeAll(plain, nil)
			f.raw(blockHeader{kind: blockRows, entries: 3, plain: uint32(len(plain) + 1), packed: uint32(len(packed)), sum: checksum(packed)}, packed)
			return f.end(3)
		}, "plain bytes"},
		{"not zstd", func(f *forgery) []byte {
			f.header(h)
			f.raw(blockHeader{kind: blockRows, entries: 3, plain: uint32(len(plain)), packed: uint32(len(plain)), sum: checksum(plain)}, plain)
			return f.end(3)
		}, "decompress"},
		{"row longer than its block", func(f *forgery) []byte { f.header(h); f.block(blockRows, 1, longBody); return f.end(1) }, "it has a body of"},
		{"numbers that do not end", func(f *forgery) []byte { f.header(h); f.block(blockRows, 1, noNumbers); return f.end(1) }, "cut short"},
		{"key longer than its row", func(f *forgery) []byte { f.header(h); f.block(blockRows, 1, longKey); return f.end(1) }, "cut short"},
		{"row checksum", func(f *forgery) []byte {
			bad := bytes.Clone(plain)
			bad[len(bad)-1] ^= 1
			f.header(h)
			f.block(blockRows, 3, bad)
			return f.end(3)
		}, "row 3 of 3 of the block: its checksum"},
		{"version 0", func(f *forgery) []byte { f.header(h); f.patchHeader(8, 0); f.rows(rows...); return f.end(3) }, "version 0"},
		{"reserved bytes of the header", func(f *forgery) []byte { f.header(h); f.patchHeader(11, 1); f.rows(rows...); return f.end(3) }, "reserved"},
		{"reserved bytes of a block", func(f *forgery) []byte {
			f.header(h)
			f.rows(rows...)
			f.file[headerSize+3] = 1
			binary.BigEndian.PutUint32(f.file[headerSize+20:], checksum(f.file[headerSize:headerSize+20]))
			return f.end(3)
		}, "reserved"},
		{"deleted keys at no revision", func(f *forgery) []byte { f.header(h); f.patchHeader(95, 1); f.rows(rows...); return f.end(3) }, "at no revision"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := Decode(c.make(new(forgery)))
			if damage := wantCorrupt(t, err); !strings.Contains(damage.Reason, c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// appendBody is a row of a sound checksum around any body.
func appendBody(body []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	return append(binary.BigEndian.AppendUint32(b, checksum(body)), body...)
}

func TestNewerFormat(t *testing.T) {
	rows := makeRows(9, 3, 20)
	var f forgery
	f.header(chunkHeader(rows))
	f.patchHeader(8, version+1)
	for _, b := range [][]byte{f.file, f.file[:prefixSize]} {
		if _, _, err := Decode(b); !errors.Is(err, ErrNewer) || errors.Is(err, ErrCorrupt) {
			t.Fatalf("Decode: %v", err)
		}
	}
}

// TestEncryptedFile: the envelope is recognised, with the magic that package
// object writes.
func TestEncryptedFile(t *testing.T) {
	ring, err := object.ParseKeys([]byte("k1 " + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))))
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	plain := object.NewMemory()
	if _, err := object.Encrypt(plain, ring).Put(ctx, "chunks/1", forge(chunkHeader(makeRows(1, 1, 1))), object.Condition{}); err != nil {
		t.Fatal(err)
	}
	in, _, err := plain.Get(ctx, "chunks/1", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := NewReader(in); !errors.Is(err, ErrEncrypted) || errors.Is(err, ErrCorrupt) {
		t.Fatalf("NewReader: %v", err)
	}
}
