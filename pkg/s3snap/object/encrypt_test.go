package object_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

// Sizes of the envelope, as the package documentation has them.
const (
	envelopeHeader  = 80
	envelopeSegment = 64<<10 + 16
)

// sealed returns what an encrypting store keeps for a body, and the store below it.
func sealed(t testing.TB, keys, key string, body []byte) ([]byte, *object.Memory) {
	t.Helper()
	memory := object.NewMemory()
	if _, err := object.Encrypt(memory, ring(t, keys)).Put(t.Context(), key, body, object.Condition{}); err != nil {
		t.Fatal(err)
	}
	raw, _, err := object.ReadAll(t.Context(), memory, key, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return raw, memory
}

// readRaw stores bytes as they are and reads them through an encrypting store.
func readRaw(t testing.TB, keys, key string, raw []byte, offset, length int64) ([]byte, error) {
	t.Helper()
	memory := object.NewMemory()
	if _, err := memory.Put(t.Context(), key, raw, object.Condition{}); err != nil {
		t.Fatal(err)
	}
	r, _, err := object.Encrypt(memory, ring(t, keys)).Get(t.Context(), key, offset, length)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestEncryptedBytes(t *testing.T) {
	body := bytes.Repeat([]byte("secret"), 30_000)
	raw, _ := sealed(t, keyA, "a", body)
	if len(raw) != envelopeHeader+len(body)+3*16 {
		t.Fatalf("%d bytes", len(raw))
	}
	if bytes.Contains(raw, []byte("secretsecret")) || !object.IsEncrypted(raw) || !bytes.Contains(raw[:48], []byte("2026-a")) {
		t.Fatalf("begins with %q", raw[:100])
	}
	again, _ := sealed(t, keyA, "a", body)
	if bytes.Equal(raw[envelopeHeader:], again[envelopeHeader:]) {
		t.Fatal("the same content was encrypted to the same bytes")
	}
	if object.IsEncrypted([]byte("KINSYEN")) || object.IsEncrypted(nil) || object.IsEncrypted(body) {
		t.Fatal("what is not encrypted was taken for it")
	}
}

func TestEveryFlippedByteIsRefused(t *testing.T) {
	for _, size := range []int{0, 100} {
		raw, _ := sealed(t, keyA, "a", make([]byte, size))
		for i := range raw {
			changed := bytes.Clone(raw)
			changed[i] ^= 1
			got, err := readRaw(t, keyA, "a", changed, 0, -1)
			if !errors.Is(err, object.ErrTampered) && !errors.Is(err, object.ErrNotEncrypted) && !errors.Is(err, object.ErrUnknownKey) {
				t.Fatalf("byte %d flipped: got %d bytes, error %v", i, len(got), err)
			}
		}
	}
}

func TestEveryCutIsRefused(t *testing.T) {
	for _, size := range []int{0, 100, 64 << 10, 64<<10 + 1, 200_000} {
		raw, _ := sealed(t, keyA, "a", make([]byte, size))
		step := 1 + len(raw)/500
		for n := 0; n < len(raw); n += step {
			checkCut(t, raw, n)
		}
		for n := envelopeHeader; n < len(raw); n += envelopeSegment {
			checkCut(t, raw, n)
		}
		if _, err := readRaw(t, keyA, "a", append(bytes.Clone(raw), 0), 0, -1); !errors.Is(err, object.ErrTampered) {
			t.Fatalf("a byte more: %v", err)
		}
	}
}

func checkCut(t *testing.T, raw []byte, n int) {
	t.Helper()
	_, err := readRaw(t, keyA, "a", raw[:n], 0, -1)
	if n < envelopeHeader && !errors.Is(err, object.ErrNotEncrypted) || n >= envelopeHeader && !errors.Is(err, object.ErrTampered) {
		t.Fatalf("cut to %d of %d bytes: %v", n, len(raw), err)
	}
}

func TestMovedSegmentsAreRefused(t *testing.T) {
	body := make([]byte, 4*64<<10)
	raw, _ := sealed(t, keyA, "a", body)
	other, _ := sealed(t, keyA, "a", body)
	segment := func(raw []byte, i int) []byte {
		return raw[envelopeHeader+i*envelopeSegment : envelopeHeader+(i+1)*envelopeSegment]
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(append([][]byte{raw[:envelopeHeader]}, parts...), nil) }
	for name, changed := range map[string][]byte{
		"swapped":              join(segment(raw, 1), segment(raw, 0), segment(raw, 2), segment(raw, 3)),
		"repeated":             join(segment(raw, 0), segment(raw, 0), segment(raw, 2), segment(raw, 3)),
		"left out":             join(segment(raw, 0), segment(raw, 2), segment(raw, 3)),
		"last left out":        join(segment(raw, 0), segment(raw, 1), segment(raw, 2)),
		"added after the last": join(segment(raw, 0), segment(raw, 1), segment(raw, 2), segment(raw, 3), segment(raw, 3)),
		"of another object":    join(segment(raw, 0), segment(other, 1), segment(raw, 2), segment(raw, 3)),
	} {
		if _, err := readRaw(t, keyA, "a", changed, 0, -1); !errors.Is(err, object.ErrTampered) {
			t.Errorf("segment %s: %v", name, err)
		}
	}
	if _, err := readRaw(t, keyA, "b", raw, 0, -1); !errors.Is(err, object.ErrTampered) {
		t.Errorf("object under another key: %v", err)
	}
	if _, err := readRaw(t, keyA, "b", raw, 70_000, 10); !errors.Is(err, object.ErrTampered) {
		t.Errorf("part of an object under another key: %v", err)
	}
}

func TestKeyRotation(t *testing.T) {
	raw, memory := sealed(t, keyA, "a", []byte("body"))
	got, err := readRaw(t, keyB+keyA, "a", raw, 0, -1)
	if err != nil || string(got) != "body" {
		t.Fatalf("old key: got %q, %v", got, err)
	}
	rotated := object.Encrypt(memory, ring(t, keyB+keyA))
	if _, err := rotated.Put(t.Context(), "a", []byte("new"), object.Condition{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := object.ReadAll(t.Context(), object.Encrypt(memory, ring(t, keyB)), "a", 100); err != nil {
		t.Fatalf("the first key is not the one that encrypts: %v", err)
	}
	for _, offset := range []int64{0, 1} {
		if _, err := readRaw(t, keyB, "a", raw, offset, -1); !errors.Is(err, object.ErrUnknownKey) {
			t.Fatalf("key that is gone: %v", err)
		}
	}
	const sameID = "2026-a YWJjZGVmZ2hpamFiY2RlZmdoaWphYmNkZWZnaGlqYWI=\n"
	if _, err := readRaw(t, sameID, "a", raw, 0, -1); !errors.Is(err, object.ErrTampered) {
		t.Fatalf("another key of the same id: %v", err)
	}
}

func TestPlainObjectsAreRefused(t *testing.T) {
	for _, size := range []int{0, 10, 80, 200_000} {
		for _, offset := range []int64{0, 1} {
			_, err := readRaw(t, keyA, "a", make([]byte, size), offset, -1)
			if !errors.Is(err, object.ErrNotEncrypted) {
				t.Errorf("%d bytes from %d on: %v", size, offset, err)
			}
		}
	}
}

// FuzzEnvelope reads arbitrary bytes as an encrypted object. Nothing but what was encrypted may come out.
func FuzzEnvelope(f *testing.F) {
	body := make([]byte, 70_000)
	_, _ = rand.NewChaCha8([32]byte{}).Read(body)
	for _, size := range []int{0, 5, len(body)} {
		raw, _ := sealed(f, keyA, "a", body[:size])
		f.Add(raw, int64(0), int64(-1))
		f.Add(raw, int64(3), int64(10))
		f.Add(raw[:len(raw)-1], int64(size), int64(1))
	}
	f.Fuzz(func(t *testing.T, raw []byte, offset, length int64) {
		got, err := readRaw(t, keyA, "a", raw, offset, length)
		if err != nil || offset > 0 && len(got) == 0 {
			return // a size is claimed until the last segment is read
		}
		for _, b := range [][]byte{body, body[:5]} {
			if offset <= int64(len(b)) && bytes.HasPrefix(b[offset:], got) {
				return
			}
		}
		t.Fatalf("%d bytes came out of nowhere", len(got))
	})
}
