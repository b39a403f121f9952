package s3snap

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

// How a large object is downloaded.
const (
	partBytes     = 4 << 20
	partsInFlight = 6
)

// rangedReader downloads an object in parts, several at once, each tried again
// from where it broke off.
type rangedReader struct {
	ctx    context.Context
	cancel context.CancelFunc
	store  object.Store
	key    string
	size   int64
	parts  chan chan part // in order
	spare  chan []byte    // what was read, for parts to come: large garbage is felt by others
	body   []byte         // of the part being read
	now    []byte         // what is left of it
	err    error
	wait   sync.WaitGroup
}

type part struct {
	body []byte
	err  error
}

// newRangedReader reads an object of a known size from its start, ahead parts at a
// time. Close must be called.
func newRangedReader(ctx context.Context, store object.Store, key string, size int64, ahead int) *rangedReader {
	r := &rangedReader{store: store, key: key, size: size, parts: make(chan chan part, ahead-1), spare: make(chan []byte, ahead+1)}
	r.ctx, r.cancel = context.WithCancel(ctx)
	r.wait.Go(r.start)
	return r
}

// start begins one download after the other; the channel bounds how many are
// ahead of the reader.
func (r *rangedReader) start() {
	defer close(r.parts)
	for offset := int64(0); offset < r.size; offset += partBytes {
		result := make(chan part, 1)
		select {
		case r.parts <- result:
		case <-r.ctx.Done():
			return
		}
		r.wait.Go(func() {
			body, err := r.fetch(offset, min(partBytes, r.size-offset))
			result <- part{body, err}
		})
	}
}

// fetch downloads one part. Where a download breaks off, what has come is kept.
func (r *rangedReader) fetch(offset, length int64) ([]byte, error) {
	body := r.buffer(length)
	var have int64
	err := retry(r.ctx, func() error {
		src, info, err := r.store.Get(r.ctx, r.key, offset+have, length-have)
		if err != nil {
			return err
		}
		defer src.Close()
		if info.Size != r.size {
			return fmt.Errorf("%w: %s has %d bytes instead of %d", ErrCorruptChain, r.key, info.Size, r.size)
		}
		n, err := io.ReadFull(src, body[have:])
		have += int64(n)
		if err != nil {
			return fmt.Errorf("%w: read %s: %w", object.ErrUnavailable, r.key, err)
		}
		return nil
	})
	return body, err
}

// buffer gives the memory of a part.
func (r *rangedReader) buffer(length int64) []byte {
	select {
	case b := <-r.spare:
		return b[:length]
	default:
		return make([]byte, length, min(partBytes, r.size))
	}
}

// Read implements io.Reader.
func (r *rangedReader) Read(b []byte) (int, error) {
	for len(r.now) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		if r.body != nil {
			r.spare <- r.body
			r.body = nil
		}
		result, ok := <-r.parts
		if !ok {
			r.err = io.EOF
			if r.ctx.Err() != nil {
				r.err = context.Cause(r.ctx)
			}
			continue
		}
		p := <-result
		if r.err = p.err; p.err == nil {
			r.body, r.now = p.body, p.body
		}
	}
	n := copy(b, r.now)
	r.now = r.now[n:]
	return n, nil
}

// Close ends the downloads and waits for them.
func (r *rangedReader) Close() error {
	r.cancel()
	r.wait.Wait()
	return nil
}
