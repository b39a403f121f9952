package sqllog

import (
	"context"
	"path/filepath"
	"testing"
)

func TestIdentityStaysWithTheFile(t *testing.T) {
	open := func(path string) Identity {
		t.Helper()
		l, err := Open(context.Background(), Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}()
		return l.Identity()
	}
	dir := t.TempDir()
	first := open(filepath.Join(dir, "a.db"))
	if first.Cluster == 0 || first.Node == 0 || first.Cluster == first.Node {
		t.Fatalf("identity %+v", first)
	}
	if again := open(filepath.Join(dir, "a.db")); again != first {
		t.Errorf("reopened as %+v, was %+v", again, first)
	}
	if other := open(filepath.Join(dir, "b.db")); other == first {
		t.Errorf("two logs have one identity %+v", other)
	}
}
