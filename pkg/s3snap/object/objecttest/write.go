package objecttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing/iotest"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

func (s *suite) createOnce() {
	const key = "chunks/00000000000000000001"
	version, err := s.store.Put(s.ctx, key, []byte("first"), object.Condition{IfAbsent: true})
	s.ok(err)
	for _, body := range []string{"second", "first", ""} {
		_, err := s.store.Put(s.ctx, key, []byte(body), object.Condition{IfAbsent: true})
		s.is(err, object.ErrPrecondition)
	}
	if info := s.holds(key, []byte("first")); info.Version != version {
		s.Fatalf("version %q became %q by a refused Put", version, info.Version)
	}
	s.ok(s.store.Delete(s.ctx, key))
	_, err = s.store.Put(s.ctx, key, []byte("third"), object.Condition{IfAbsent: true})
	s.ok(err)
	s.holds(key, []byte("third"))
}

func (s *suite) compareAndSwap() {
	const key = "floor.json"
	_, err := s.store.Put(s.ctx, key, []byte("none"), object.Condition{IfVersion: "0123456789abcdef0123456789abcdef"})
	s.is(err, object.ErrPrecondition)
	s.missing(key)
	v1, err := s.store.Put(s.ctx, key, []byte("one"), object.Condition{IfAbsent: true})
	s.ok(err)
	v2, err := s.store.Put(s.ctx, key, []byte("two"), object.Condition{IfVersion: v1})
	s.ok(err)
	if v1 == v2 {
		s.Fatalf("version %q stayed when the content changed", v1)
	}
	for _, stale := range []string{v1, "0123456789abcdef0123456789abcdef"} {
		_, err = s.store.Put(s.ctx, key, []byte("three"), object.Condition{IfVersion: stale})
		s.is(err, object.ErrPrecondition)
	}
	if info := s.holds(key, []byte("two")); info.Version != v2 {
		s.Fatalf("version is %q, Put said %q", info.Version, v2)
	}
	_, err = s.store.Put(s.ctx, key, []byte("four"), object.Condition{IfVersion: v2, IfAbsent: true})
	s.is(err, object.ErrBadCondition)
	_, info := s.get(key, 0, 0)
	_, err = s.store.Put(s.ctx, key, []byte("five"), object.Condition{IfVersion: info.Version})
	s.ok(err)
	s.holds(key, []byte("five"))
}

func (s *suite) overwrite() {
	const key = "cluster.json"
	versions := make(map[string]bool)
	for _, size := range []int{100, 5, 0, 70_000, 2 << 20, 2 << 20, 1} {
		body := content(uint64(len(versions)), size)
		version := s.put(key, body)
		if versions[version] {
			s.Fatalf("version %q comes back with another content", version)
		}
		versions[version] = true
		s.holds(key, body)
	}
}

func (s *suite) delete() {
	var keys []string
	for i := range 20 {
		keys = append(keys, fmt.Sprintf("chunks/%d", i))
		s.put(keys[i], []byte("x"))
	}
	s.put("snapshots/1", []byte("y"))
	s.ok(s.store.Delete(s.ctx, keys[0]))
	s.missing(keys[0])
	s.ok(s.store.Delete(s.ctx, append(keys, "chunks/none", "none/1")...))
	s.lists("", "", "snapshots/1")
	s.missing(keys[7])
	s.ok(s.store.Delete(s.ctx, "snapshots/1", "snapshots/1"))
	s.lists("", "")
}

// uploadSizes go over several parts of a multipart upload.
var uploadSizes = []int{0, 1, 100_000, 8<<20 - 1, 8 << 20, 8<<20 + 1, 27_000_001}

func (s *suite) upload() {
	const key = "snapshots/b.rows"
	for i, size := range uploadSizes {
		body := content(uint64(100+i), size)
		// Readers may give few bytes, and the error with the last ones.
		info, err := s.store.Upload(s.ctx, key, iotest.DataErrReader(bytes.NewReader(body)))
		s.ok(err)
		got := s.holds(key, body)
		if info.Key != key || info.Size != int64(size) || info.Version != got.Version {
			s.Fatalf("upload of %d bytes says %+v, Get %+v", size, info, got)
		}
		for _, offset := range []int64{0, int64(size / 2), int64(size)} {
			s.rangeIs(key, got.Version, body, offset, 70_000)
		}
	}
	s.lists("", "", key)
}

func (s *suite) uploadFails() {
	broken := errors.New("source broke")
	s.put("old", []byte("as it was"))
	for _, size := range []int{0, 1000, 9 << 20, 20 << 20} {
		for _, key := range []string{"old", "new"} {
			source := io.MultiReader(bytes.NewReader(make([]byte, size)), iotest.ErrReader(broken))
			_, err := s.store.Upload(s.ctx, key, source)
			s.is(err, broken)
		}
		ctx, cancel := context.WithCancel(s.ctx)
		source := io.MultiReader(bytes.NewReader(make([]byte, size)), endless{cancel})
		_, err := s.store.Upload(ctx, "new", source)
		s.is(err, context.Canceled)
		cancel()
	}
	s.holds("old", []byte("as it was"))
	s.missing("new")
	s.lists("", "", "old")
}

// endless calls a function at each Read and never ends.
type endless struct{ call func() }

// Read implements io.Reader.
func (e endless) Read(p []byte) (int, error) {
	e.call()
	clear(p)
	return len(p), nil
}

func (s *suite) badKeys() {
	long := string(bytes.Repeat([]byte("k"), 256))
	for _, key := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b", "a/./b", ".a", "a/.b", "a\x00b", "a\nb", `a\b`, "a\x7f", "\xff", long,
		string(bytes.Repeat([]byte("k/"), 257)) + "k",
	} {
		_, _, err := s.store.Get(s.ctx, key, 0, -1)
		s.is(err, object.ErrBadKey)
		_, err = s.store.Put(s.ctx, key, nil, object.Condition{})
		s.is(err, object.ErrBadKey)
		_, err = s.store.Upload(s.ctx, key, bytes.NewReader(nil))
		s.is(err, object.ErrBadKey)
		s.is(s.store.Delete(s.ctx, key), object.ErrBadKey)
		s.is(s.store.Delete(s.ctx, "fine", key), object.ErrBadKey)
	}
	for _, key := range []string{"a", "a b", "ä/ö", "a..b/c.", "a+b%20&c=d?e#f", "~", "A*(')!", long[:255]} {
		s.put(key, []byte(key))
		s.holds(key, []byte(key))
		s.lists(key, "", key)
		s.ok(s.store.Delete(s.ctx, key))
	}
	s.lists("", "")
}

func (s *suite) endedContext() {
	s.put("there", []byte("body"))
	ended, cancel := context.WithCancel(s.ctx)
	r, _, err := s.store.Get(ended, "there", 0, -1)
	s.ok(err)
	cancel()
	_, err = io.ReadAll(r)
	s.is(err, context.Canceled)
	s.ok(r.Close())
	_, _, err = s.store.Get(ended, "there", 0, -1)
	s.is(err, context.Canceled)
	_, _, err = s.store.Get(ended, "there", 0, 0)
	s.is(err, context.Canceled)
	_, err = s.store.Put(ended, "new", nil, object.Condition{})
	s.is(err, context.Canceled)
	_, err = s.store.Upload(ended, "new", bytes.NewReader(nil))
	s.is(err, context.Canceled)
	s.is(s.store.Delete(ended, "there"), context.Canceled)
	s.is(s.store.List(ended, "", "", func(object.Info) error { return nil }), context.Canceled)
	s.lists("", "", "there")
}
