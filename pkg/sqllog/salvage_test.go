package sqllog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// healthyFile writes a log of 800 rows, rows 1 to 50 removed, and gives the
// bytes of its file.
func healthyFile(t testing.TB) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log.db")
	l := openTest(t, Config{Path: path})
	for range 16 {
		rows := group(l.Head(), 50)
		for i := range rows {
			rows[i].Revision += Revision(i)
			rows[i].CreateRevision = rows[i].Revision
		}
		rows[7].Value = bytes.Repeat([]byte("large"), 2000) // with overflow pages
		if err := l.Append(rows); err != nil {
			t.Fatal(err)
		}
	}
	var ids []ID
	for id := ID(1); id <= 50; id++ {
		ids = append(ids, id)
	}
	if err := l.Remove(ids, Compaction{Revision: 51}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// damagedLog writes a damaged file, opens and reads it, and gives what was read
// and the first error. It fails the test for an error other than ErrCorrupt.
func damagedLog(t testing.TB, file []byte) (path string, rows int, err error) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "log.db")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	rows, err = readAll(path)
	if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrForeign) && !errors.Is(err, ErrNewer) {
		t.Errorf("damage is reported as %v", err)
	}
	return path, rows, err
}

func readAll(path string) (rows int, err error) {
	ctx := context.Background()
	l, err := Open(ctx, Config{Path: path, Logger: quiet()})
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	err = l.Scan(ctx, 0, l.Head().ID, func(*Row) error { rows++; return nil })
	return rows, err
}

func salvage(t testing.TB, path string) Report {
	t.Helper()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := Salvage(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("salvage changed the file: %v", err)
	}
	return rep
}

func TestSalvageHealthy(t *testing.T) {
	path, rows, err := damagedLog(t, healthyFile(t))
	if err != nil || rows != 750 {
		t.Fatalf("%d rows: %v", rows, err)
	}
	rep := salvage(t, path)
	if want := (Span{51, 800, 52, 801, 750}); rep.Damage != nil || rep.FromStart != want || rep.FromEnd != (Span{}) {
		t.Errorf("report is %+v", rep)
	}
	for _, m := range rep.Meta {
		if m.Err != nil || m.Present != (m.Name != metaHead) {
			t.Errorf("meta is %+v", m)
		}
	}
	if s := rep.String(); !strings.Contains(s, "no damage found") {
		t.Errorf("report says %q", s)
	}
}

// TestSalvage damages a file in several places.
func TestSalvage(t *testing.T) {
	healthy := healthyFile(t)
	pages := len(healthy) / pageSize
	rng := rand.New(rand.NewChaCha8([32]byte{5}))
	zero := func(at int) []byte {
		b := bytes.Clone(healthy)
		clear(b[at*pageSize : (at+1)*pageSize])
		return b
	}
	random := func(at int) []byte {
		b := bytes.Clone(healthy)
		for i := at * pageSize; i < (at+1)*pageSize; i++ {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	for name, c := range map[string]struct {
		file       []byte
		start, end bool // whether rows are readable from there
	}{
		"cut in half":         {healthy[:pages/2*pageSize], true, false},
		"cut inside a page":   {healthy[:len(healthy)-1000], true, true},
		"header alone":        {healthy[:pageSize], false, false},
		"zeroed page":         {zero(pages / 2), true, true},
		"random page":         {random(pages / 2), true, true},
		"zeroed first page":   {zero(0), false, false},
		"random first page":   {random(0), false, false},
		"no database":         {bytes.Repeat([]byte("hello "), 10_000), false, false},
		"one byte":            {[]byte("x"), false, false},
		"header of a header":  {healthy[:50], false, false},
		"no table":            {append(emptyDatabase(t), healthy[pageSize:]...), false, false},
		"zeroes all the way":  {make([]byte, len(healthy)), false, false},
		"random all the way":  {randomBytes(rng, len(healthy)), false, false},
		"first page repeated": {bytes.Repeat(healthy[:pageSize], pages), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			path, rows, err := damagedLog(t, c.file)
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("open and scan give %v after %d rows", err, rows)
			}
			rep := salvage(t, path)
			t.Log(rep)
			if rep.Damage == nil || (rep.FromStart.Rows > 0) != c.start || (rep.FromEnd.Rows > 0) != c.end {
				t.Errorf("report is %+v", rep)
			}
			checkReport(t, rep)
		})
	}
}

