package object_test

import (
	"os"
	"testing"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/s3snap/object/objecttest"
)

func TestMemory(t *testing.T) {
	objecttest.Run(t, func(*testing.T) object.Store { return object.NewMemory() })
}

func TestFile(t *testing.T) {
	t.Parallel()
	objecttest.Run(t, func(t *testing.T) object.Store { return openFile(t, t.TempDir()+"/a b/store") })
}

// openFile opens a file store until the test ends.
func openFile(t *testing.T, folder string) object.Store {
	t.Helper()
	return open(t, object.Config{URL: "file://" + folder})
}

func open(t *testing.T, c object.Config) object.Store {
	t.Helper()
	s, err := object.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := object.Close(s); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestEncryptedMemory(t *testing.T) {
	objecttest.Run(t, func(t *testing.T) object.Store { return object.Encrypt(object.NewMemory(), ring(t, keyA)) })
}

func TestEncryptedFile(t *testing.T) {
	t.Parallel()
	objecttest.Run(t, func(t *testing.T) object.Store {
		return open(t, object.Config{URL: "file://" + t.TempDir(), KeyFile: keyFile(t, keyA)})
	})
}

// Lines of key files.
const (
	keyA = "2026-a MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n"
	keyB = "2026-b YWJjZGVmZ2hpamFiY2RlZmdoaWphYmNkZWZnaGlqYWI=\n"
)

func ring(t testing.TB, text string) *object.KeyRing {
	t.Helper()
	keys, err := object.ParseKeys([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// keyFile writes a key file.
func keyFile(t *testing.T, text string) string {
	t.Helper()
	path := t.TempDir() + "/keys"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
