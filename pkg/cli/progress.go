package cli

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/mattn/go-isatty"

	"github.com/kinsy/kinsy/pkg/s3snap"
)

// eraseLine goes to the line's beginning and removes what is there.
const eraseLine = "\r\x1b[K"

// progressLine is a line at the end of a terminal that is written over and over. Messages written through it appear above
// it. On anything but a terminal there is no line. Its methods may be called concurrently.
type progressLine struct {
	live bool

	mu    sync.Mutex
	out   io.Writer
	shown string
}

var _ io.Writer = (*progressLine)(nil)

func newProgressLine(out io.Writer) *progressLine {
	return &progressLine{out: out, live: rewritesLines(out)}
}

// rewritesLines reports whether w is a terminal that understands eraseLine.
func rewritesLines(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("TERM") != "dumb" && isatty.IsTerminal(f.Fd())
}

// Write writes a message above the line.
func (l *progressLine) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shown == "" {
		return l.out.Write(b)
	}
	if _, err := io.WriteString(l.out, eraseLine); err != nil {
		return 0, err
	}
	n, err := l.out.Write(b)
	if err == nil {
		_, err = io.WriteString(l.out, l.shown)
	}
	return n, err
}

// restoring shows how far a restore is, until that is done.
func (l *progressLine) restoring(p s3snap.Progress) {
	if p.Done {
		l.show("")
		return
	}
	l.show(describeProgress(p))
}

// clear removes the line.
func (l *progressLine) clear() { l.show("") }

func (l *progressLine) show(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.live || text == l.shown {
		return
	}
	l.shown = text
	_, _ = io.WriteString(l.out, eraseLine+text)
}

// describeProgress fits into 80 columns.
func describeProgress(p s3snap.Progress) string {
	text := "restoring: "
	switch {
	case p.SnapshotRows > 0 && p.Rows < p.SnapshotRows:
		text += fmt.Sprintf("%d%% of the snapshot, ", 100*p.Rows/p.SnapshotRows)
	case p.SnapshotRows > 0:
		text += "snapshot done, "
	}
	text += groupDigits(p.Rows) + " rows, " + megabytes(p.Bytes)
	if seconds := p.Elapsed.Seconds(); seconds > 0 {
		text += ", " + groupDigits(int64(float64(p.Rows)/seconds)) + " rows/s"
	}
	return text
}

// megabytes gives bytes as millions of them.
func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// groupDigits puts commas between thousands.
func groupDigits(n int64) string {
	digits := strconv.FormatInt(n, 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && digits[i-1] != '-' && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}
