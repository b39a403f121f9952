package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
)

func TestInspect(t *testing.T) {
	p := stopped(t)
	done(t, "snapshot", "save", "--object-store", p.store)
	chunk := p.chunk(t)
	key := "chunks/" + filepath.Base(chunk)
	want := done(t, "inspect", chunk)
	contains(t, want, "kind         chunk", "checks       ok")
	for _, args := range [][]string{
		{p.store + "/" + key}, {"--object-store", p.store, key}, {key, "--object-store", p.store},
	} {
		if got := done(t, append([]string{"inspect"}, args...)...); got != want {
			t.Errorf("%v:\n%s", args, got)
		}
	}
	contains(t, done(t, "inspect", firstOf(t, filepath.Join(p.folder, "snapshots", "*.rows"))), "kind         snapshot")
	contains(t, done(t, "inspect", firstOf(t, filepath.Join(p.folder, "snapshots", "*.json"))), `  "revision": 8,`)
	contains(t, done(t, "inspect", "--verbose", firstOf(t, filepath.Join(p.folder, "snapshots", "*.rows"))), `key="a" value=5B`)
	flip(t, chunk)
	refused(t, chunk+": ", "inspect", chunk)
	refused(t, "kinsy.db", "inspect", filepath.Join(p.data, "kinsy.db"))
}

func TestInspectEncrypted(t *testing.T) {
	clearEnvironment(t)
	keys := writeKeys(t)
	dir := t.TempDir()
	c := nodeConfig(filepath.Join(dir, "data"), "file://"+filepath.Join(dir, "a b"))
	c.ObjectStore.KeyFile = keys
	withNode(t, c, func(_ string, conn *grpc.ClientConn) { put(t, conn, "a", "secret", 0) })
	file := firstOf(t, filepath.Join(dir, "a b", "chunks", "*"))
	key := "chunks/" + filepath.Base(file)
	refused(t, `is encrypted with the key "2026-01"`, "inspect", file)
	refused(t, `is encrypted with the key "2026-01"`, "inspect", key, "--object-store", c.ObjectStore.URL)
	for _, name := range []string{file, "file://" + strings.ReplaceAll(file, " ", "%20")} {
		contains(t, done(t, "inspect", name, "--object-store-key-file", keys), "checks       ok")
	}
	contains(t, done(t, "inspect", key, "--object-store", c.ObjectStore.URL, "--object-store-key-file", keys), "checks       ok")
	contains(t, done(t, "inspect", filepath.Join(dir, "a b", "cluster.json"), "--object-store-key-file", keys), `"cluster_id"`)

	moved := filepath.Join(dir, "moved")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(moved, b, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, "does not authenticate", "inspect", moved, "--object-store-key-file", keys)
	b[9] = 0 // length of the key's id
	if err := os.WriteFile(moved, b, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, "its header is not one", "inspect", moved)
}

func TestSplitObjectURL(t *testing.T) {
	for text, want := range map[string][2]string{
		"s3://bucket/p/chunks/01":          {"s3://bucket/p", "chunks/01"},
		"s3://bucket/chunks/01":            {"s3://bucket", "chunks/01"},
		"s3://bucket/p/q/snapshots/1.rows": {"s3://bucket/p/q", "snapshots/1.rows"},
		"s3://bucket/p/cluster.json":       {"s3://bucket/p", "cluster.json"},
		"file:///a/b/floor.json":           {"file:///a/b", "floor.json"},
	} {
		if store, key := splitObjectURL(text); store != want[0] || key != want[1] {
			t.Errorf("%s: %s and %s", text, store, key)
		}
	}
}
