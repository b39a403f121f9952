package terminal

import (
	"io"
	"os"
	"sync"

	"github.com/mattn/go-isatty"
)

// EraseLine goes to the line's beginning and removes what is there.
const EraseLine = "\r\x1b[K"

// Line is a line at the end of a terminal that is written over and over. Messages written through it appear above it. Its
// methods may be called concurrently.
type Line struct {
	out  io.Writer
	live bool

	mu    sync.Mutex
	shown string
}

var _ io.Writer = (*Line)(nil)

// NewLine returns the line of an output. On anything but a terminal there is none.
func NewLine(out io.Writer) *Line { return ForcedLine(out, rewritesLines(out)) }

// ForcedLine returns the line of an output that is taken for a terminal if live is set, and else not.
func ForcedLine(out io.Writer, live bool) *Line { return &Line{out: out, live: live} }

// rewritesLines reports whether w is a terminal that understands EraseLine.
func rewritesLines(w io.Writer) bool { return os.Getenv("TERM") != "dumb" && Is(w) }

// Is reports whether a reader or writer is a terminal.
func Is(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// Live reports whether what Show is given is shown.
func (l *Line) Live() bool { return l.live }

// Write writes a message above the line.
func (l *Line) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shown == "" {
		return l.out.Write(b)
	}
	if _, err := io.WriteString(l.out, EraseLine); err != nil {
		return 0, err
	}
	n, err := l.out.Write(b)
	if err == nil {
		_, err = io.WriteString(l.out, l.shown)
	}
	return n, err
}

// Clear removes the line.
func (l *Line) Clear() { l.Show("") }

// Show replaces the line's text, which has no line feed.
func (l *Line) Show(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.live || text == l.shown {
		return
	}
	l.shown = text
	_, _ = io.WriteString(l.out, EraseLine+text)
}
