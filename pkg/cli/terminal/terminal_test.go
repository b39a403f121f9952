package terminal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

func TestBar(t *testing.T) {
	for _, tt := range []struct {
		done, whole int64
		want        string
	}{
		{0, 10, "[........................]   0%"},
		{5, 10, "[############............]  50%"},
		{10, 10, "[########################] 100%"},
		{11, 10, "[########################] 100%"},
		{-1, 10, "[........................]   0%"},
		{1, 0, ""},
	} {
		if got := Bar(tt.done, tt.whole); got != tt.want {
			t.Errorf("%d of %d: %q, want %q", tt.done, tt.whole, got, tt.want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1000: "-1,000", -100: "-100", 1234567: "1,234,567"} {
		if got := Digits(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
	if got := Megabytes(1_250_000); got != "1.2 MB" {
		t.Error(got)
	}
}

func TestLine(t *testing.T) {
	var out bytes.Buffer
	l := ForcedLine(&out, true)
	l.Show("one")
	l.Show("one")
	if _, err := io.WriteString(l, "message\n"); err != nil {
		t.Fatal(err)
	}
	l.Show("two")
	l.Clear()
	if got, want := out.String(), strings.Join([]string{"", "one", "message\none", "two", ""}, EraseLine); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNothingForPipes(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	if NewLine(w).Live() || Colours(w) || Is(r) || Is(&bytes.Buffer{}) {
		t.Error("a pipe is taken for a terminal")
	}
	var out bytes.Buffer
	l := NewLine(&out)
	l.Show("x")
	l.Clear()
	if out.Len() > 0 {
		t.Errorf("wrote %q", out.String())
	}
}

func TestInterruptible(t *testing.T) {
	in, stop := Interruptible(t.Context(), strings.NewReader("text"))
	defer stop()
	if b, err := io.ReadAll(in); string(b) != "text" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	defer w.Close()
	in, stop = Interruptible(ctx, r)
	defer stop()
	cancel()
	if _, err := io.ReadAll(in); !errors.Is(err, context.Canceled) {
		t.Errorf("the read ended with %v", err)
	}
}
