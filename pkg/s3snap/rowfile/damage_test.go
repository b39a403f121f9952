package rowfile

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// sample is a small file of several blocks, and where its parts begin.
type sample struct {
	name  string
	file  []byte
	parts []int64 // offsets of header, blocks and trailer
}

func samples(t testing.TB) []sample {
	t.Helper()
	rows := makeRows(9, 40, 20)
	rows[5].Value = makeNoise(600)
	chunk := encode(t, chunkHeader(rows), rows)
	h, kept := makeSnapshot(40, 20, 5)
	one := makeRows(1, 1, 5)
	all := []sample{
		{name: "chunk", file: chunk},
		{name: "chunk of one row", file: encode(t, chunkHeader(one), one)},
		{name: "snapshot", file: encode(t, h, kept)},
		{name: "snapshot without rows", file: encode(t, h, nil)},
		{name: "blocks of few rows", file: encodeBlocks(t, h, kept, 7)},
	}
	for i := range all {
		s := &all[i]
		s.parts = []int64{0}
		r, err := newReader(bytes.NewReader(s.file), func(b blockInfo) { s.parts = append(s.parts, b.offset) })
		for err == nil {
			_, err = r.Next()
		}
		if !errors.Is(err, io.EOF) {
			t.Fatalf("%s: %v", s.name, err)
		}
		s.parts = append(s.parts, int64(len(s.file)-trailerSize))
	}
	return all
}

// encodeBlocks is Encode, but ends a block after every n rows.
func encodeBlocks(t testing.TB, h Header, rows []sqllog.Row, n int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, h)
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		if i%n == 0 {
			w.flush(blockRows)
		}
		if err := w.Add(&rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// readAll reads a file to its end; nil means that it is complete and sound.
func readAll(in io.Reader) error {
	r, err := NewReader(in)
	for err == nil {
		_, err = r.Next()
	}
	if err == io.EOF {
		return nil
	}
	return err
}

func wantCorrupt(t *testing.T, err error) *CorruptError {
	t.Helper()
	var damage *CorruptError
	if !errors.Is(err, ErrCorrupt) || !errors.As(err, &damage) || damage.Reason == "" {
		t.Fatalf("error is %v, want a CorruptError", err)
	}
	return damage
}

func TestCutAtEveryByte(t *testing.T) {
	for _, s := range samples(t) {
		t.Run(s.name, func(t *testing.T) {
			for n := range s.file {
				_, _, err := Decode(s.file[:n])
				if damage := wantCorrupt(t, err); damage.Offset != int64(n) {
					t.Fatalf("cut at %d: %v", n, err)
				}
				if err := Describe(io.Discard, bytes.NewReader(s.file[:n]), false); !errors.Is(err, ErrCorrupt) {
					t.Fatalf("cut at %d: Describe gives %v", n, err)
				}
			}
		})
	}
}

func TestEveryByteFlipped(t *testing.T) {
	for _, s := range samples(t) {
		t.Run(s.name, func(t *testing.T) {
			file := bytes.Clone(s.file)
			for i := range file {
				part, found := slices.BinarySearch(s.parts, int64(i))
				if !found {
					part--
				}
				for _, mask := range []byte{1, 2, 4, 8, 16, 32, 64, 128, 255} {
					file[i] ^= mask
					_, _, err := Decode(file)
					if damage := wantCorrupt(t, err); damage.Offset != s.parts[part] {
						t.Fatalf("byte %d ^ %d, in the part at %d: %v", i, mask, s.parts[part], err)
					}
					file[i] ^= mask
				}
			}
			if !bytes.Equal(file, s.file) {
				t.Fatal("the test has changed the file")
			}
		})
	}
}

func TestBytesAfterTheEnd(t *testing.T) {
	for _, s := range samples(t) {
		for _, tail := range [][]byte{{0}, s.file, s.file[len(s.file)-trailerSize:]} {
			_, _, err := Decode(append(bytes.Clone(s.file), tail...))
			if damage := wantCorrupt(t, err); damage.Offset != int64(len(s.file)) {
				t.Fatalf("%s: %v", s.name, err)
			}
		}
	}
}

// TestPartsMissingOrMoved: each part is sound by itself.
func TestPartsMissingOrMoved(t *testing.T) {
	for _, s := range samples(t) {
		for i := 1; i < len(s.parts)-1; i++ {
			from, to := s.parts[i], s.parts[i+1]
			missing := append(bytes.Clone(s.file[:from]), s.file[to:]...)
			_, _, err := Decode(missing)
			wantCorrupt(t, err)
			twice := append(bytes.Clone(s.file[:to]), s.file[from:]...)
			_, _, err = Decode(twice)
			wantCorrupt(t, err)
			if i+2 < len(s.parts) {
				end := s.parts[i+2]
				moved := slices.Concat(s.file[:from], s.file[to:end], s.file[from:to], s.file[end:])
				_, _, err = Decode(moved)
				wantCorrupt(t, err)
			}
		}
	}
}

func TestForeignFiles(t *testing.T) {
	for _, b := range []string{"", "SQLite format 3\x00 and more than a header of a row file would have, which is 108 bytes, so that nothing is cut short",
		`{"format":1,"cluster_id":"00000000000000c1","base":0,"bootstrap":""}`} {
		_, _, err := Decode([]byte(b))
		if damage := wantCorrupt(t, err); damage.Offset != 0 {
			t.Errorf("%.10q: %v", b, err)
		}
	}
}
