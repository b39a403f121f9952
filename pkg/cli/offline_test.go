package cli

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/kinsy/kinsy/pkg/node"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

// kinsy runs a command in this process.
func kinsy(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = Main(append([]string{"kinsy"}, args...), &out, &errs)
	return code, out.String(), errs.String()
}

// done runs a command that must succeed.
func done(t *testing.T, args ...string) (stdout string) {
	t.Helper()
	code, stdout, stderr := kinsy(args...)
	if code != 0 {
		t.Fatalf("%v: exit code %d: %s", args, code, stderr)
	}
	return stdout
}

// refused runs a command that must fail, and say why.
func refused(t *testing.T, why string, args ...string) {
	t.Helper()
	code, stdout, stderr := kinsy(args...)
	if code == 0 || !strings.Contains(stderr, why) {
		t.Errorf("%v: exit code %d, %q is not in:\n%s%s", args, code, why, stdout, stderr)
	}
}

func contains(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
}

// value gives what stands after a name in the output of a command.
func value(t *testing.T, text, name string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(rest)
		}
	}
	t.Fatalf("no %q in:\n%s", name, text)
	return ""
}

// tree lists a folder.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		names = append(names, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, "\n")
}

// unchanged runs f and checks that it leaves a folder as it was.
func unchanged(t *testing.T, dir string, f func()) {
	t.Helper()
	before := tree(t, dir)
	f()
	if after := tree(t, dir); after != before {
		t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
	}
}

// nodeConfig is that of a node on a data folder; store is the URL of object storage, empty for none.
func nodeConfig(dir, store string) node.Config {
	c := node.DefaultConfig(true)
	c.DataDir, c.ListenAddress, c.MetricsBindAddress, c.HTTPAddress = dir, "127.0.0.1:0", node.MetricsOff, node.HTTPOff
	c.CompactInterval = 0
	c.ObjectStore.URL = store
	if store != "" {
		c.Quorum = node.QuorumObjectStore
	}
	c.Logger, _ = logtest.NewNullLogger()
	c.Logger.SetLevel(logrus.PanicLevel)
	return c
}

// withNode runs a node while f is its client.
func withNode(t *testing.T, c node.Config, f func(address string, conn *grpc.ClientConn)) {
	t.Helper()
	n, err := node.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), processLimit)
		defer cancel()
		if err := n.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	conn, err := grpc.NewClient(n.Addrs()[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	f(n.Addrs()[0], conn)
}

// put writes a key and returns the revision.
func put(t *testing.T, conn *grpc.ClientConn, key, value string, lease int64) int64 {
	t.Helper()
	r, err := pb.NewKVClient(conn).Put(t.Context(), &pb.PutRequest{Key: []byte(key), Value: []byte(value), Lease: lease})
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}

// history writes puts, deletes, a lease and a Txn of several keys, compacts, and returns the revision at the end: 8.
func history(t *testing.T, conn *grpc.ClientConn) int64 {
	t.Helper()
	kv := pb.NewKVClient(conn)
	_, err := pb.NewLeaseClient(conn).LeaseGrant(t.Context(), &pb.LeaseGrantRequest{ID: 0x77, TTL: 600})
	if err != nil {
		t.Fatal(err)
	}
	put(t, conn, "a", "one", 0)
	put(t, conn, "b", "\xff\x00", 0x77)
	put(t, conn, "a", "two", 0)
	if _, err := kv.DeleteRange(t.Context(), &pb.DeleteRangeRequest{Key: []byte("b")}); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Compact(t.Context(), &pb.CompactionRequest{Revision: 4, Physical: true}); err != nil {
		t.Fatal(err)
	}
	put(t, conn, "c", "with a lease", 0x77)
	var ops []*pb.RequestOp
	for _, key := range []string{"d", "e"} {
		ops = append(ops, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte("txn")}}})
	}
	if _, err := kv.Txn(t.Context(), &pb.TxnRequest{Success: ops}); err != nil {
		t.Fatal(err)
	}
	return put(t, conn, "a", "three", 0)
}

// place is a folder with a stopped node's data and the URL of its object storage.
type place struct {
	data, store string
	folder      string // of the store
	hash        string // of the history
}

// hashOf is the hash of a server's history as kinsy prints it.
func hashOf(t *testing.T, conn *grpc.ClientConn) string {
	t.Helper()
	h, err := pb.NewMaintenanceClient(conn).HashKV(t.Context(), &pb.HashKVRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d at revision %d", h.Hash, h.HashRevision)
}

// stopped makes a place with a history.
func stopped(t *testing.T) place {
	t.Helper()
	clearEnvironment(t)
	dir := t.TempDir()
	p := place{data: filepath.Join(dir, "data"), folder: filepath.Join(dir, "store")}
	p.store = "file://" + p.folder
	withNode(t, nodeConfig(p.data, p.store), func(_ string, conn *grpc.ClientConn) {
		if rev := history(t, conn); rev != 8 {
			t.Fatalf("history ends at revision %d", rev)
		}
		p.hash = hashOf(t, conn)
	})
	return p
}

// chunk names a chunk's file in a place's store.
func (p place) chunk(t *testing.T) string {
	t.Helper()
	return firstOf(t, filepath.Join(p.folder, "chunks", "*"))
}

func firstOf(t *testing.T, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v, %v", pattern, files, err)
	}
	return files[0]
}

