package object_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/flock"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

// files returns the paths of all files in a folder.
func files(t *testing.T, folder string) []string {
	t.Helper()
	var paths []string
	if err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(folder, path)
			paths = append(paths, name)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return paths
}

func write(t *testing.T, s object.Store, key, body string) {
	t.Helper()
	if _, err := s.Put(t.Context(), key, []byte(body), object.Condition{}); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, s object.Store, key string) string {
	t.Helper()
	body, _, err := object.ReadAll(t.Context(), s, key, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestFileLayout(t *testing.T) {
	folder := t.TempDir()
	s := openFile(t, folder)
	write(t, s, "chunks/1", "body")
	if _, err := s.Upload(t.Context(), "snapshots/2.rows", strings.NewReader("rows")); err != nil {
		t.Fatal(err)
	}
	_, _ = s.Put(t.Context(), "chunks/1", []byte("other"), object.Condition{IfAbsent: true})
	_, _ = s.Put(t.Context(), "chunks/1", []byte("other"), object.Condition{IfVersion: "x"})
	_, _ = s.Upload(t.Context(), "chunks/3", io.MultiReader(strings.NewReader("x"), errReader{}))
	want := []string{".lock", "chunks/1", "snapshots/2.rows"}
	if got := files(t, folder); !slices.Equal(got, want) {
		t.Fatalf("files %q, want %q", got, want)
	}
	body, err := os.ReadFile(filepath.Join(folder, "chunks", "1"))
	if err != nil || string(body) != "body" {
		t.Fatalf("%q, %v", body, err)
	}
}

// errReader fails.
type errReader struct{}

// Read implements io.Reader.
func (errReader) Read([]byte) (int, error) { return 0, errors.New("broken") }

func TestFileKeepsWhatItHadWhenOpenedAgain(t *testing.T) {
	folder := t.TempDir()
	s := openFile(t, folder)
	write(t, s, "chunks/1", "body")
	large := bytes.Repeat([]byte("large"), 1<<20)
	version, err := s.Put(t.Context(), "snapshots/1", large, object.Condition{IfAbsent: true})
	if err != nil {
		t.Fatal(err)
	}
	again := openFile(t, folder)
	if got := read(t, again, "chunks/1"); got != "body" {
		t.Fatalf("read %q", got)
	}
	if _, err := again.Put(t.Context(), "snapshots/1", large[1:], object.Condition{IfVersion: version}); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Put(t.Context(), "snapshots/1", large, object.Condition{IfVersion: version}); !errors.Is(err, object.ErrPrecondition) {
		t.Fatal(err)
	}
}

func TestFileRemovesWhatWasLeft(t *testing.T) {
	folder := t.TempDir()
	openFile(t, folder)
	for name, age := range map[string]time.Duration{"old": 25 * time.Hour, "new": time.Hour} {
		path := filepath.Join(folder, ".tmp", name)
		at := time.Now().Add(-age)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	openFile(t, folder)
	if got := files(t, filepath.Join(folder, ".tmp")); !slices.Equal(got, []string{"new"}) {
		t.Fatalf("left are %q", got)
	}
}

func TestFileKeysThatExcludeEachOther(t *testing.T) {
	s := openFile(t, t.TempDir())
	write(t, s, "a/b", "1")
	write(t, s, "c", "2")
	for _, key := range []string{"a", "c/d", "c/d/e"} {
		for _, cond := range []object.Condition{{}, {IfAbsent: true}} {
			if _, err := s.Put(t.Context(), key, []byte("x"), cond); !errors.Is(err, object.ErrBadKey) {
				t.Errorf("put %s %+v: %v", key, cond, err)
			}
		}
		if _, err := s.Upload(t.Context(), key, strings.NewReader("x")); !errors.Is(err, object.ErrBadKey) {
			t.Errorf("upload %s: %v", key, err)
		}
		if _, _, err := s.Get(t.Context(), key, 0, -1); !errors.Is(err, object.ErrNotFound) {
			t.Errorf("get %s: %v", key, err)
		}
	}
	if read(t, s, "a/b") != "1" || read(t, s, "c") != "2" {
		t.Error("what was there is gone")
	}
}

// TestFileLinksLeadNowhere has symbolic links in the folder that lead out of it.
func TestFileLinksLeadNowhere(t *testing.T) {
	folder, outside := t.TempDir(), t.TempDir()
	s := openFile(t, folder)
	if err := errors.Join(os.WriteFile(outside+"/secret", []byte("secret"), 0o600), os.Symlink(outside, folder+"/chunks"),
		os.Symlink(outside+"/secret", folder+"/secret")); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"chunks/secret", "secret"} {
		if r, _, err := s.Get(t.Context(), key, 0, -1); err == nil {
			_ = r.Close()
			t.Errorf("get %s led outside", key)
		}
	}
	if _, err := s.Put(t.Context(), "chunks/1", nil, object.Condition{}); err == nil {
		t.Error("put led outside")
	}
	_ = s.Delete(t.Context(), "chunks/secret")
	if got := files(t, outside); !slices.Equal(got, []string{"secret"}) {
		t.Errorf("outside are %q", got)
	}
	left(t, s)
}

func TestFileErrors(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may do everything")
	}
	folder := t.TempDir()
	s := openFile(t, folder)
	write(t, s, "chunks/1", "x")
	if err := os.Chmod(folder+"/chunks", 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(folder+"/chunks", 0o700) })
	if _, err := s.Put(t.Context(), "chunks/2", nil, object.Condition{IfAbsent: true}); !only(err, object.ErrDenied) {
		t.Error(err)
	}
	if err := s.Delete(t.Context(), "chunks/1"); !only(err, object.ErrDenied) {
		t.Error(err)
	}
}

