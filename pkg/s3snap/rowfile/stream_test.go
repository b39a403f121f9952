package rowfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

func makeNoise(n int) []byte {
	rnd := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

// TestSameBytes: what was encoded before, and what is encoded meanwhile, leaves
// no trace in a file.
func TestSameBytes(t *testing.T) {
	var headers []Header
	var inputs [][]sqllog.Row
	var want [][]byte
	for _, n := range []int{1, 7, 200, 900, 2000} {
		rows := makeRows(sqllog.ID(n), n, 300)
		headers, inputs = append(headers, chunkHeader(rows)), append(inputs, rows)
		want = append(want, encode(t, headers[len(headers)-1], rows))
	}
	h, rows := makeSnapshot(1000, 300, 9000)
	headers, inputs, want = append(headers, h), append(inputs, rows), append(want, encode(t, h, rows))
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(7, uint64(g)))
			for range 12 {
				i := rnd.IntN(len(want))
				got, err := Encode(headers[i], inputs[i])
				if err != nil || !bytes.Equal(got, want[i]) {
					t.Errorf("file %d: other bytes than before, or %v", i, err)
				}
				if _, rows, err := Decode(got); err != nil || len(rows) != len(inputs[i]) {
					t.Errorf("file %d: %d rows, %v", i, len(rows), err)
				}
			}
		})
	}
	wg.Wait()
}

// TestSameBytesInAnotherProcess: an encoder that was never used gives what one
// with a past gives.
func TestSameBytesInAnotherProcess(t *testing.T) {
	for n := 1; n < 3000; n = n*3/2 + 1 {
		var plain []byte
		for _, r := range makeRows(sqllog.ID(n), n, n%700) {
			plain = appendRow(plain, &r)
		}
		if fresh := newEncoder(); !bytes.Equal(fresh.EncodeAll(plain, nil), encoder().EncodeAll(plain, nil)) {
			t.Errorf("%d rows: other bytes", n)
		}
	}
}

func TestLargeRows(t *testing.T) {
	rows := makeRows(1, 8, 30)
	rows[1].Value = makeNoise(3 << 20)
	rows[2].Value = bytes.Repeat([]byte("a"), 8<<20) // compresses as far as zstd goes
	rows[4].Key = bytes.Repeat([]byte("k"), blockSize)
	rows[5].Value = makeNoise(blockSize)
	h := chunkHeader(rows)
	_, got, err := Decode(encode(t, h, rows))
	if err != nil {
		t.Fatal(err)
	}
	sameRows(t, got, rows)

	sh, kept := makeSnapshot(8, 30, 3)
	sh.Compaction.Deleted[1].Key = bytes.Repeat([]byte("k"), blockSize+5)
	gotHeader, _, err := Decode(encode(t, sh, kept))
	if err != nil || !reflect.DeepEqual(gotHeader, sh) {
		t.Fatalf("a large deleted key is not read back: %v", err)
	}
}

func TestEmptyAndExtremeFields(t *testing.T) {
	rows := []sqllog.Row{
		{ID: maxID - 2, Epoch: maxID, Revision: maxID, Kind: sqllog.KindPut, Key: []byte{0}, Value: []byte{},
			CreateRevision: maxID, PrevRevision: maxID, Version: 1<<63 - 1, Lease: -1 << 63, WrittenAt: -1 << 63, ValueSize: 9},
		{ID: maxID - 1, Epoch: maxID, Revision: maxID, Kind: sqllog.KindLease, Key: []byte{}, Lease: -1},
		{ID: maxID, Epoch: maxID, Revision: maxID, Kind: sqllog.KindMember, CreateRevision: -5, Version: -1 << 63},
	}
	h := chunkHeader(rows)
	h.Cluster, h.Node, h.Incarnation, h.Written = 1<<64-1, 1<<64-1, 1<<64-1, -1<<63
	gotHeader, got, err := Decode(encode(t, h, rows))
	if err != nil || !reflect.DeepEqual(gotHeader, h) {
		t.Fatalf("header is %+v, want %+v: %v", gotHeader, h, err)
	}
	rows[0].Value, rows[0].ValueSize, rows[1].Key = nil, 0, nil
	sameRows(t, got, rows)
	if err := Describe(io.Discard, bytes.NewReader(encode(t, h, rows)), true); err != nil {
		t.Fatal(err)
	}
}

// TestDecodedRowsStandAlone: neither the input nor another file changes them,
// and none keeps a block in memory.
func TestDecodedRowsStandAlone(t *testing.T) {
	rows := makeRows(1, 100, 100)
	h := chunkHeader(rows)
	file := encode(t, h, rows)
	_, got, err := Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	clear(file)
	other := makeRows(500, 100, 100)
	if _, _, err := Decode(encode(t, chunkHeader(other), other)); err != nil {
		t.Fatal(err)
	}
	sameRows(t, got, rows)
	for i := range got {
		if spare := cap(got[i].Key) + cap(got[i].Value) - len(got[i].Key) - len(got[i].Value); spare > 64 {
			t.Fatalf("row %d holds %d bytes beyond its own", got[i].ID, spare)
		}
	}
}

