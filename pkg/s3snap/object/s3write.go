package object

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// deletePage is how many objects S3 deletes in one request.
const deletePage = 1000

// Put implements Store.
func (s *s3Store) Put(ctx context.Context, key string, body []byte, cond Condition) (string, error) {
	if err := cond.check(); err != nil {
		return "", fmt.Errorf("put object %s: %w", key, err)
	}
	if err := begin(ctx, OpPut, key); err != nil {
		return "", err
	}
	input := s.putInput(key, body)
	if cond.IfAbsent {
		input.IfNoneMatch = aws.String("*")
	}
	if cond.IfVersion != "" {
		input.IfMatch = aws.String(`"` + cond.IfVersion + `"`)
	}
	within, cancel := s.limit(ctx, len(body))
	defer cancel()
	out, err := s.client.PutObject(within, input, once)
	if err != nil {
		return "", s.fail(ctx, OpPut, key, cond, slow(within, err))
	}
	version := unquote(out.ETag)
	if version == "" {
		return "", fmt.Errorf("put object %s: %w: it answers without an ETag", key, ErrUnconditional)
	}
	return version, nil
}

// putInput is a PutObject request without a condition.
func (s *s3Store) putInput(key string, body []byte) *s3.PutObjectInput {
	input := &s3.PutObjectInput{
		Bucket:               &s.bucket,
		Key:                  s.path(key),
		Body:                 bytes.NewReader(body),
		ContentLength:        aws.Int64(int64(len(body))),
		ContentType:          aws.String(contentType),
		ChecksumCRC32C:       aws.String(checksumOf(body)),
		ServerSideEncryption: types.ServerSideEncryption(s.settings.SSE),
	}
	if s.settings.SSEKMSKeyID != "" {
		input.SSEKMSKeyId = &s.settings.SSEKMSKeyID
	}
	return input
}

const contentType = "application/octet-stream"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksumOf is the checksum of a body as S3 writes it.
func checksumOf(body []byte) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.Checksum(body, castagnoli)))
}

// Delete implements Store.
func (s *s3Store) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := begin(ctx, OpDelete, key); err != nil {
			return err
		}
	}
	for len(keys) > 0 {
		n := min(len(keys), deletePage)
		if err := s.deletePage(ctx, keys[:n]); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

// deletePage deletes by one request, or, where the server does not know that one, one by one.
func (s *s3Store) deletePage(ctx context.Context, keys []string) error {
	if len(keys) == 1 {
		return s.deleteOne(ctx, keys[0])
	}
	ids := make([]types.ObjectIdentifier, len(keys))
	for i, key := range keys {
		ids[i].Key = s.path(key)
	}
	within, cancel := s.limit(ctx, 0)
	defer cancel()
	out, err := s.client.DeleteObjects(within, &s3.DeleteObjectsInput{
		Bucket: &s.bucket, Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(true)},
	}, withMD5)
	switch status := answerOf(err).status; {
	case err == nil:
		return s.deleteErrors(out.Errors)
	case status == http.StatusNotImplemented || status == http.StatusMethodNotAllowed:
		for _, key := range keys {
			if err := s.deleteOne(ctx, key); err != nil {
				return err
			}
		}
		return nil
	}
	return s.fail(ctx, OpDelete, keys[0], Condition{}, slow(within, err))
}

// withMD5 sends the checksum that every server takes for DeleteObjects, instead of one that only newer ones know.
func withMD5(o *s3.Options) {
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		if _, err := stack.Initialize.Remove("AWSChecksum:SetupInputContext"); err != nil {
			return err
		}
		return smithyhttp.AddContentChecksumMiddleware(stack)
	})
}

// deleteErrors turns what a DeleteObjects says of its objects into an error.
func (s *s3Store) deleteErrors(refused []types.Error) error {
	for _, e := range refused {
		code := aws.ToString(e.Code)
		if code == "NoSuchKey" {
			continue
		}
		reason := ErrUnavailable
		if code == "AccessDenied" {
			reason = ErrDenied
		}
		text := s.scrub(fmt.Sprintf("%s: %s", code, aws.ToString(e.Message)))
		return fmt.Errorf("delete object %s: %w: %s", s.scrub(aws.ToString(e.Key)), reason, text)
	}
	return nil
}

func (s *s3Store) deleteOne(ctx context.Context, key string) error {
	within, cancel := s.limit(ctx, 0)
	defer cancel()
	_, err := s.client.DeleteObject(within, &s3.DeleteObjectInput{Bucket: &s.bucket, Key: s.path(key)})
	if err == nil {
		return nil
	}
	if err = s.fail(ctx, OpDelete, key, Condition{}, slow(within, err)); errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
