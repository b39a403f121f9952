package objecttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

// limit bounds one subtest.
const limit = 2 * time.Minute

// Run runs the suite. open returns an empty store that nothing else uses; it may be called several times at once, and
// cleans up by t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) object.Store) {
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"put and get", (*suite).putAndGet},
		{"ranges", (*suite).ranges},
		{"absent objects", (*suite).absent},
		{"create once", (*suite).createOnce},
		{"compare and swap", (*suite).compareAndSwap},
		{"overwrite", (*suite).overwrite},
		{"list", (*suite).list},
		{"list order", (*suite).listOrder},
		{"list pages", (*suite).listPages},
		{"list and change", (*suite).listAndChange},
		{"delete", (*suite).delete},
		{"upload", (*suite).upload},
		{"upload that fails", (*suite).uploadFails},
		{"bad keys", (*suite).badKeys},
		{"ended context", (*suite).endedContext},
		{"racing creates", (*suite).racingCreates},
		{"racing swaps", (*suite).racingSwaps},
		{"reads of what is replaced", (*suite).replacedReads},
		{"parallel ranges", (*suite).parallelRanges},
		{"probe", (*suite).probe},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			test.run(&suite{T: t, ctx: ctx, store: open(t)})
		})
	}
}

// suite is one subtest and the store it runs on.
type suite struct {
	*testing.T
	ctx   context.Context
	store object.Store
}

// sizes are those at which stores have edges: nothing, segments of encryption, what the file store hashes.
var sizes = []int{0, 1, 15, 1000, 64<<10 - 1, 64 << 10, 64<<10 + 1, 128 << 10, 1<<20 - 1, 1 << 20, 1<<20 + 17}

// content returns n bytes that depend on seed.
func content(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(n), byte(n >> 8)})
	_, _ = r.Read(b)
	return b
}

// put writes without a condition.
func (s *suite) put(key string, body []byte) string {
	s.Helper()
	version, err := s.store.Put(s.ctx, key, body, object.Condition{})
	s.ok(err)
	if version == "" {
		s.Fatalf("no version from Put of %s", key)
	}
	return version
}

// get reads part of an object.
func (s *suite) get(key string, offset, length int64) ([]byte, object.Info) {
	s.Helper()
	r, info, err := s.store.Get(s.ctx, key, offset, length)
	s.ok(err)
	body, err := io.ReadAll(r)
	s.ok(err)
	s.ok(r.Close())
	return body, info
}

// ok ends the test on an error.
func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// is ends the test unless err is target.
func (s *suite) is(err, target error) {
	s.Helper()
	if !errors.Is(err, target) {
		s.Fatalf("got error %v, want %v", err, target)
	}
}

// holds ends the test unless the object has a content.
func (s *suite) holds(key string, want []byte) object.Info {
	s.Helper()
	got, info := s.get(key, 0, -1)
	if !bytes.Equal(got, want) {
		s.Fatalf("%s: %d bytes do not equal the %d written", key, len(got), len(want))
	}
	if info.Key != key || info.Size != int64(len(want)) || info.Version == "" {
		s.Fatalf("%s: wrong info %+v for %d bytes", key, info, len(want))
	}
	return info
}

// missing ends the test if there is an object.
func (s *suite) missing(key string) {
	s.Helper()
	_, _, err := s.store.Get(s.ctx, key, 0, -1)
	s.is(err, object.ErrNotFound)
	_, _, err = s.store.Get(s.ctx, key, 0, 0)
	s.is(err, object.ErrNotFound)
	_, _, err = s.store.Get(s.ctx, key, 5, 10)
	s.is(err, object.ErrNotFound)
}

// keys lists.
func (s *suite) keys(prefix, after string) []string {
	s.Helper()
	var keys []string
	s.ok(s.store.List(s.ctx, prefix, after, func(info object.Info) error {
		keys = append(keys, info.Key)
		return nil
	}))
	return keys
}

// lists ends the test unless a List gives these keys in this order.
func (s *suite) lists(prefix, after string, want ...string) {
	s.Helper()
	if got := s.keys(prefix, after); !slices.Equal(got, want) {
		s.Fatalf("list %q after %q: got %q, want %q", prefix, after, got, want)
	}
}

func (s *suite) putAndGet() {
	for i, size := range sizes {
		key := fmt.Sprintf("chunks/%020d", i)
		body := content(uint64(i), size)
		version := s.put(key, body)
		info := s.holds(key, body)
		if info.Version != version {
			s.Fatalf("%s: version %q from Put and %q from Get", key, version, info.Version)
		}
		if age := time.Since(info.Modified); !info.Modified.IsZero() && (age > time.Hour || age < -time.Hour) {
			s.Fatalf("%s: modified at %v", key, info.Modified)
		}
		got, _, err := object.ReadAll(s.ctx, s.store, key, int64(size))
		s.ok(err)
		if !bytes.Equal(got, body) {
			s.Fatalf("%s: ReadAll gives other bytes", key)
		}
		if size > 0 {
			if _, _, err := object.ReadAll(s.ctx, s.store, key, int64(size)-1); err == nil {
				s.Fatalf("%s: ReadAll goes beyond its limit", key)
			}
		}
	}
}

func (s *suite) ranges() {
	const key = "snapshots/a.rows"
	for _, size := range []int64{0, 1, 100, 64 << 10, 200_000} {
		body := content(7, int(size))
		version := s.put(key, body)
		for range 30 {
			offset := rand.Int64N(size + 1)
			s.rangeIs(key, version, body, offset, rand.Int64N(size+10))
		}
		for _, offset := range []int64{0, 1, size / 2, size - 1, size} {
			for _, length := range []int64{-1, 0, 1, 2, 64 << 10, size - offset, size, size + 1, 1 << 40} {
				if offset >= 0 && offset <= size {
					s.rangeIs(key, version, body, offset, length)
				}
			}
		}
		for _, offset := range []int64{-1, -size - 1, size + 1, size + 1<<20} {
			for _, length := range []int64{-1, 0, 1, 1000} {
				_, _, err := s.store.Get(s.ctx, key, offset, length)
				s.is(err, object.ErrOffset)
			}
		}
	}
}

// rangeIs checks one ranged Get.
func (s *suite) rangeIs(key, version string, body []byte, offset, length int64) {
	s.Helper()
	want := body[offset:]
	if length >= 0 && length < int64(len(want)) {
		want = want[:length]
	}
	got, info := s.get(key, offset, length)
	if !bytes.Equal(got, want) {
		s.Fatalf("%d bytes from %d of %d: got %d other ones", length, offset, len(body), len(got))
	}
	if info.Key != key || info.Size != int64(len(body)) || info.Version != version {
		s.Fatalf("%d bytes from %d: info %+v, want size %d, version %q", length, offset, info, len(body), version)
	}
}

func (s *suite) absent() {
	s.lists("", "")
	s.missing("cluster.json")
	s.missing("chunks/1/2/3")
	s.ok(s.store.Delete(s.ctx, "cluster.json", "chunks/1"))
	s.ok(s.store.Delete(s.ctx))
	s.put("chunks/1", nil)
	s.missing("chunks")
	s.missing("chunks/1/2")
	s.missing("chunks/11")
	s.ok(s.store.Delete(s.ctx, "chunks", "chunks/11"))
	s.lists("", "", "chunks/1")
}
