package reload

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
)

// TestRefresh: a change is loaded once, not before the interval is over, and tried
// again only when the files change again.
func TestRefresh(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write := func(content string) {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	now, loads := time.Unix(1000, 0), 0
	var refuse error
	log := logrus.New()
	log.SetOutput(io.Discard)
	f := &Files{
		Paths: [3]string{path}, What: "file", Log: log, Now: func() time.Time { return now },
		Load: func() error { loads++; return refuse },
	}
	want := func(what string, n int) {
		t.Helper()
		f.Refresh()
		if loads != n {
			t.Fatalf("%s: loaded %d times, want %d", what, loads, n)
		}
	}
	write("a")
	if err := f.First(); err != nil || loads != 1 {
		t.Fatal(err, loads)
	}
	write("ab")
	want("at once", 1)
	now = now.Add(Interval)
	want("after the interval", 2)
	now = now.Add(Interval)
	want("unchanged", 2)
	refuse = errors.New("half written")
	write("abc")
	f.Forget()
	want("broken", 3)
	now = now.Add(Interval)
	want("still broken", 3)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	now = now.Add(Interval)
	want("missing", 3)
	refuse = nil
	write("abcd")
	now = now.Add(Interval)
	want("there again", 4)
}
