package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/kinsy/kinsy/pkg/node"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// all is what kinsy export writes of a source.
func all(t *testing.T, source ...string) string {
	t.Helper()
	return done(t, append([]string{"export", "--format", "json", "--all-revisions"}, source...)...)
}

func TestRestoreToFolder(t *testing.T) {
	p := stopped(t)
	dir := filepath.Join(t.TempDir(), "a", "new folder")
	out := done(t, "restore", "--object-store", p.store, "--latest", "--data-dir", dir)
	if value(t, out, "revision") != "8" || value(t, out, "start it") != "kinsy server --data-dir '"+dir+"'" {
		t.Errorf("restored:\n%s", out)
	}
	if cluster := value(t, out, "cluster"); strings.Contains(done(t, "inspect", p.store+"/cluster.json"), cluster[:16]) {
		t.Error("the cluster is not a new one")
	}
	if when, err := time.Parse(time.RFC3339, value(t, out, "last write")); err != nil || time.Since(when) > time.Hour {
		t.Errorf("last write %v, %v", when, err)
	}
	if all(t, "--data-dir", dir) != all(t, "--data-dir", p.data) {
		t.Error("another history")
	}
	withNode(t, nodeConfig(dir, ""), func(_ string, conn *grpc.ClientConn) {
		expectValue(t, conn, "a", "three")
		if got := hashOf(t, conn); got != p.hash {
			t.Errorf("hash %s, was %s", got, p.hash)
		}
	})
	if _, err := node.Start(t.Context(), nodeConfig(dir, p.store)); err == nil {
		t.Error("the restored node joins the old prefix")
	}
}

func TestRestoreToAPoint(t *testing.T) {
	p := stopped(t)
	dir := filepath.Join(t.TempDir(), "revision")
	out := done(t, "restore", "--object-store", p.store, "--at-revision", "6", "--data-dir", dir)
	got := done(t, "export", "--format", "json", "--data-dir", dir)
	if value(t, out, "revision") != "6" || !strings.Contains(got, `"key":"c"`) || strings.Contains(got, `"key":"d"`) {
		t.Errorf("restored:\n%s%s", out, got)
	}
	dir = filepath.Join(t.TempDir(), "time")
	out = done(t, "restore", "--object-store", p.store, "--at-time", time.Now().UTC().Format(time.RFC3339Nano), "--data-dir", dir)
	if value(t, out, "revision") != "8" {
		t.Errorf("restored:\n%s", out)
	}
}

// TestRestoreToStore goes on from a restored prefix, once with all rows still there and once from a file.
func TestRestoreToStore(t *testing.T) {
	p := stopped(t)
	file := filepath.Join(t.TempDir(), "snapshot")
	done(t, "snapshot", "save", "--data-dir", p.data, "--output", file)
	for name, from := range map[string][]string{
		"all":           {"--object-store", p.store, "--latest"},
		"not compacted": {"--object-store", p.store, "--at-revision", "3"},
		"file":          {"--from", file},
	} {
		t.Run(name, func(t *testing.T) {
			temp := t.TempDir()
			t.Setenv("TMPDIR", temp)
			url := "file://" + filepath.Join(t.TempDir(), "new")
			args := append([]string{"restore", "--to-object-store", url}, from...)
			out := done(t, args...)
			contains(t, value(t, out, "start it"), "--object-store "+url)
			contains(t, done(t, "snapshot", "verify", "--object-store", url), "snapshot ", "chunks: ")
			before := all(t, "--object-store", url)
			refused(t, "is not empty; nothing was changed", args...)
			withNode(t, nodeConfig(filepath.Join(t.TempDir(), "node"), url), func(_ string, conn *grpc.ClientConn) {
				put(t, conn, "z", "after", 0)
			})
			if after := all(t, "--object-store", url); !strings.Contains(after, `"key":"z"`) || strings.Count(after, "\n") != strings.Count(before, "\n")+1 {
				t.Errorf("before:\n%safter:\n%s", before, after)
			}
			if got := tree(t, temp); got != temp {
				t.Errorf("left behind:\n%s", got)
			}
		})
	}
}

