package rowfile

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

var rewrite = flag.Bool("rewrite", false, "write the files in testdata anew")

// golden compares with a file in testdata, or writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got:\n%s", path, got)
	}
}

// stored are files that every later version must read. Their bytes are not
// compared: another version of the compressor may give others.
var stored = []struct {
	name  string
	block int // rows in a block at most; 0 as many as fit
	make  func() (Header, []sqllog.Row)
}{
	{"chunk", 0, func() (Header, []sqllog.Row) {
		rows := makeRows(9, 30, 40)
		return chunkHeader(rows), rows
	}},
	{"snapshot", 0, func() (Header, []sqllog.Row) { return makeSnapshot(30, 40, 3) }},
	{"blocks", 10, func() (Header, []sqllog.Row) { return makeSnapshot(30, 40, 3) }},
}

func readStored(t *testing.T, name string) []byte {
	t.Helper()
	file, err := os.ReadFile(filepath.Join("testdata", name+".rows"))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestStoredFilesAreRead(t *testing.T) {
	for _, s := range stored {
		h, rows := s.make()
		if *rewrite {
			n := s.block
			if n == 0 {
				n = len(rows)
			}
			golden(t, s.name+".rows", encodeBlocks(t, h, rows, n))
		}
		gotHeader, got, err := Decode(readStored(t, s.name))
		if err != nil || !reflect.DeepEqual(gotHeader, h) {
			t.Fatalf("%s: header is %+v, want %+v: %v", s.name, gotHeader, h, err)
		}
		sameRows(t, got, rows)
	}
}

func TestDescribe(t *testing.T) {
	for _, s := range stored {
		file := readStored(t, s.name)
		var short, long bytes.Buffer
		if err := Describe(&short, bytes.NewReader(file), false); err != nil {
			t.Fatal(err)
		}
		if err := Describe(&long, bytes.NewReader(file), true); err != nil {
			t.Fatal(err)
		}
		golden(t, s.name+".txt", short.Bytes())
		golden(t, s.name+".verbose.txt", long.Bytes())
	}
}

func TestDescribeDamage(t *testing.T) {
	file := readStored(t, "blocks")
	file[len(file)-trailerSize-20] ^= 1
	var out bytes.Buffer
	if err := Describe(&out, bytes.NewReader(file), false); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("error is %v", err)
	}
	golden(t, "damaged.txt", out.Bytes())

	out.Reset()
	if err := Describe(&out, bytes.NewReader([]byte("something else than a row file")), true); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("error is %v", err)
	}
	golden(t, "foreign.txt", out.Bytes())

	if err := Describe(&limited{}, bytes.NewReader(file), true); !errors.Is(err, errLimit) || !errors.Is(err, ErrCorrupt) {
		t.Fatalf("error with a writer that fails is %v", err)
	}
}
