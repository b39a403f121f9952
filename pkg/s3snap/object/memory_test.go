package object_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

// everything calls each method once and returns the errors.
func everything(ctx context.Context, s object.Store) []error {
	_, _, get := s.Get(ctx, "there", 0, -1)
	list := s.List(ctx, "th", "", func(object.Info) error { return nil })
	_, put := s.Put(ctx, "put", []byte("x"), object.Condition{IfAbsent: true})
	_, upload := s.Upload(ctx, "upload", strings.NewReader("y"))
	return []error{get, list, put, upload, s.Delete(ctx, "there", "gone")}
}

func TestMemoryHooks(t *testing.T) {
	broken := errors.New("broken")
	for name, took := range map[string]bool{"before": false, "after": true} {
		m := object.NewMemory()
		write(t, m, "there", "body")
		var seen []string
		hook := func(op object.Op, key string) error {
			seen = append(seen, fmt.Sprint(op, " ", key))
			return broken
		}
		if took {
			m.After = hook
		} else {
			m.Before = hook
		}
		for i, err := range everything(t.Context(), m) {
			if !errors.Is(err, broken) {
				t.Errorf("%s, call %d: %v", name, i, err)
			}
		}
		m.Before, m.After = nil, nil
		if want := []string{"get there", "list th", "put put", "upload upload", "delete there"}; !slices.Equal(seen, want) {
			t.Errorf("%s: seen %q", name, seen)
		}
		for key, exists := range map[string]bool{"there": !took, "put": took, "upload": took} {
			if _, _, err := m.Get(t.Context(), key, 0, 0); (err == nil) != exists {
				t.Errorf("%s: get %s: %v", name, key, err)
			}
		}
	}
}

func TestMemoryClockAndCopies(t *testing.T) {
	m := object.NewMemory()
	at := time.Unix(1234, 0)
	m.Now = func() time.Time { return at }
	body := []byte("body")
	if _, err := m.Put(t.Context(), "a", body, object.Condition{}); err != nil {
		t.Fatal(err)
	}
	body[0] = 'x'
	got, info, err := object.ReadAll(t.Context(), m, "a", 10)
	if err != nil || string(got) != "body" || !info.Modified.Equal(at) {
		t.Fatalf("got %q, %+v, %v", got, info, err)
	}
	got[0] = 'y'
	if read(t, m, "a") != "body" {
		t.Fatal("the store's own bytes were given out")
	}
}

// lying is a store whose bodies are not as long as it says.
type lying struct {
	*object.Memory
	size int64
}

// Get implements object.Store.
func (l lying) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, object.Info, error) {
	_, info, err := l.Memory.Get(ctx, key, offset, length)
	return io.NopCloser(bytes.NewReader(make([]byte, l.size))), info, err
}

func TestReadAllWantsWhatWasAnnounced(t *testing.T) {
	m := object.NewMemory()
	write(t, m, "a", "12345")
	for size, good := range map[int64]bool{4: false, 5: true, 6: false} {
		if _, _, err := object.ReadAll(t.Context(), lying{m, size}, "a", 100); (err == nil) != good {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if _, _, err := object.ReadAll(t.Context(), m, "none", 100); !errors.Is(err, object.ErrNotFound) {
		t.Error(err)
	}
}
