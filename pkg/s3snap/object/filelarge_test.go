package object

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// zeros is an endless source.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func openStore(t *testing.T) (f *fileStore, folder string) {
	t.Helper()
	folder = t.TempDir()
	f, err := openFile(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f, folder
}

// TestUploadSyncsAsItGrows has no sync write more than a little over syncBytes.
func TestUploadSyncsAsItGrows(t *testing.T) {
	const size = 5*syncBytes + 100
	f, _ := openStore(t)
	var sizes []int64
	f.sync = func(file *os.File) error {
		stat, err := file.Stat()
		if err == nil {
			sizes = append(sizes, stat.Size())
		}
		return err
	}
	if _, err := f.Upload(t.Context(), "snapshots/1", io.LimitReader(zeros{}, size)); err != nil {
		t.Fatal(err)
	}
	synced := int64(0)
	for _, now := range sizes {
		if more := now - synced; more > syncBytes+64<<10 {
			t.Errorf("a sync after %d bytes, want at most %d: %d", more, syncBytes, sizes)
		}
		synced = now
	}
	if synced != size {
		t.Errorf("%d bytes of %d are synced", synced, size)
	}
	sizes = nil
	if _, err := f.Put(t.Context(), "chunks/1", make([]byte, size), Condition{}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(sizes, []int64{size}) {
		t.Errorf("syncs of a Put, which somebody waits for: %d", sizes)
	}
}

func TestUploadFailsWithASync(t *testing.T) {
	f, folder := openStore(t)
	broken := errors.New("broken")
	f.sync = func(*os.File) error { return broken }
	if _, err := f.Upload(t.Context(), "snapshots/1", io.LimitReader(zeros{}, 8*syncBytes)); !errors.Is(err, broken) {
		t.Fatalf("%v, want what the sync met", err)
	}
	if left := temporary(t, folder); len(left) != 0 {
		t.Fatalf("left: %v", left)
	}
}

// temporary returns the sizes of the temporary files.
func temporary(t *testing.T, folder string) (sizes []int64) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(folder, tempFolder))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, info.Size())
	}
	return sizes
}

// sparse makes a large object that takes no space.
func sparse(t *testing.T, f *fileStore, folder, key string, size int64) {
	t.Helper()
	if _, err := f.Put(t.Context(), key, []byte("x"), Condition{}); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(folder, key), size); err != nil {
		t.Fatal(err)
	}
}

// TestDeleteOfALargeObject has it gone at once, and its space in steps, while other changes go on.
func TestDeleteOfALargeObject(t *testing.T) {
	f, folder := openStore(t)
	sparse(t, f, folder, "snapshots/1", 3*shrinkBytes+1)
	version, err := f.Put(t.Context(), "floor.json", []byte("1"), Condition{})
	if err != nil {
		t.Fatal(err)
	}
	var sizes []int64
	f.rest = func(ctx context.Context, d time.Duration) error {
		sizes = append(sizes, temporary(t, folder)...)
		if d != shrinkRest {
			t.Errorf("a rest of %s", d)
		}
		if _, _, err := f.Get(ctx, "snapshots/1", 0, 1); !errors.Is(err, ErrNotFound) {
			t.Errorf("get: %v", err)
		}
		version, err = f.Put(ctx, "floor.json", []byte{byte(len(sizes))}, Condition{IfVersion: version})
		return err
	}
	if err := f.Delete(t.Context(), "snapshots/1"); err != nil {
		t.Fatal(err)
	}
	if want := []int64{2*shrinkBytes + 1, shrinkBytes + 1, 1}; !slices.Equal(sizes, want) {
		t.Errorf("sizes %d, want %d", sizes, want)
	}
	if left := temporary(t, folder); len(left) != 0 || err != nil {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestDeleteThatIsInterruptedLeavesNothing(t *testing.T) {
	f, folder := openStore(t)
	sparse(t, f, folder, "snapshots/1", 100*shrinkBytes)
	ctx, cancel := context.WithCancel(t.Context())
	rests := 0
	f.rest = func(ctx context.Context, d time.Duration) error {
		rests++
		cancel()
		return rest(ctx, time.Hour)
	}
	if err := f.Delete(ctx, "snapshots/1"); err != nil {
		t.Fatal(err)
	}
	if left := temporary(t, folder); rests != 1 || len(left) != 0 {
		t.Errorf("%d rests, left: %v", rests, left)
	}
}

// TestDeleteLeavesOtherNamesTheirContent has a copy that was made as a link.
func TestDeleteLeavesOtherNamesTheirContent(t *testing.T) {
	const size = 3 * shrinkBytes
	f, folder := openStore(t)
	sparse(t, f, folder, "snapshots/1", size)
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.Link(filepath.Join(folder, "snapshots", "1"), copied); err != nil {
		t.Fatal(err)
	}
	if err := f.Delete(t.Context(), "snapshots/1"); err != nil {
		t.Fatal(err)
	}
	stat, err := os.Stat(copied)
	if err != nil || stat.Size() != size {
		t.Fatalf("%v, %v", stat, err)
	}
	if _, _, err := f.Get(t.Context(), "snapshots/1", 0, 1); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
}
