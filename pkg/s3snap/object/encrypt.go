package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// maxEncrypted is a length beyond that of any object.
const maxEncrypted = 1 << 50

// encrypted is a store whose objects are encrypted in another one.
type encrypted struct {
	base Store
	keys *KeyRing
}

var (
	_ Store     = (*encrypted)(nil)
	_ io.Closer = (*encrypted)(nil)
)

// Encrypt returns a store that keeps its objects encrypted in another one, in the format of the package documentation.
// Objects in the other one that are not encrypted are not read: ErrNotEncrypted. A read that meets anything but what was
// written ends with ErrTampered; what came before that was authentic.
func Encrypt(s Store, keys *KeyRing) Store { return &encrypted{base: s, keys: keys} }

// Close implements io.Closer.
func (e *encrypted) Close() error { return Close(e.base) }

// Get implements Store. A Get from the start is one request; another one reads the header first.
func (e *encrypted) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, Info, error) {
	if offset == 0 && length != 0 {
		return e.getStart(ctx, key, length)
	}
	r, info, err := e.base.Get(ctx, key, 0, headerSize)
	if err != nil {
		return nil, Info{}, err
	}
	o, plain, err := e.begin(key, r, info)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, Info{}, err
	}
	end, err := rangeEnd(offset, length, plain.Size)
	if err != nil {
		return nil, Info{}, fmt.Errorf("get object %s: %w", key, err)
	}
	if offset == end {
		return http.NoBody, plain, nil
	}
	first, next := offset/segmentSize, (end+segmentSize-1)/segmentSize
	r, again, err := e.base.Get(ctx, key, headerSize+first*sealedSegment, (next-first)*sealedSegment)
	if err != nil {
		return nil, Info{}, err
	}
	if again.Version != info.Version || again.Size != info.Size {
		return nil, Info{}, errors.Join(fmt.Errorf("get object %s: %w: it was replaced meanwhile", key, ErrUnavailable), r.Close())
	}
	o.Closer, o.r = r, r
	o.segment, o.skip, o.left = first, offset%segmentSize, end-offset
	return o, plain, nil
}

// getStart reads from the start of an object.
func (e *encrypted) getStart(ctx context.Context, key string, length int64) (io.ReadCloser, Info, error) {
	sealed := int64(-1)
	if length > 0 && length < maxEncrypted {
		sealed = headerSize + (length+segmentSize-1)/segmentSize*sealedSegment
	}
	r, info, err := e.base.Get(ctx, key, 0, sealed)
	if err != nil {
		return nil, Info{}, err
	}
	o, plain, err := e.begin(key, r, info)
	if err != nil {
		return nil, Info{}, errors.Join(err, r.Close())
	}
	o.left = plain.Size
	if length > 0 {
		o.left = min(length, plain.Size)
	}
	if plain.Size == 0 {
		// Nothing is read of an empty object, but its only segment says that it is empty.
		if err := o.next(); err != nil {
			return nil, Info{}, errors.Join(fmt.Errorf("get object %s: %w", key, err), r.Close())
		}
	}
	return o, plain, nil
}

// begin reads the header of an object, and returns a reader of its segments and what it is in plain.
func (e *encrypted) begin(key string, r io.ReadCloser, info Info) (*openingReader, Info, error) {
	header := make([]byte, headerSize)
	if _, err := io.ReadFull(r, header); err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil, Info{}, fmt.Errorf("get object %s: %w", key, ErrNotEncrypted)
	} else if err != nil {
		return nil, Info{}, fmt.Errorf("get object %s: %w", key, err)
	}
	s, err := e.keys.sealer(key, header)
	if err != nil {
		return nil, Info{}, fmt.Errorf("get object %s: %w", key, err)
	}
	plain, ok := plainSize(info.Size)
	if !ok {
		return nil, Info{}, fmt.Errorf("get object %s: %w: %d bytes are no whole one", key, ErrTampered, info.Size)
	}
	body := info.Size - headerSize
	last := (body+sealedSegment-1)/sealedSegment - 1
	info.Size = plain
	return &openingReader{Closer: r, sealer: s, name: key, r: r, last: last, tail: int(body - last*sealedSegment)}, info, nil
}

// List implements Store. The size of an object that is not encrypted is given as it is.
func (e *encrypted) List(ctx context.Context, prefix, after string, fn func(Info) error) error {
	return e.base.List(ctx, prefix, after, func(info Info) error {
		if plain, ok := plainSize(info.Size); ok {
			info.Size = plain
		}
		return fn(info)
	})
}

// Put implements Store.
func (e *encrypted) Put(ctx context.Context, key string, body []byte, cond Condition) (string, error) {
	header := newHeader(e.keys.first)
	s, err := e.keys.sealer(key, header)
	if err != nil {
		return "", fmt.Errorf("put object %s: %w", key, err)
	}
	sealed := append(make([]byte, 0, sealedSize(int64(len(body)))), header...)
	for segment := int64(0); ; segment++ {
		n := min(len(body), segmentSize)
		last := n == len(body)
		sealed = s.seal(sealed, body[:n], segment, last)
		if last {
			break
		}
		body = body[n:]
	}
	return e.base.Put(ctx, key, sealed, cond)
}

// Upload implements Store.
func (e *encrypted) Upload(ctx context.Context, key string, r io.Reader) (Info, error) {
	header := newHeader(e.keys.first)
	s, err := e.keys.sealer(key, header)
	if err != nil {
		return Info{}, fmt.Errorf("upload object %s: %w", key, err)
	}
	info, err := e.base.Upload(ctx, key, newSealingReader(s, header, r))
	if err != nil {
		return Info{}, err
	}
	info.Size, _ = plainSize(info.Size)
	return info, nil
}

// Delete implements Store.
func (e *encrypted) Delete(ctx context.Context, keys ...string) error {
	return e.base.Delete(ctx, keys...)
}
