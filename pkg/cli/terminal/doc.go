// Package terminal writes to people: a line of progress that is written over and over, and colours. Where the output is not a
// terminal, or one that does not understand them, it writes neither.
package terminal
