package rowfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

const at = 1_700_000_000_000

// makeRows gives n rows from id first on, of every kind, their values between
// text and noise. The same arguments give the same rows.
func makeRows(first sqllog.ID, n, valueSize int) []sqllog.Row {
	rnd := rand.New(rand.NewPCG(uint64(first), uint64(n)))
	rows := make([]sqllog.Row, n)
	rev := sqllog.Revision(first)
	for i := range rows {
		r := &rows[i]
		*r = sqllog.Row{ID: first + sqllog.ID(i), Epoch: 3 + sqllog.Epoch(i/50), WrittenAt: at + int64(i)}
		switch i % 16 {
		case 3:
			r.Kind, r.Lease, r.Version = sqllog.KindLease, int64(rnd.Uint64()|1), 60
		case 7:
			rev++
			r.Kind, r.Key, r.PrevRevision = sqllog.KindDelete, []byte("/registry/leases/gone"), rev-1
		case 8: // the same Txn as the delete
			r.Kind, r.Key, r.Sub = sqllog.KindDelete, []byte("/registry/leases/gone2"), 1
		case 11:
			r.Kind, r.CreateRevision = sqllog.KindCompact, rev
			r.Value = sqllog.EncodeDeleted([]sqllog.DeletedKey{{Sub: 1, Key: []byte("gone2")}})
		case 13:
			r.Kind = sqllog.KindEpoch
		case 14:
			r.Kind, r.Key = sqllog.KindMember, []byte("m")
		default:
			rev++
			r.Kind, r.Key = sqllog.KindPut, fmt.Appendf(nil, "/registry/pods/default/pod-%06d", rnd.IntN(n))
			r.Value = makeValue(rnd, valueSize)
			r.CreateRevision, r.Version = rev, 1
		}
		r.Revision = rev
	}
	return rows
}

// makeValue is half noise.
func makeValue(rnd *rand.Rand, size int) []byte {
	v := bytes.Repeat([]byte(`{"kind":"Pod","apiVersion":"v1"},`), size/33+1)[:size]
	for i := range size / 2 {
		v[i] = byte(rnd.Uint32())
	}
	return v
}

func chunkHeader(rows []sqllog.Row) Header {
	last := &rows[len(rows)-1]
	h := Header{
		Kind: KindChunk, Cluster: 0xc1, Node: 0x0de, Incarnation: 0x1ca, Written: at,
		First: rows[0].ID, Before: rows[0].Epoch - 1,
		Head: sqllog.Head{ID: last.ID, Epoch: last.Epoch, Revision: last.Revision},
	}
	if h.First == 1 {
		h.Before = 0
	}
	return h
}

// makeSnapshot gives rows with holes and a header whose head is not among them.
func makeSnapshot(n, valueSize, deleted int) (Header, []sqllog.Row) {
	all := makeRows(1, n, valueSize)
	h := chunkHeader(all)
	h.Kind, h.First, h.Before = KindSnapshot, 1, 0
	h.Head.ID += 7
	h.Head.Revision += 3
	h.Compaction.Revision = 2
	for i := range deleted {
		d := sqllog.DeletedKey{Sub: int64(i), Key: fmt.Appendf(nil, "/registry/gone/%09d", i)}
		h.Compaction.Deleted = append(h.Compaction.Deleted, d)
	}
	var rows []sqllog.Row
	for i := range all {
		if i%5 != 2 {
			rows = append(rows, all[i])
		}
	}
	return h, rows
}

func encode(t testing.TB, h Header, rows []sqllog.Row) []byte {
	t.Helper()
	b, err := Encode(h, rows)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	return b
}

func sameRows(t *testing.T, got, want []sqllog.Row) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d rows, want %d", len(got), len(want))
	}
	for i := range want {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Fatalf("row %d is %+v, want %+v", i, got[i], want[i])
		}
	}
}

func TestRoundTrip(t *testing.T) {
	for _, n := range []int{1, 2, 200, 5000} {
		rows := makeRows(42, n, 256)
		h := chunkHeader(rows)
		gotHeader, got, err := Decode(encode(t, h, rows))
		if err != nil {
			t.Fatalf("decode %d rows: %v", n, err)
		}
		if !reflect.DeepEqual(gotHeader, h) {
			t.Fatalf("header is %+v, want %+v", gotHeader, h)
		}
		sameRows(t, got, rows)
	}
	for _, deleted := range []int{0, 1, 30_000} {
		h, rows := makeSnapshot(3000, 100, deleted)
		gotHeader, got, err := Decode(encode(t, h, rows))
		if err != nil {
			t.Fatalf("decode a snapshot with %d deleted keys: %v", deleted, err)
		}
		if !reflect.DeepEqual(gotHeader, h) {
			t.Fatalf("header with %d deleted keys differs", deleted)
		}
		sameRows(t, got, rows)
	}
}

func TestReaderEndsWithEOF(t *testing.T) {
	h, rows := makeSnapshot(20, 10, 2)
	r, err := NewReader(bytes.NewReader(encode(t, h, rows)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		row, err := r.Next()
		if err != nil || !reflect.DeepEqual(*row, rows[i]) {
			t.Fatalf("row %d: %+v, %v", i, row, err)
		}
	}
	for range 2 {
		if row, err := r.Next(); row != nil || !errors.Is(err, io.EOF) {
			t.Fatalf("after the last row: %v, %v", row, err)
		}
	}
}
