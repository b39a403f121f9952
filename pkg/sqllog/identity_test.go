package sqllog

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
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

// TestClusterIsChecked: a new log takes the cluster that it is made for; one of
// another cluster is refused untouched.
func TestClusterIsChecked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	open := func(cluster uint64) (Identity, error) {
		t.Helper()
		l, err := Open(context.Background(), Config{Path: path, Cluster: cluster, Logger: quiet()})
		if err != nil {
			return Identity{}, err
		}
		id := l.Identity()
		return id, l.Close()
	}
	first, err := open(0xbeef)
	if err != nil || first.Cluster != 0xbeef || first.Node == 0 {
		t.Fatalf("%+v, %v", first, err)
	}
	for _, cluster := range []uint64{0, 0xbeef} {
		if id, err := open(cluster); err != nil || id != first {
			t.Errorf("cluster %x: %+v, %v", cluster, id, err)
		}
	}
	before := files(t, filepath.Dir(path))
	if _, err := open(0xdead); !errors.Is(err, ErrOtherCluster) || !strings.Contains(err.Error(), "000000000000beef, not 000000000000dead") {
		t.Errorf("another cluster: %v", err)
	}
	if after := files(t, filepath.Dir(path)); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Error("files were changed")
	}
}
