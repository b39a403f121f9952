package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

const (
	// partSize is the size of a part of an upload in bytes. All but the last are of equal size, as some servers want it. S3
	// allows 10,000, so that an object has at most 78 GiB.
	partSize = 8 << 20
	maxParts = 10_000
	// partBuffers is how many parts are in memory at once.
	partBuffers = 4
	// partAttempts is how often a part is sent, each time with the SDK's own attempts.
	partAttempts = 3
	// partPause is the time before the second attempt; before the third it is twice as long.
	partPause = 500 * time.Millisecond
	// completeRate is how much faster than a transfer servers must put the parts together.
	completeRate = 16
)

// Upload implements Store. What fits in one part goes up by one request. Parts that were left behind because abort did
// not reach the server either are removed by a lifecycle rule of the bucket.
func (s *s3Store) Upload(ctx context.Context, key string, r io.Reader) (Info, error) {
	if err := begin(ctx, OpUpload, key); err != nil {
		return Info{}, err
	}
	first := make([]byte, s.partSize)
	n, err := readPart(ctx, r, first)
	if err == io.EOF {
		return s.uploadSmall(ctx, key, first[:n])
	} else if err != nil {
		return Info{}, fmt.Errorf("upload object %s: %w", key, err)
	}
	m := &multipart{store: s, key: key, r: r}
	info, err := m.run(ctx, first)
	if err != nil {
		if left := m.abort(ctx); left != nil {
			err = fmt.Errorf("%w (its parts stay: %v)", err, left)
		}
		return Info{}, err
	}
	return info, nil
}

// readPart fills p from r. io.EOF says that r has ended, with n bytes read before.
func readPart(ctx context.Context, r io.Reader, p []byte) (n int, err error) {
	n, err = io.ReadFull(&sourceReader{ctx: ctx, r: r}, p)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return n, err
}

// uploadSmall writes an object by one request, which may be repeated.
func (s *s3Store) uploadSmall(ctx context.Context, key string, body []byte) (Info, error) {
	input := s.putInput(key, body)
	input.StorageClass = types.StorageClass(s.settings.StorageClass)
	within, cancel := s.limit(ctx, len(body))
	defer cancel()
	out, err := s.client.PutObject(within, input)
	if err != nil {
		return Info{}, s.fail(ctx, OpUpload, key, Condition{}, slow(within, err))
	}
	return Info{Key: key, Size: int64(len(body)), Version: unquote(out.ETag)}, nil
}

// multipart is one upload in parts.
type multipart struct {
	store *s3Store
	key   string
	r     io.Reader
	id    *string // nil until the server has given one
	size  int64

	mu    sync.Mutex
	parts []types.CompletedPart // by number from 1
}

// run uploads all; first is the first part, which has its full size.
func (m *multipart) run(ctx context.Context, first []byte) (Info, error) {
	if err := m.create(ctx); err != nil {
		return Info{}, err
	}
	if err := m.uploadParts(ctx, first); err != nil {
		return Info{}, err
	}
	return m.complete(ctx)
}

func (m *multipart) create(ctx context.Context) error {
	s := m.store
	input := &s3.CreateMultipartUploadInput{
		Bucket: &s.bucket, Key: s.path(m.key), ContentType: aws.String(contentType), ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c,
		ServerSideEncryption: types.ServerSideEncryption(s.settings.SSE), StorageClass: types.StorageClass(s.settings.StorageClass),
	}
	if s.settings.SSEKMSKeyID != "" {
		input.SSEKMSKeyId = &s.settings.SSEKMSKeyID
	}
	within, cancel := s.limit(ctx, 0)
	defer cancel()
	out, err := s.client.CreateMultipartUpload(within, input)
	if err != nil {
		return s.fail(ctx, OpUpload, m.key, Condition{}, slow(within, err))
	}
	m.id = out.UploadId
	return nil
}

// uploadParts reads parts and sends them, several at a time. It returns when none is under way any more.
func (m *multipart) uploadParts(ctx context.Context, first []byte) error {
	within, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	free := make(chan []byte, partBuffers)
	for range partBuffers - 1 {
		free <- make([]byte, m.store.partSize)
	}
	var senders sync.WaitGroup
	send := func(number int32, buffer []byte, n int) {
		senders.Go(func() {
			if err := m.uploadPart(within, number, buffer[:n]); err != nil {
				cancel(err)
			}
			free <- buffer
		})
	}
	send(1, first, len(first))
	if err := m.readParts(within, free, send); err != nil {
		cancel(err)
	}
	senders.Wait()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("upload object %s: %w", m.key, err)
	}
	return context.Cause(within)
}

