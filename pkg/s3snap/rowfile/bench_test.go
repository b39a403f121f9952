package rowfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// The budgets are 300,000 rows/s of 256 B each way on one core, and well under a
// millisecond for the chunk of a group commit.

func BenchmarkEncode(b *testing.B) {
	for _, n := range []int{1, 200, 100_000} {
		rows := makePuts(n)
		h := chunkHeader(rows)
		b.Run(fmt.Sprintf("rows=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			var size int
			for b.Loop() {
				file, err := Encode(h, rows)
				if err != nil {
					b.Fatal(err)
				}
				size = len(file)
			}
			reportRows(b, n)
			b.ReportMetric(float64(size)/float64(n), "B/row")
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, n := range []int{1, 200, 100_000} {
		rows := makePuts(n)
		file := encode(b, chunkHeader(rows), rows)
		b.Run(fmt.Sprintf("rows=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := Decode(file); err != nil {
					b.Fatal(err)
				}
			}
			reportRows(b, n)
		})
	}
}

func BenchmarkWriter(b *testing.B) {
	rows := makePuts(100_000)
	h := chunkHeader(rows)
	b.ReportAllocs()
	for b.Loop() {
		w, err := NewWriter(io.Discard, h)
		if err != nil {
			b.Fatal(err)
		}
		for i := range rows {
			if err := w.Add(&rows[i]); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
	reportRows(b, len(rows))
}

func BenchmarkReader(b *testing.B) {
	rows := makePuts(100_000)
	h := chunkHeader(rows)
	file := encode(b, h, rows)
	b.ReportAllocs()
	for b.Loop() {
		r, err := NewReader(bytes.NewReader(file))
		if err != nil {
			b.Fatal(err)
		}
		for err == nil {
			_, err = r.Next()
		}
		if !errors.Is(err, io.EOF) {
			b.Fatal(err)
		}
	}
	reportRows(b, len(rows))
}

// makePuts gives rows of 256 B values, half of which is noise.
func makePuts(n int) []sqllog.Row {
	rows := makeRows(1, 2*n+16, 256)
	puts := rows[:0]
	for i := range rows {
		if rows[i].Kind == sqllog.KindPut && len(puts) < n {
			rows[i].ID = sqllog.ID(len(puts) + 1)
			puts = append(puts, rows[i])
		}
	}
	return puts
}

func reportRows(b *testing.B, n int) {
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
