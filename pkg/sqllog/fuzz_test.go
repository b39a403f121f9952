package sqllog

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"path/filepath"
	"testing"
)

func FuzzDecodeDeleted(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0})
	f.Add([]byte{0, 0})
	f.Add([]byte{0x80, 0x80})
	f.Add(EncodeDeleted([]DeletedKey{{0, []byte("a")}, {300, []byte{0, 0xff}}}))
	f.Add(append(EncodeDeleted([]DeletedKey{{1, []byte("key")}}), 2, 0xff, 0xff, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := DecodeDeleted(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) || keys != nil {
				t.Fatalf("%d keys and error %v", len(keys), err)
			}
			return
		}
		size := 0
		for _, k := range keys {
			if k.Sub < 0 || len(k.Key) == 0 {
				t.Fatalf("key %+v", k)
			}
			size += len(k.Key)
		}
		if size > len(b) {
			t.Fatalf("%d bytes of keys from %d bytes", size, len(b))
		}
		again, err := DecodeDeleted(EncodeDeleted(keys))
		if err != nil || len(again) != len(keys) {
			t.Fatalf("encoded again, %d keys of %d: %v", len(again), len(keys), err)
		}
		for i := range again {
			if again[i].Sub != keys[i].Sub || !bytes.Equal(again[i].Key, keys[i].Key) {
				t.Fatalf("key %d is %v, was %v", i, again[i], keys[i])
			}
		}
	})
}

// FuzzMeta decodes the entries of meta, and encodes what it got.
func FuzzMeta(f *testing.F) {
	f.Add([]byte("1"))
	f.Add([]byte{})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Add(encodeHead(Head{ID: 5, Epoch: 2, Revision: 1 << 40}))
	f.Add(append(encodeHead(Head{Revision: 1}), 0))
	f.Add(encodeCompaction(9, EncodeDeleted([]DeletedKey{{2, []byte("k")}})))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := decodeHead(b); err == nil {
			if h.ID < 0 || h.Epoch < 0 || h.Revision < 1 {
				t.Fatalf("head %+v", h)
			}
			if again, err := decodeHead(encodeHead(h)); err != nil || again != h {
				t.Fatalf("head %+v became %+v: %v", h, again, err)
			}
		} else if !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		if c, err := decodeCompaction(b); err == nil {
			enc := encodeCompaction(c.Revision, EncodeDeleted(c.Deleted))
			if again, err := decodeCompaction(enc); err != nil || again.Revision != c.Revision || len(again.Deleted) != len(c.Deleted) {
				t.Fatalf("compaction %+v became %+v: %v", c, again, err)
			}
		} else if !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		if v, err := parseVersion(b); err == nil && v < 1 || err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("version %d: %v", v, err)
		}
	})
}

// FuzzRow decodes a row in which some columns have another type than they
// should: each pair of bits in types says what a column is.
func FuzzRow(f *testing.F) {
	f.Add(uint32(0), int64(1), int64(2), uint8(1), []byte("k"), []byte("v"), true)
	f.Add(uint32(0), int64(-1), int64(0), uint8(0), []byte{}, []byte{}, false)
	f.Add(uint32(0x55555555), int64(1<<62), int64(-1<<63), uint8(255), []byte{0}, []byte(nil), true)
	f.Add(uint32(3<<10), int64(7), int64(7), uint8(2), []byte("k"), []byte("v"), false)
	f.Fuzz(func(t *testing.T, types uint32, a, b int64, kind uint8, key, value []byte, keys bool) {
		v := []driver.Value{a, int64(1), b, int64(0), int64(kind), key, value, b, int64(0), int64(1), a, b}
		if keys {
			v[6] = int64(len(value))
		}
		for i := range v {
			switch types >> (2 * i) & 3 {
			case 1:
				v[i] = nil
			case 2:
				v[i] = string(value)
			case 3:
				v[i] = append([]byte{}, key...)
			}
		}
		checkDecoded(t, v, keys)
		checkDecoded(t, v[:int(kind)%len(v)], keys)
	})
}

func checkDecoded(t *testing.T, v []driver.Value, keys bool) {
	t.Helper()
	var r Row
	err := decodeRow(v, keys, &r)
	if err != nil {
		if !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		return
	}
	if err := r.Validate(); err != nil {
		t.Fatalf("decoded %+v: %v", r, err)
	}
	if r.ValueSize < 0 || !keys && r.ValueSize != int64(len(r.Value)) || r.Key == nil {
		t.Fatalf("decoded %+v", r)
	}
}

// FuzzStoredRow puts a row of arbitrary numbers and blobs into a database and
// scans it: what Append would take comes back as it is, all else is ErrCorrupt.
func FuzzStoredRow(f *testing.F) {
	f.Add(int64(5), int64(1), int64(2), int64(0), int64(1), []byte("k"), []byte("v"), int64(2), int64(0), int64(1), int64(0))
	f.Add(int64(1), int64(0), int64(0), int64(-1), int64(999), []byte{}, []byte{}, int64(0), int64(0), int64(0), int64(0))
	f.Add(int64(-9), int64(1), int64(1), int64(0), int64(3), []byte{}, []byte{0, 1}, int64(1), int64(1), int64(60), int64(1<<62))
	f.Add(int64(1<<62), int64(1), int64(-1<<63), int64(1), int64(4), []byte(nil), []byte{255}, int64(1<<63-1), int64(3), int64(1), int64(7))
	l := openTest(f, Config{Path: filepath.Join(f.TempDir(), "log.db")})
	f.Fuzz(func(t *testing.T, id, epoch, rev, sub, kind int64, key, value []byte, create, prev, version, lease int64) {
		l.mu.Lock()
		err := l.w.tx(func() error {
			if err := l.w.truncate.bind(int64(-1 << 63)).exec(); err != nil {
				return err
			}
			s := l.w.inserts[len(insertSizes)-1]
			return s.bind(id, epoch, rev, sub, kind, blob(key), blob(value), create, prev, version, lease, int64(0)).exec()
		})
		l.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		want := Row{ID: ID(id), Epoch: Epoch(epoch), Revision: Revision(rev), Sub: sub, Kind: Kind(kind), Key: key, Value: value,
			CreateRevision: Revision(create), PrevRevision: Revision(prev), Version: version, Lease: lease}
		valid := want.Validate() == nil && int64(want.Kind) == kind
		n := 0
		err = l.Scan(context.Background(), 0, maxID, func(r *Row) error {
			if n++; !valid || r.ID != want.ID || r.Revision != want.Revision || !bytes.Equal(r.Value, value) || !bytes.Equal(r.Key, key) {
				t.Fatalf("scan gave %+v, stored %+v", r, want)
			}
			return nil
		})
		if err != nil && (valid || !errors.Is(err, ErrCorrupt)) || valid && n != 1 {
			t.Fatalf("stored %+v, scan gave %d rows: %v", want, n, err)
		}
	})
}
