package s3snap

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

// cutStore ends downloads early, some bytes later each time.
type cutStore struct {
	object.Store

	mu       sync.Mutex
	random   *rand.Rand
	gets     int
	wanted   int64 // bytes asked for, in all
	inFlight int
	most     int
}

func (s *cutStore) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, object.Info, error) {
	s.mu.Lock()
	s.gets++
	s.wanted += length
	s.inFlight++
	s.most = max(s.most, s.inFlight)
	cut := s.random.Int64N(2 * length)
	s.mu.Unlock()
	body, info, err := s.Store.Get(ctx, key, offset, length)
	if err != nil {
		return nil, info, err
	}
	return &cutBody{ReadCloser: body, left: cut, store: s}, info, nil
}

// cutBody is a download that breaks off.
type cutBody struct {
	io.ReadCloser
	left  int64
	store *cutStore
}

func (b *cutBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, object.ErrUnavailable
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

func (b *cutBody) Close() error {
	b.store.mu.Lock()
	b.store.inFlight--
	b.store.mu.Unlock()
	return b.ReadCloser.Close()
}

// TestDownloadGoesOnWhereItBrokeOff: what has come is not asked for again, parts
// come side by side, and every byte is right.
func TestDownloadGoesOnWhereItBrokeOff(t *testing.T) {
	want := make([]byte, 5*partBytes+12345)
	for i := range want {
		want[i] = byte(i ^ i>>8 ^ i>>16)
	}
	memory := object.NewMemory()
	if _, err := memory.Upload(t.Context(), "snapshot", bytes.NewReader(want)); err != nil {
		t.Fatal(err)
	}
	store := &cutStore{Store: memory, random: rand.New(rand.NewPCG(1, 2))}
	r := newRangedReader(t.Context(), store, "snapshot", int64(len(want)), partsInFlight)
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes of %d: %v", len(got), len(want), err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if store.gets <= 6 || store.wanted >= 4*int64(len(want)) {
		t.Errorf("%d requests for %d bytes in all, of an object of %d", store.gets, store.wanted, len(want))
	}
	if store.most < 2 {
		t.Error("one part at a time")
	}
}

// TestDownloadThatIsGivenUp: Close ends it, and its goroutines.
func TestDownloadThatIsGivenUp(t *testing.T) {
	memory := object.NewMemory()
	if _, err := memory.Upload(t.Context(), "snapshot", bytes.NewReader(make([]byte, 20*partBytes))); err != nil {
		t.Fatal(err)
	}
	r := newRangedReader(t.Context(), memory, "snapshot", 20*partBytes, partsInFlight)
	if _, err := r.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDownloadOfAnotherObject: one that was replaced, or is gone.
func TestDownloadOfAnotherObject(t *testing.T) {
	memory := object.NewMemory()
	if _, err := memory.Upload(t.Context(), "snapshot", bytes.NewReader(make([]byte, 100))); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]error{"snapshot": ErrCorruptChain, "gone": object.ErrNotFound} {
		r := newRangedReader(t.Context(), memory, key, 200, partsInFlight)
		if _, err := io.ReadAll(r); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", key, err, want)
		}
		_ = r.Close()
	}
}
