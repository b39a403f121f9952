package rowfile

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
)

// source counts and hashes what is read. Only the end of the input is
// corruption; other errors are those of whoever delivers the bytes.
type source struct {
	in     io.Reader
	offset int64
	sum    hash.Hash
}

func newSource(r io.Reader) *source { return &source{in: r, sum: sha256.New()} }

// maxEmptyReads is how often a reader may give nothing, not even an error.
const maxEmptyReads = 100

// fill reads len(p) bytes that are not hashed.
func (s *source) fill(p []byte) error {
	empty := 0
	for len(p) > 0 {
		n, err := s.in.Read(p)
		p = p[n:]
		s.offset += int64(n)
		switch {
		case len(p) == 0:
			return nil
		case err == io.EOF:
			return corruptf(s.offset, "the file is cut short: %d bytes and more are missing", len(p))
		case errors.Is(err, io.EOF):
			// A connection that was lost, say. It must not look like the end.
			return fmt.Errorf("read row file: %w: %v", io.ErrUnexpectedEOF, err)
		case err != nil:
			return fmt.Errorf("read row file: %w", err)
		case n > 0:
			empty = 0
		default:
			if empty++; empty == maxEmptyReads {
				return fmt.Errorf("read row file: %w", io.ErrNoProgress)
			}
		}
	}
	return nil
}

// read reads and hashes len(p) bytes.
func (s *source) read(p []byte) error {
	err := s.fill(p)
	if err == nil {
		s.sum.Write(p)
	}
	return err
}

// readInto reads and hashes n bytes into b, which it may replace. It allocates
// only about twice what has really been read.
func (s *source) readInto(b []byte, n int) ([]byte, error) {
	b = b[:0]
	for len(b) < n {
		step := min(n-len(b), max(len(b), blockSize))
		b = slices.Grow(b, step)[:len(b)+step]
		if err := s.read(b[len(b)-step:]); err != nil {
			return b, err
		}
	}
	return b, nil
}

// end checks that nothing follows.
func (s *source) end() error {
	var one [1]byte
	at := s.offset
	err := s.fill(one[:])
	switch {
	case err == nil:
		return corruptf(at, "bytes follow the end of the file")
	case errors.Is(err, ErrCorrupt):
		return nil
	}
	return err
}
