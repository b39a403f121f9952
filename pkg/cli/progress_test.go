package cli

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kinsy/kinsy/pkg/cli/terminal"
	"github.com/kinsy/kinsy/pkg/s3snap"
)

func TestProgressLine(t *testing.T) {
	var out bytes.Buffer
	line := terminal.ForcedLine(&out, true)
	show := restoringOn(line)
	logger := newLogger(&out, logPlain, false)
	logger.SetOutput(line)
	logger.Info("before")
	p := s3snap.Progress{Rows: 1234567, Bytes: 45600000, SnapshotRows: 2000000, Elapsed: 2 * time.Second}
	const first = "restoring: 61% of the snapshot, 1,234,567 rows, 45.6 MB, 617,283 rows/s"
	show(p)
	show(p)
	logger.Info("between")
	p.Rows = 2500000
	show(p)
	p.Done = true
	show(p)
	line.Clear()
	logger.Info("after")
	got := out.String()
	parts := strings.Split(got, terminal.EraseLine)
	if len(parts) != 5 || parts[1] != first || !strings.HasSuffix(parts[2], "msg=between\n"+first) ||
		parts[3] != "restoring: snapshot done, 2,500,000 rows, 45.6 MB, 1,250,000 rows/s" || !strings.HasSuffix(parts[4], "msg=after\n") {
		t.Errorf("got %q", parts)
	}
	for _, part := range parts {
		if strings.HasPrefix(part, "restoring") && len(strings.SplitN(part, "\n", 2)[0]) > 79 {
			t.Errorf("too long: %q", part)
		}
	}
}

func TestNoProgressLineOnAPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if terminal.NewLine(w).Live() {
		t.Error("a pipe is taken for a terminal")
	}
	var out bytes.Buffer
	line := terminal.NewLine(&out)
	restoringOn(line)(s3snap.Progress{Rows: 1})
	line.Clear()
	if out.Len() > 0 {
		t.Errorf("wrote %q", out.String())
	}
}

func TestDescribeProgress(t *testing.T) {
	for want, p := range map[string]s3snap.Progress{
		"restoring: 0 rows, 0.0 MB":                                        {},
		"restoring: 999 rows, 1.0 MB, 999 rows/s":                          {Rows: 999, Bytes: 1e6, Elapsed: time.Second},
		"restoring: 0% of the snapshot, 1,000 rows, 0.5 MB, 2,000 rows/s":  {Rows: 1000, Bytes: 5e5, SnapshotRows: 1e6, Elapsed: time.Second / 2},
		"restoring: snapshot done, 1,000,000 rows, 0.0 MB, 100,000 rows/s": {Rows: 1e6, SnapshotRows: 1e6, Elapsed: 10 * time.Second},
	} {
		if got := describeProgress(p); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