func TestMemoryIsOneBlock(t *testing.T) {
	h, rows := makeSnapshot(40_000, 256, 0)
	var out bytes.Buffer
	w, err := NewWriter(&out, h)
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		if err := w.Add(&rows[i]); err != nil {
			t.Fatal(err)
		}
		if n := cap(w.buf.plain) + cap(w.buf.packed); n > maxPooled {
			t.Fatalf("the writer holds %d bytes at row %d", n, i)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	blocks := 0
	r, err := newReader(&out, func(b blockInfo) {
		blocks++
		if b.plain > blockSize {
			t.Fatalf("block %d has %d bytes", blocks, b.plain)
		}
	})
	for err == nil {
		if n := cap(r.buf.plain) + cap(r.buf.packed); n > maxPooled {
			t.Fatalf("the reader holds %d bytes in block %d", n, blocks)
		}
		_, err = r.Next()
	}
	if !errors.Is(err, io.EOF) || blocks < 10 {
		t.Fatalf("%d blocks, %v", blocks, err)
	}
}

func TestReadersOfEveryManner(t *testing.T) {
	for _, s := range samples(t) {
		for name, in := range map[string]io.Reader{
			"one byte at a time": iotest.OneByteReader(bytes.NewReader(s.file)),
			"halves":             iotest.HalfReader(bytes.NewReader(s.file)),
			"end with the data":  iotest.DataErrReader(bytes.NewReader(s.file)),
		} {
			if err := readAll(in); err != nil {
				t.Errorf("%s, %s: %v", s.name, name, err)
			}
		}
	}
}

// TestReadErrorsAreNoCorruption, and above all no end of the file: a connection
// that is lost often ends in an error that wraps io.EOF.
func TestReadErrorsAreNoCorruption(t *testing.T) {
	lost := fmt.Errorf("get: %w", io.EOF)
	own := errors.New("lost connection")
	for _, s := range samples(t) {
		for n := range len(s.file) + 1 {
			for _, fail := range []error{own, io.ErrUnexpectedEOF, lost} {
				err := readAll(io.MultiReader(bytes.NewReader(s.file[:n]), iotest.ErrReader(fail)))
				if err == nil || errors.Is(err, ErrCorrupt) || errors.Is(err, io.EOF) {
					t.Fatalf("%s: %v after %d bytes gives %v", s.name, fail, n, err)
				}
				if fail != lost && !errors.Is(err, fail) {
					t.Fatalf("%s: %v after %d bytes gives %v", s.name, fail, n, err)
				}
			}
		}
	}
}

type silent struct{}

func (silent) Read([]byte) (int, error) { return 0, nil }

func TestReaderThatGivesNothing(t *testing.T) {
	s := samples(t)[0]
	err := readAll(io.MultiReader(bytes.NewReader(s.file[:200]), silent{}))
	if !errors.Is(err, io.ErrNoProgress) {
		t.Fatalf("error is %v", err)
	}
}

// limited fails when it is full.
type limited struct{ left int }

var errLimit = errors.New("limit")

func (l *limited) Write(b []byte) (int, error) {
	if len(b) > l.left {
		return 0, errLimit
	}
	l.left -= len(b)
	return len(b), nil
}

func TestWriteErrors(t *testing.T) {
	rows := makeRows(1, 3000, 256)
	h := chunkHeader(rows)
	size := len(encode(t, h, rows))
	write := func(limit int) error {
		w, err := NewWriter(&limited{left: limit}, h)
		if err != nil {
			return err
		}
		for i := range rows {
			if err := w.Add(&rows[i]); err != nil {
				if again := w.Add(&rows[i]); !errors.Is(again, errLimit) {
					t.Errorf("Add after an error: %v", again)
				}
				if end := w.Close(); !errors.Is(end, errLimit) {
					t.Errorf("Close after an error: %v", end)
				}
				return err
			}
		}
		return w.Close()
	}
	for _, limit := range []int{0, headerSize - 1, headerSize, size / 2, size - trailerSize, size - 1} {
		if err := write(limit); !errors.Is(err, errLimit) {
			t.Errorf("limit %d of %d: %v", limit, size, err)
		}
	}
	if err := write(size); err != nil {
		t.Error(err)
	}
}

func TestWriterAfterClose(t *testing.T) {
	h, rows := makeSnapshot(5, 5, 0)
	var out bytes.Buffer
	w, err := NewWriter(&out, h)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	size := out.Len()
	if w.Add(&rows[0]) == nil || w.Close() == nil || out.Len() != size {
		t.Error("a finished writer takes more")
	}
}

func TestHeaderBeforeRows(t *testing.T) {
	h, rows := makeSnapshot(5, 5, 2)
	r, err := NewReader(bytes.NewReader(encode(t, h, rows)))
	if err != nil || !reflect.DeepEqual(r.Header(), h) {
		t.Fatalf("header is %+v, want %+v: %v", r.Header(), h, err)
	}
}
