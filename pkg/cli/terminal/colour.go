package terminal

import (
	"io"
	"os"
)

// Colour is how text is painted: the parameters of the escape sequence.
type Colour string

// The colours that are used.
const (
	Bold   Colour = "1"
	Red    Colour = "31"
	Green  Colour = "32"
	Yellow Colour = "33"
	Cyan   Colour = "36"
)

// Colours reports whether an output is a terminal that shows colours: NO_COLOR is not set, and TERM is not dumb.
func Colours(w io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && Is(w)
}

// Paint paints text, which has no line feed.
func (c Colour) Paint(text string) string { return "\x1b[" + string(c) + "m" + text + "\x1b[0m" }