// flip damages a byte in the middle of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// writeKeys makes a key file.
func writeKeys(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte("2026-01 "+strings.Repeat("B", 42)+"E=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCommandsRefuseBadFlags(t *testing.T) {
	clearEnvironment(t)
	for why, args := range map[string]string{
		`there is no command "foo"; see kinsy snapshot --help`:       "snapshot foo",
		"kinsy snapshot list takes flags only":                       "snapshot list x",
		"--object-store must be given":                               "snapshot list",
		"--output must be table or json":                             "snapshot list --object-store file:///x --output yaml",
		"--data-dir needs --output":                                  "snapshot save --data-dir x",
		"one of --data-dir and --object-store must be given":         "snapshot save",
		"--force needs --output":                                     "snapshot save --object-store file:///x --force",
		`"x" is not the ID of a snapshot`:                            "snapshot verify x --object-store file:///x",
		"takes one ID or none":                                       "snapshot verify 1 2 --object-store file:///x",
		"one of --from and --object-store must be given":             "restore --latest --data-dir x",
		"one of --latest, --at-revision and --at-time must be given": "restore --object-store file:///x --data-dir x",
		"--latest and --at-revision exclude each other":              "restore --object-store file:///x --data-dir x --latest --at-revision 4",
		"--at-revision must be 1 or more":                            "restore --object-store file:///x --data-dir x --at-revision -1",
		"--at-time must be a time such as":                           "restore --object-store file:///x --data-dir x --at-time yesterday",
		"--at-time needs --object-store":                             "restore --from x --data-dir x --at-time 2026-01-02T15:04:05Z",
		"--data-dir and --to-object-store exclude each other":        "restore --from x --data-dir x --to-object-store file:///y",
		"--to-object-store: --object-store must begin with":          "restore --from x --to-object-store ftp://y",
		"--format must be json or etcd":                              "export --data-dir x",
		"--format etcd needs --output":                               "export --data-dir x --format etcd",
		"--cacert needs --endpoint":                                  "export --data-dir x --format json --cacert ca",
		"--data-dir and --object-store exclude each other":           "export --data-dir x --object-store file:///x --format json",
		"--user and --password must be given together":               "export --endpoint 127.0.0.1:1 --user u --format json",
		"--cert and --key must be given together":                    "export --endpoint 127.0.0.1:1 --cert c --format json",
		"read authorities (--cacert)":                                "export --endpoint 127.0.0.1:1 --cacert /none --format json",
		"--endpoint: an endpoint is host:port":                       "export --endpoint http:// --format json",
		"--from-json, --from-etcd-snapshot and --from-endpoint must": "import --data-dir x",
		"one of --data-dir and --to-endpoint must be given":          "import --from-json x",
		"--to-user needs --to-endpoint":                              "import --from-json x --data-dir x --to-user u",
		"--force needs --to-endpoint":                                "import --from-json x --data-dir x --force",
		"--from-cert needs --from-endpoint":                          "import --from-json x --data-dir x --from-cert u",
		"--drop-auth needs --from-etcd-snapshot or --from-endpoint":  "import --from-json x --data-dir x --drop-auth",
		"kinsy inspect takes one FILE, URL or KEY":                   "inspect",
		"no such file":                                           "inspect /none",
		"open object store: stat /none":                          "snapshot list --object-store file:///none",
		"find log in data folder (--data-dir)":                   "export --data-dir /none --format json",
		"open /none/x.db: no such file":                          "import --from-etcd-snapshot /none/x.db --data-dir " + filepath.Join(t.TempDir(), "d"),
		"the --s3- flags need --object-store s3://BUCKET/PREFIX": "restore --from x --to-object-store file:///x --s3-region r",
		"open object store: stat /none/store: no such file":      "restore --latest --object-store file:///none/store --data-dir " + filepath.Join(t.TempDir(), "d"),
		"--object-store must not hold credentials":               "snapshot list --object-store s3://me:very-secret@bucket/p",
	} {
		refused(t, why, strings.Fields(args)...)
	}
}

// TestCommandLineWinsOverEnvironment: an object store of the environment is not in the way of what the command line names.
func TestCommandLineWinsOverEnvironment(t *testing.T) {
	p := stopped(t)
	t.Setenv("KINSY_OBJECT_STORE", "file:///none")
	contains(t, done(t, "export", "--format", "json", "--data-dir", p.data), `"key":"c"`)
	contains(t, done(t, "inspect", p.chunk(t)), "checks")
	t.Setenv("KINSY_OBJECT_STORE", p.store)
	contains(t, done(t, "snapshot", "list"), "REVISION")
	contains(t, done(t, "export", "--format", "json"), `"key":"c"`)
	contains(t, done(t, "inspect", "cluster.json"), `"cluster_id"`)
}

func TestLockedFolderIsRefused(t *testing.T) {
	p := stopped(t)
	release, err := node.LockDataDir(p.data)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"export --format json", "snapshot save --output " + filepath.Join(t.TempDir(), "s")} {
		refused(t, node.ErrDataDirInUse.Error(), append(strings.Fields(args), "--data-dir", p.data)...)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	done(t, "export", "--format", "json", "--data-dir", p.data)
}

func TestStoreThatDoesNotAnswer(t *testing.T) {
	clearEnvironment(t)
	start := time.Now()
	refused(t, object.ErrUnavailable.Error(), "snapshot", "list", "--object-store", "s3://bucket/p", "--s3-endpoint", "http://"+freeAddress(t),
		"--s3-access-key", "a", "--s3-secret-key", "b")
	if took := time.Since(start); took > processLimit {
		t.Errorf("took %v", took)
	}
}
