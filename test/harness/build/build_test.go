package build

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
)

// TestRootIsFoundFromFoldersBelow looks for the repository from this package's folder and from outside.
func TestRootIsFoundFromFoldersBelow(t *testing.T) {
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	if found, _ := filepath.Glob(filepath.Join(root, "test", "harness", "build", "build.go")); len(found) != 1 {
		t.Errorf("%s is not the repository", root)
	}
	t.Chdir(t.TempDir())
	if root, err := Root(); !errors.Is(err, ErrNoRepository) {
		t.Errorf("found %s, %v", root, err)
	}
}

// TestNamedBinaryIsNotBuilt names one.
func TestNamedBinaryIsNotBuilt(t *testing.T) {
	t.Setenv(Binary, "/somewhere/kinsy")
	if path, err := Kinsy(context.Background(), t.TempDir()); err != nil || path != "/somewhere/kinsy" {
		t.Errorf("%s, %v", path, err)
	}
}
