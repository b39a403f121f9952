package object

import (
	"context"
	"fmt"
	"io"
)

// begin refuses a bad key and a context that has ended.
func begin(ctx context.Context, op Op, key string) error {
	if err := CheckKey(key); err != nil {
		return fmt.Errorf("%s object: %w", op, err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s object %s: %w", op, key, err)
	}
	return nil
}

// bodyReader reads what a Get promised: left bytes and no other number. The last of them are withheld until r has said
// that it ends there, since that is when stores verify checksums.
type bodyReader struct {
	ctx      context.Context
	key      string
	r        io.ReadCloser
	left     int64
	ended    bool
	classify func(error) error // makes an error of r one of the package
}

// Read implements io.Reader.
func (b *bodyReader) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, fmt.Errorf("read object %s: %w", b.key, err)
	}
	if len(p) == 0 {
		return 0, nil
	}
	n := 0
	var err error
	if b.left > 0 {
		n, err = b.r.Read(p[:min(int64(len(p)), b.left)])
		b.left -= int64(n)
		if err == io.EOF && b.left > 0 {
			return n, fmt.Errorf("read object %s: %w: ended %d bytes early", b.key, ErrUnavailable, b.left)
		}
	}
	if b.left == 0 && err == nil && !b.ended {
		err = b.end()
	}
	switch {
	case err == io.EOF:
		b.ended = true
	case err != nil:
		return 0, fmt.Errorf("read object %s: %w", b.key, b.classify(err))
	}
	if n == 0 && b.ended {
		return 0, io.EOF
	}
	return n, nil
}

// end reads the end, which must be there: it returns io.EOF, or what is wrong.
func (b *bodyReader) end() error {
	var more [1]byte
	for {
		switch n, err := b.r.Read(more[:]); {
		case n > 0:
			return fmt.Errorf("%w: more bytes than announced", ErrUnavailable)
		case err != nil:
			return err
		}
	}
}

// Close implements io.Closer.
func (b *bodyReader) Close() error { return b.r.Close() }

// limited is the part of a stream that a Get is about.
type limited struct {
	io.Reader
	io.Closer
}

// limit returns the next n bytes of r.
func limit(r io.ReadCloser, n int64) io.ReadCloser {
	return limited{Reader: io.LimitReader(r, n), Closer: r}
}

// sourceReader remembers the error of a source, to tell it from errors of where it is copied to.
type sourceReader struct {
	ctx context.Context
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (s *sourceReader) Read(p []byte) (int, error) {
	if s.err = s.ctx.Err(); s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}
