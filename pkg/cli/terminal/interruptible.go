package terminal

import (
	"context"
	"io"
)

// Interruptible gives what r has, until the context ends; a read from a terminal or a pipe may block for ever. The goroutine
// that then still waits for r ends with it, or with the process. stop is called when no more is wanted.
func Interruptible(ctx context.Context, r io.Reader) (_ io.Reader, stop func()) {
	out, in := io.Pipe()
	go func() {
		_, err := io.Copy(in, r)
		in.CloseWithError(err)
	}()
	release := context.AfterFunc(ctx, func() { in.CloseWithError(ctx.Err()) })
	return out, func() {
		release()
		_ = out.Close()
	}
}
