package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Get implements Store.
func (s *s3Store) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, Info, error) {
	if err := begin(ctx, OpGet, key); err != nil {
		return nil, Info{}, err
	}
	if offset < 0 {
		return nil, Info{}, fmt.Errorf("get object %s: %w: %d", key, ErrOffset, offset)
	}
	if length == 0 {
		return s.getNothing(ctx, key, offset)
	}
	input := &s3.GetObjectInput{Bucket: &s.bucket, Key: s.path(key)}
	if offset > 0 || length > 0 {
		input.Range = aws.String(rangeHeader(offset, length))
	}
	within, dog := newWatchdog(ctx, s.timeout)
	out, err := s.client.GetObject(within, input)
	dog.calm()
	if err != nil {
		dog.stop()
		if answerOf(err).status == http.StatusRequestedRangeNotSatisfiable {
			return s.getNothing(ctx, key, offset)
		}
		return nil, Info{}, s.fail(ctx, OpGet, key, Condition{}, slow(within, err))
	}
	body := &watched{ReadCloser: out.Body, dog: dog}
	info, err := infoOfGet(key, out, offset)
	if err == nil {
		var end int64
		if end, err = rangeEnd(offset, length, info.Size); err == nil {
			classify := func(err error) error { return s.classify(OpGet, Condition{}, slow(within, err)) }
			return &bodyReader{ctx: ctx, key: key, r: body, left: end - offset, classify: classify}, info, nil
		}
	}
	return nil, Info{}, errors.Join(fmt.Errorf("get object %s: %w", key, err), body.Close())
}

// path is the key in the bucket.
func (s *s3Store) path(key string) *string { return aws.String(s.prefix + key) }

// slow replaces an error by errSlow where that is its cause.
func slow(ctx context.Context, err error) error {
	if context.Cause(ctx) == errSlow {
		return errSlow
	}
	return err
}

// rangeHeader is the Range header of length bytes from offset on, length < 0 meaning all.
func rangeHeader(offset, length int64) string {
	last := ""
	if length > 0 && offset+length > 0 {
		last = strconv.FormatInt(offset+length-1, 10)
	}
	return "bytes=" + strconv.FormatInt(offset, 10) + "-" + last
}

// infoOfGet takes the Info of the whole object from an answer that may be a part.
func infoOfGet(key string, out *s3.GetObjectOutput, offset int64) (Info, error) {
	info := Info{Key: key, Version: unquote(out.ETag)}
	if out.LastModified != nil {
		info.Modified = *out.LastModified
	}
	switch {
	case out.ContentRange != nil:
		_, total, _ := strings.Cut(*out.ContentRange, "/")
		size, err := strconv.ParseInt(total, 10, 64)
		if err != nil || !strings.HasPrefix(*out.ContentRange, "bytes "+strconv.FormatInt(offset, 10)+"-") {
			return Info{}, fmt.Errorf("object store answered with another range than asked for: %q", *out.ContentRange)
		}
		info.Size = size
	case offset > 0:
		return Info{}, errors.New("object store does not know ranges")
	case out.ContentLength == nil:
		return Info{}, errors.New("object store did not say the length")
	default:
		info.Size = *out.ContentLength
	}
	return info, nil
}

// unquote returns the version that an ETag is.
func unquote(etag *string) string { return strings.Trim(aws.ToString(etag), `"`) }

// getNothing answers a Get that reads no bytes.
func (s *s3Store) getNothing(ctx context.Context, key string, offset int64) (io.ReadCloser, Info, error) {
	info, err := s.stat(ctx, key)
	if err != nil {
		return nil, Info{}, err
	}
	if _, err := rangeEnd(offset, 0, info.Size); err != nil {
		return nil, Info{}, fmt.Errorf("get object %s: %w", key, err)
	}
	return http.NoBody, info, nil
}

// stat describes an object by reading its first byte: the answer to a HEAD request has no body, so that its 404 could
// not say what is missing.
func (s *s3Store) stat(ctx context.Context, key string) (Info, error) {
	within, cancel := s.limit(ctx, 0)
	defer cancel()
	out, err := s.client.GetObject(within, &s3.GetObjectInput{Bucket: &s.bucket, Key: s.path(key), Range: aws.String(rangeHeader(0, 1))})
	if answerOf(err).status == http.StatusRequestedRangeNotSatisfiable {
		return s.head(ctx, within, key)
	} else if err != nil {
		return Info{}, s.fail(ctx, OpGet, key, Condition{}, slow(within, err))
	}
	// Reading on to the end gives the connection back.
	_, _ = io.CopyN(io.Discard, out.Body, 2)
	_ = out.Body.Close()
	info, err := infoOfGet(key, out, 0)
	if err != nil {
		return Info{}, fmt.Errorf("get object %s: %w", key, err)
	}
	return info, nil
}

// head describes an object that has no first byte. within is the context of the request, ctx that of the caller.
func (s *s3Store) head(ctx, within context.Context, key string) (Info, error) {
	out, err := s.client.HeadObject(within, &s3.HeadObjectInput{Bucket: &s.bucket, Key: s.path(key)})
	if err != nil {
		return Info{}, s.fail(ctx, OpGet, key, Condition{}, slow(within, err))
	}
	info := Info{Key: key, Size: aws.ToInt64(out.ContentLength), Version: unquote(out.ETag)}
	if out.LastModified != nil {
		info.Modified = *out.LastModified
	}
	return info, nil
}

// List implements Store.
func (s *s3Store) List(ctx context.Context, prefix, after string, fn func(Info) error) error {
	input := &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: s.path(prefix)}
	if after != "" {
		input.StartAfter = s.path(after)
	}
	l := &s3Listing{store: s, prefix: prefix, last: after, fn: fn}
	for {
		out, err := s.listPage(ctx, prefix, input)
		if err != nil {
			return err
		}
		for i := range out.Contents {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("list objects: %w", err)
			}
			if err := l.visit(&out.Contents[i]); err != nil {
				return err
			}
		}
		if !aws.ToBool(out.IsTruncated) {
			return nil
		}
		if aws.ToString(out.NextContinuationToken) == "" {
			return fmt.Errorf("list objects %s: object store did not say how to go on", prefix)
		}
		input.ContinuationToken = out.NextContinuationToken
	}
}

// listPage asks for one page.
func (s *s3Store) listPage(ctx context.Context, prefix string, input *s3.ListObjectsV2Input) (*s3.ListObjectsV2Output, error) {
	within, cancel := s.limit(ctx, 0)
	defer cancel()
	out, err := s.client.ListObjectsV2(within, input)
	if err != nil {
		return nil, s.fail(ctx, OpList, prefix, Condition{}, slow(within, err))
	}
	return out, nil
}

// s3Listing is one List.
type s3Listing struct {
	store        *s3Store
	prefix, last string
	fn           func(Info) error
}

// visit hands out one object. Names that are no keys were put there by somebody else and are left out. An order that is
// not by key is refused, since it would hide chunks.
func (l *s3Listing) visit(o *types.Object) error {
	key, ok := strings.CutPrefix(aws.ToString(o.Key), l.store.prefix)
	if !ok || CheckKey(key) != nil || !strings.HasPrefix(key, l.prefix) {
		return nil
	}
	if key <= l.last {
		return fmt.Errorf("list objects %s: object store does not list in order of the keys: %s after %s", l.prefix, key, l.last)
	}
	l.last = key
	info := Info{Key: key, Size: aws.ToInt64(o.Size)}
	if o.LastModified != nil {
		info.Modified = *o.LastModified
	}
	return l.fn(info)
}