func TestRestoreEncrypted(t *testing.T) {
	p := stopped(t)
	keys := writeKeys(t)
	dir := t.TempDir()
	store := "file://" + filepath.Join(dir, "store")
	c := nodeConfig(filepath.Join(dir, "data"), store)
	c.ObjectStore.KeyFile = keys
	withNode(t, c, func(_ string, conn *grpc.ClientConn) { history(t, conn) })
	to := "file://" + filepath.Join(dir, "copy")
	done(t, "restore", "--object-store", store, "--object-store-key-file", keys, "--latest", "--to-object-store", to)
	contains(t, done(t, "snapshot", "verify", "--object-store", to, "--object-store-key-file", keys), "sound")
	refused(t, "", "snapshot", "verify", "--object-store", to)
	refused(t, object.ErrNotEncrypted.Error(), "snapshot", "verify", "--object-store", p.store, "--object-store-key-file", keys)
}

func TestRestoreRefusesAndLeavesNothing(t *testing.T) {
	p := stopped(t)
	dir := t.TempDir()
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	full := filepath.Join(dir, "full")
	broken := filepath.Join(dir, "broken")
	empty := filepath.Join(dir, "empty")
	for _, d := range []string{full, empty} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(full, "notes"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	done(t, "snapshot", "save", "--data-dir", p.data, "--output", broken)
	flip(t, broken)
	fresh := filepath.Join(dir, "not", "yet")
	from := []string{"restore", "--object-store", p.store}
	for why, args := range map[string][]string{
		"is not empty: it has notes; nothing was changed": append(from, "--latest", "--data-dir", full),
		"is not empty: it has kinsy.db":                   append(from, "--latest", "--data-dir", p.data),
		"it ends at revision 8, before 99":                append(from, "--at-revision", "99", "--data-dir", fresh),
		"before 98":                                       append(from, "--at-revision", "98", "--data-dir", empty),
		"before 97":                                       append(from, "--at-revision", "97", "--to-object-store", "file://"+fresh),
		"nothing was written by then":                     append(from, "--at-time", "2020-01-02T15:04:05Z", "--data-dir", fresh),
		"restore " + broken:                               {"restore", "--from", broken, "--data-dir", fresh},
		p.store + " is not empty":                         {"restore", "--from", broken, "--to-object-store", p.store},
		"no such history in object storage":               {"restore", "--object-store", "file://" + t.TempDir(), "--latest", "--data-dir", fresh},
	} {
		unchanged(t, dir, func() { refused(t, why, args...) })
	}
	if got := tree(t, temp); got != temp {
		t.Errorf("left behind:\n%s", got)
	}
}

// TestRestoreOverLeftovers: what a killed restore has left is not in the way.
func TestRestoreOverLeftovers(t *testing.T) {
	p := stopped(t)
	dir := t.TempDir()
	for _, name := range []string{"kinsy.db.loading", "kinsy.db.loading-wal", "kinsy.lock"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("left"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	done(t, "restore", "--object-store", p.store, "--latest", "--data-dir", dir)
	if strings.Contains(tree(t, dir), "loading") {
		t.Errorf("left behind:\n%s", tree(t, dir))
	}
}

// TestSeedThatFails leaves neither objects nor folders, but what was there before.
func TestSeedThatFails(t *testing.T) {
	p := stopped(t)
	log, err := sqllog.Open(t.Context(), sqllog.Config{Path: logPath(p.data)})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	s := &session{log: nodeConfig(dir, "").Logger}
	unchanged(t, dir, func() {
		if err := s.seed(ended, object.Config{URL: "file://" + filepath.Join(dir, "a", "b")}, log); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	unchanged(t, p.folder, func() {
		if err := removeUnused(p.folder, []string{p.folder}); err != nil {
			t.Error(err)
		}
	})
}