// readParts reads the parts after the first and hands them to send, which gives the buffers back to free.
func (m *multipart) readParts(ctx context.Context, free chan []byte, send func(number int32, buffer []byte, n int)) error {
	m.size = int64(m.store.partSize)
	for number := int32(2); ; number++ {
		var buffer []byte
		select {
		case buffer = <-free:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		n, err := readPart(ctx, m.r, buffer)
		m.size += int64(n)
		switch {
		case err != nil && err != io.EOF:
			return fmt.Errorf("upload object %s: %w", m.key, err)
		case n > 0 && number > maxParts:
			return fmt.Errorf("upload object %s: more than %d bytes", m.key, maxParts*m.store.partSize)
		case n > 0:
			send(number, buffer, n)
		}
		if err == io.EOF {
			return nil
		}
	}
}

// uploadPart sends one part, again if the server did not take it.
func (m *multipart) uploadPart(ctx context.Context, number int32, body []byte) error {
	for attempt := 1; ; attempt++ {
		part, err := m.sendPart(ctx, number, body)
		if err == nil {
			m.add(part)
			return nil
		}
		if attempt == partAttempts || !errors.Is(err, ErrUnavailable) {
			return err
		}
		select {
		case <-time.After(time.Duration(attempt) * partPause):
		case <-ctx.Done():
			return err
		}
	}
}

func (m *multipart) sendPart(ctx context.Context, number int32, body []byte) (types.CompletedPart, error) {
	s := m.store
	checksum := checksumOf(body)
	within, cancel := s.limit(ctx, len(body))
	defer cancel()
	out, err := s.client.UploadPart(within, &s3.UploadPartInput{
		Bucket: &s.bucket, Key: s.path(m.key), UploadId: m.id, PartNumber: &number,
		Body: bytes.NewReader(body), ContentLength: aws.Int64(int64(len(body))), ChecksumCRC32C: &checksum,
	})
	if err != nil {
		return types.CompletedPart{}, s.fail(ctx, OpUpload, m.key, Condition{}, slow(within, err))
	}
	// A server that does not know the checksum does not repeat it, and is not told again.
	return types.CompletedPart{PartNumber: &number, ETag: out.ETag, ChecksumCRC32C: out.ChecksumCRC32C}, nil
}

// add keeps what the server said of a part.
func (m *multipart) add(part types.CompletedPart) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.parts) < int(*part.PartNumber) {
		m.parts = append(m.parts, types.CompletedPart{})
	}
	m.parts[*part.PartNumber-1] = part
}

// complete makes the object of the parts.
func (m *multipart) complete(ctx context.Context) (Info, error) {
	s := m.store
	within, cancel := s.limit(ctx, int(m.size/completeRate))
	defer cancel()
	out, err := s.client.CompleteMultipartUpload(within, &s3.CompleteMultipartUploadInput{
		Bucket: &s.bucket, Key: s.path(m.key), UploadId: m.id, MultipartUpload: &types.CompletedMultipartUpload{Parts: m.parts},
	})
	if err != nil {
		return Info{}, s.fail(ctx, OpUpload, m.key, Condition{}, slow(within, err))
	}
	return Info{Key: m.key, Size: m.size, Version: unquote(out.ETag)}, nil
}

// abort removes the parts of an upload that failed, even if the context has ended. An upload that was completed after
// all, its answer lost, stays.
func (m *multipart) abort(ctx context.Context) error {
	if m.id == nil {
		return nil
	}
	s := m.store
	within, cancel := s.limit(context.WithoutCancel(ctx), 0)
	defer cancel()
	_, err := s.client.AbortMultipartUpload(within, &s3.AbortMultipartUploadInput{Bucket: &s.bucket, Key: s.path(m.key), UploadId: m.id})
	if answerOf(err).code == "NoSuchUpload" || err == nil {
		return nil
	}
	return fmt.Errorf("abort upload of object %s: %w", m.key, s.classify(OpUpload, Condition{}, slow(within, err)))
}