// emptyDatabase is the first page of a database without tables.
func emptyDatabase(t *testing.T) []byte {
	t.Helper()
	dir := database(t, []string{"PRAGMA auto_vacuum=incremental", "CREATE TABLE t (x)", "DROP TABLE t"}, false)
	return []byte(files(t, dir)["log.db"])[:pageSize]
}

func randomBytes(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// checkReport checks a report on a damaged copy of healthyFile.
func checkReport(t *testing.T, rep Report) {
	t.Helper()
	if s := rep.FromStart; s.Rows > 0 && (s.First != 51 || s.FirstRevision != 52 || int64(s.Last-s.First) != s.Rows-1) {
		t.Errorf("rows from the start are %+v", s)
	}
	if s := rep.FromEnd; s.Rows > 0 && (s.Last != 800 || s.LastRevision != 801 || s.First <= rep.FromStart.Last) {
		t.Errorf("rows from the end are %+v", s)
	}
	text := rep.String()
	for _, want := range []string{rep.Path, "damaged", rep.FromStart.String(), "what to do"} {
		if !strings.Contains(text, want) {
			t.Errorf("report does not say %q: %s", want, text)
		}
	}
	if strings.Count(text, "\n") > 6 {
		t.Errorf("report is long: %s", text)
	}
}

// TestDamageNeverPanics damages many places at random.
func TestDamageNeverPanics(t *testing.T) {
	t.Parallel()
	healthy := healthyFile(t)
	rng := rand.New(rand.NewPCG(8, 8))
	for i := range 24 {
		file := bytes.Clone(healthy)
		for range rng.IntN(20) + 1 {
			at := rng.IntN(len(file))
			if i%2 == 0 {
				at = at / pageSize * pageSize // the header of a page
			}
			for n := range rng.IntN(12) + 1 {
				file[min(at+n, len(file)-1)] = byte(rng.Uint32())
			}
		}
		path, rows, err := damagedLog(t, file)
		if err == nil && rows < 700 { // a page may have lost rows unseen, but no more than that
			t.Errorf("%d rows were read without an error", rows)
		}
		_ = salvage(t, path).String()
	}
}

func TestSalvageMeta(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	l := openTest(t, Config{Path: path})
	if err := l.Append(group(l.Head(), 5)); err != nil {
		t.Fatal(err)
	}
	if err := l.w.tx(func() error { return l.w.putMeta(metaCompaction, []byte{0xff}) }); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(path); !errors.Is(err, ErrCorrupt) {
		t.Errorf("open gives %v", err)
	}
	rep := salvage(t, path)
	if rep.Damage == nil || rep.FromStart.Rows != 5 || !strings.Contains(rep.String(), "table meta: compaction") {
		t.Errorf("report is %s", rep)
	}
}

// TestSalvageWAL: what is only in the write-ahead log counts too.
func TestSalvageWAL(t *testing.T) {
	v := newFaultVFS(t)
	l := openTest(t, Config{vfs: v.name})
	if err := l.Append(group(l.Head(), 300)); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	v.mu.Lock()
	err := v.crash(dir, nil)
	v.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	rep := salvage(t, filepath.Join(dir, "log.db"))
	if rep.FromStart.Rows != 300 || rep.WALBytes <= 0 {
		t.Errorf("report is %+v", rep)
	}
}

func TestSalvageRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.db")
	if _, err := Salvage(t.Context(), path); err == nil || fileSize(path) >= 0 {
		t.Errorf("salvage of no file gives %v", err)
	}
	if err := os.WriteFile(path, healthyFile(t), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if rep, err := Salvage(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("salvage with an ended context gives %v, %v", fmt.Sprint(rep), err)
	}
}
