package sqllog

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/sirupsen/logrus"
)

func openBench(tb testing.TB) *Log {
	tb.Helper()
	log := logrus.New()
	log.SetLevel(logrus.ErrorLevel)
	l, err := Open(context.Background(), Config{Path: filepath.Join(tb.TempDir(), "log.db"), Logger: log})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Error(err)
		}
	})
	return l
}

func fillGroup(rows []Row, from ID, value []byte) {
	for i := range rows {
		id := from + ID(i)
		rows[i] = Row{ID: id, Epoch: 1, Revision: Revision(id) + 1, Kind: KindPut,
			Key: fmt.Appendf(nil, "/registry/pods/default/pod-%08d", id), Value: value,
			CreateRevision: Revision(id) + 1, Version: 1, WrittenAt: 1_760_000_000_000}
	}
}

func BenchmarkAppend(b *testing.B) { benchAppend(b, (*Log).Append) }

// BenchmarkAppendIn is BenchmarkAppend under a promise.
func BenchmarkAppendIn(b *testing.B) {
	benchAppend(b, func(l *Log, rows []Row) error { return l.AppendIn(1, rows) })
}

func benchAppend(b *testing.B, call func(*Log, []Row) error) {
	value := bytes.Repeat([]byte("v"), 256)
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("rows=%d", n), func(b *testing.B) {
			l := openBench(b)
			rows := make([]Row, n)
			b.ReportAllocs()
			groups := 0
			for b.Loop() {
				fillGroup(rows, l.Head().ID+1, value)
				if err := call(l, rows); err != nil {
					b.Fatal(err)
				}
				groups++
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(groups*n), "ns/row")
		})
	}
}

func BenchmarkScanKeys(b *testing.B) {
	l := openBench(b)
	rows := make([]Row, 1000)
	value := bytes.Repeat([]byte("v"), 256)
	for range 200 {
		fillGroup(rows, l.Head().ID+1, value)
		if err := l.Append(rows); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		err := l.ScanKeys(b.Context(), 0, l.Head().ID, func(*Row) error { n++; return nil })
		if err != nil || n != 200_000 {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*200_000), "ns/row")
}

func BenchmarkValues(b *testing.B) {
	l := openBench(b)
	rows := make([]Row, 1000)
	value := bytes.Repeat([]byte("v"), 256)
	for range 200 {
		fillGroup(rows, l.Head().ID+1, value)
		if err := l.Append(rows); err != nil {
			b.Fatal(err)
		}
	}
	for _, n := range []int{1, 10, 64} {
		b.Run(fmt.Sprintf("ids=%d", n), func(b *testing.B) {
			ids := make([]ID, n)
			b.ReportAllocs()
			k := ID(0)
			for b.Loop() {
				for i := range ids {
					k = (k*7919 + 104729) % 200_000
					ids[i] = k + 1
				}
				if _, err := l.Values(b.Context(), ids); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkLoader makes a log of a million rows in calls of 1000.
func BenchmarkLoader(b *testing.B) {
	const calls, size = 1000, 1000
	value := bytes.Repeat([]byte("v"), 256)
	rows := make([]Row, size)
	b.ReportAllocs()
	for b.Loop() {
		l, err := NewLoader(b.Context(), Config{Path: filepath.Join(b.TempDir(), "log.db")})
		if err != nil {
			b.Fatal(err)
		}
		for i := range calls {
			fillGroup(rows, ID(i*size+1), value)
			if err := l.Add(rows); err != nil {
				b.Fatal(err)
			}
		}
		last := rows[size-1]
		if err := l.Finish(Head{ID: last.ID, Epoch: last.Epoch, Revision: last.Revision}, Compaction{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*calls*size)/b.Elapsed().Seconds(), "rows/s")
}