func TestFileFolderIsAFile(t *testing.T) {
	path := t.TempDir() + "/file"
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{path, path + "/below"} {
		if s, err := object.Open(t.Context(), object.Config{URL: "file://" + folder}); err == nil {
			_ = object.Close(s)
			t.Errorf("%s was opened", folder)
		}
	}
}

// TestFileLock has the lock held by somebody else: conditional writes wait for it, and end with their context.
func TestFileLock(t *testing.T) {
	folder := t.TempDir()
	s := openFile(t, folder)
	write(t, s, "floor.json", "0")
	other := flock.New(filepath.Join(folder, ".lock"))
	if err := other.Lock(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	for _, cond := range []object.Condition{{}, {IfAbsent: true}, {IfVersion: "x"}} {
		if _, err := s.Put(ctx, "new", nil, cond); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%+v: %v", cond, err)
		}
	}
	if err := s.Delete(ctx, "floor.json"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if err := other.Unlock(); err != nil {
		t.Fatal(err)
	}
	write(t, s, "new", "1")
	if got := read(t, s, "floor.json"); got != "0" {
		t.Errorf("read %q", got)
	}
}

// TestFileSharedFolder has two stores on one folder, as two processes have, that count together.
func TestFileSharedFolder(t *testing.T) {
	const writers, each = 2, 20
	folder := t.TempDir()
	write(t, openFile(t, folder), "n", "0")
	var all sync.WaitGroup
	for range writers {
		s := openFile(t, folder)
		all.Go(func() {
			for range each {
				if err := count(t.Context(), s); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if got := read(t, openFile(t, folder), "n"); got != strconv.Itoa(writers*each) {
		t.Fatalf("counted to %s", got)
	}
}

// count adds one to the number in object "n".
func count(ctx context.Context, s object.Store) error {
	for {
		body, info, err := object.ReadAll(ctx, s, "n", 100)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(body))
		if err != nil {
			return err
		}
		_, err = s.Put(ctx, "n", []byte(strconv.Itoa(n+1)), object.Condition{IfVersion: info.Version})
		if !errors.Is(err, object.ErrPrecondition) {
			return err
		}
	}
}
