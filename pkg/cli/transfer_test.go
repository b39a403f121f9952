package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// TestEtcdFileThereAndBack exports each source as an etcd database and imports that: the hash is the server's own.
func TestEtcdFileThereAndBack(t *testing.T) {
	p := stopped(t)
	out := t.TempDir()
	check := func(name string, source ...string) {
		file := filepath.Join(out, name)
		exported := done(t, append([]string{"export", "--format", "etcd", "--output", file}, source...)...)
		if value(t, exported, "hash") != p.hash || value(t, exported, "keys") != "4" || value(t, exported, "leases") != "1" {
			t.Errorf("%s: want hash %s:\n%s", name, p.hash, exported)
		}
		refused(t, "exists; give --force", append([]string{"export", "--format", "etcd", "--output", file}, source...)...)
		done(t, append([]string{"export", "--format", "etcd", "--output", file, "--force"}, source...)...)
		dir := filepath.Join(t.TempDir(), "imported")
		imported := done(t, "import", "--from-etcd-snapshot", file, "--data-dir", dir)
		if value(t, imported, "hash") != p.hash || value(t, imported, "compacted") != "4" {
			t.Errorf("%s: want hash %s:\n%s", name, p.hash, imported)
		}
		withNode(t, nodeConfig(dir, ""), func(_ string, conn *grpc.ClientConn) {
			if got := hashOf(t, conn); got != p.hash {
				t.Errorf("%s: hash %s, want %s", name, got, p.hash)
			}
		})
	}
	check("folder", "--data-dir", p.data)
	check("store", "--object-store", p.store)
	withNode(t, nodeConfig(p.data, p.store), func(address string, _ *grpc.ClientConn) { check("server", "--endpoint", address) })
	if got := tree(t, out); strings.Count(got, "\n") != 3 {
		t.Errorf("left behind:\n%s", got)
	}
}

func TestJSONThereAndBack(t *testing.T) {
	p := stopped(t)
	file := filepath.Join(t.TempDir(), "keys.json")
	code, lines, summary := kinsy("export", "--format", "json", "--all-revisions", "--data-dir", p.data)
	if code != 0 || value(t, summary, "hash") != p.hash {
		t.Fatalf("exit code %d, %s", code, summary)
	}
	contains(t, done(t, "export", "--format", "json", "--all-revisions", "--data-dir", p.data, "--output", file), file)
	if b, err := os.ReadFile(file); err != nil || string(b) != lines {
		t.Errorf("%v, another text in the file:\n%s", err, b)
	}
	dir := filepath.Join(t.TempDir(), "imported")
	imported := done(t, "import", "--from-json", file, "--data-dir", dir)
	if value(t, imported, "hash") != p.hash || value(t, imported, "revision") != "8" {
		t.Errorf("want hash %s:\n%s", p.hash, imported)
	}
	if all(t, "--data-dir", dir) != lines {
		t.Error("another history")
	}
	code, _, summary = kinsy("export", "--format", "json", "--data-dir", p.data)
	if code != 0 || strings.Contains(summary, "hash") {
		t.Errorf("a hash although history is left out: %s", summary)
	}
}

func TestImportFromAndToServers(t *testing.T) {
	p := stopped(t)
	dir := t.TempDir()
	withNode(t, nodeConfig(p.data, p.store), func(from string, _ *grpc.ClientConn) {
		imported := done(t, "import", "--from-endpoint", "http://"+from, "--data-dir", filepath.Join(dir, "a"))
		if value(t, imported, "hash") != p.hash {
			t.Errorf("want hash %s:\n%s", p.hash, imported)
		}
		withNode(t, nodeConfig(filepath.Join(dir, "b"), ""), func(to string, conn *grpc.ClientConn) {
			args := []string{"import", "--from-endpoint", from, "--to-endpoint", to}
			contains(t, done(t, args...), "keys have new revisions there")
			expectValue(t, conn, "a", "three")
			expectValue(t, conn, "c", "with a lease")
			ttl, err := pb.NewLeaseClient(conn).LeaseTimeToLive(t.Context(), &pb.LeaseTimeToLiveRequest{ID: 0x77, Keys: true})
			if err != nil || ttl.GrantedTTL != 600 || len(ttl.Keys) != 1 {
				t.Errorf("%v, %v", ttl, err)
			}
			refused(t, "the target has keys", args...)
			put(t, conn, "a", "mine", 0)
			done(t, append(args, "--force")...)
			expectValue(t, conn, "a", "three")
		})
	})
	refused(t, "", "import", "--from-endpoint", freeAddress(t), "--data-dir", filepath.Join(dir, "c"))
	if _, err := os.Lstat(filepath.Join(dir, "c")); err == nil {
		t.Error("the folder was left behind")
	}
}

func TestImportRefusesAndLeavesNothing(t *testing.T) {
	clearEnvironment(t)
	dir := t.TempDir()
	full := filepath.Join(dir, "full")
	bad := filepath.Join(dir, "bad")
	if err := os.MkdirAll(full, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{filepath.Join(full, "x"), bad} {
		if err := os.WriteFile(file, []byte("{\"format\":\"kinsy-json-1\",\"revision\":9,\"compact_revision\":9}\nnonsense\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fresh := filepath.Join(dir, "fresh")
	for why, args := range map[string][]string{
		"is not empty: it has x": {"--from-json", bad, "--data-dir", full},
		"line 2":                 {"--from-json", bad, "--data-dir", fresh},
		"read etcd database":     {"--from-etcd-snapshot", bad, "--data-dir", fresh},
	} {
		unchanged(t, dir, func() { refused(t, why, append([]string{"import"}, args...)...) })
	}
}
