package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/kinsy/kinsy/pkg/server"
	"github.com/kinsy/kinsy/pkg/transfer"
)

var (
	flagHistories = flag.Int("histories", 6, "random histories in each direction")
	flagChanges   = flag.Int("changes", 300, "changes in each history")
	flagSeed      = flag.Uint64("seed", 1, "seed of the first history")
)

// each runs a test once for each history.
func each(t *testing.T, test func(t *testing.T, seed uint64)) {
	for i := range *flagHistories {
		seed := *flagSeed + uint64(i)
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			test(t, seed)
		})
	}
}

// tools builds etcdctl and etcdutl once.
var tools = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kinsy-transfer-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", dir, "go.etcd.io/etcd/etcdctl/v3", "go.etcd.io/etcd/etcdutl/v3")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("build etcdctl and etcdutl: %w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if dir, _ := tools(); dir != "" {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// run runs one of etcd's tools.
func run(t *testing.T, tool string, args ...string) []byte {
	t.Helper()
	dir, err := tools()
	ok(t, err)
	cmd := exec.CommandContext(call(t), filepath.Join(dir, tool), args...)
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", tool, args, err, problems.Bytes())
	}
	return out
}

// restored runs an etcd on what etcdutl makes of a snapshot file.
func restored(t *testing.T, file string) *peer {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "restored")
	run(t, "etcdutl", "snapshot", "restore", file, "--data-dir", dir,
		"--initial-cluster", "default=http://127.0.0.1:0", "--initial-advertise-peer-urls", "http://127.0.0.1:0")
	return startEtcd(t, dir)
}

// etcd's hashes are compared after a restart: until then it answers some from
// what it remembers of its compactions.
func TestEtcdToKinsy(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, seed uint64) {
		dir := t.TempDir()
		etcd := startEtcd(t, dir)
		writeAll(t, etcd, seed, *flagChanges)
		etcd.stop()
		etcd = startEtcd(t, dir)
		want := stateOf(t, etcd)

		saved := filepath.Join(t.TempDir(), "etcdctl.db")
		run(t, "etcdctl", "--endpoints", etcd.addr, "snapshot", "save", saved)
		t.Run("etcdctl snapshot save", func(t *testing.T) { importFile(t, saved, want) })
		t.Run("Fetch", func(t *testing.T) { fetch(t, etcd, want) })
		t.Run("Fetch by key", func(t *testing.T) { fetchKeys(t, etcd, want) })
		etcd.stop()
		t.Run("database file", func(t *testing.T) {
			importFile(t, filepath.Join(dir, "member", "snap", "db"), want)
		})
	})
}

func importFile(t *testing.T, path string, want state) {
	k, s := imported(t, func(sink transfer.Sink) (transfer.Summary, error) {
		return transfer.ReadEtcdDB(context.Background(), path, sink, transfer.ReadOptions{})
	})
	wantSummary(t, s, want)
	wantSame(t, stateOf(t, k.peer), want)
	// Once more after what is compacted was removed, and what was removed stays so.
	path, compacted := k.path, want
	k.stop()
	again := startKinsy(t, path, server.ProfileEtcd)
	wantSame(t, stateOf(t, again.peer), compacted)
	if after := write(t, again.peer, 99, 20); after <= want.revision {
		t.Fatalf("revision %d after writes upon revision %d", after, want.revision)
	}
}

func wantSummary(t *testing.T, s transfer.Summary, want state) {
	t.Helper()
	if int64(s.Revision) != want.revision || int64(s.CompactRevision) != want.compacted ||
		int(s.Leases) != len(want.leases) || len(s.Warnings) != 0 {
		t.Fatalf("summary %+v, want revision %d, compacted %d, %d leases", s, want.revision, want.compacted, len(want.leases))
	}
}

func client(t *testing.T, p *peer) *transfer.Client {
	t.Helper()
	c, err := transfer.Dial(context.Background(), transfer.Endpoint{Address: "http://" + p.addr})
	ok(t, err)
	t.Cleanup(func() { ok(t, c.Close()) })
	return c
}

func fetch(t *testing.T, etcd *peer, want state) {
	k, s := imported(t, func(sink transfer.Sink) (transfer.Summary, error) {
		return client(t, etcd).Fetch(context.Background(), sink, transfer.FetchOptions{Dir: t.TempDir()})
	})
	wantSummary(t, s, want)
	wantSame(t, stateOf(t, k.peer), want)
}

// fetchKeys reads the keys under a prefix one by one, which gives the state of
// the moment.
func fetchKeys(t *testing.T, etcd *peer, want state) {
	const prefix = "/registry/"
	k, s := imported(t, func(sink transfer.Sink) (transfer.Summary, error) {
		return client(t, etcd).Fetch(context.Background(), sink, transfer.FetchOptions{Dir: t.TempDir(), Prefix: prefix})
	})
	if int64(s.CompactRevision) != want.revision || len(s.Warnings) != 1 {
		t.Fatalf("summary %+v, want compacted %d and a warning", s, want.revision)
	}
	got, original := keysOf(t, k.peer, prefix), keysOf(t, etcd, prefix)
	if got != original {
		t.Fatalf("keys\n%s\nwant\n%s", got, original)
	}
	for i, l := range leasesOf(t, k.peer) {
		if id := want.leases[i]; l[:20] != id[:20] {
			t.Fatalf("lease %s, want %s", l, id)
		}
	}
}

func TestKinsyToEtcd(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, seed uint64) {
		k := startKinsy(t, filepath.Join(t.TempDir(), "kinsy.db"), server.ProfileEtcd)
		writeAll(t, k.peer, seed, *flagChanges)
		want := stateOf(t, k.peer)

		file := filepath.Join(t.TempDir(), "export.db")
		s := k.export(t, file)
		wantSummary(t, s, want)
		t.Run("WriteEtcdDB", func(t *testing.T) { restoreFile(t, file, want, s) })

		saved := filepath.Join(t.TempDir(), "etcdctl.db")
		out := run(t, "etcdctl", "--endpoints", k.addr, "snapshot", "save", saved)
		if !bytes.Contains(out, []byte("Snapshot saved")) {
			t.Fatalf("etcdctl says %s", out)
		}
		t.Run("etcdctl snapshot save", func(t *testing.T) { restoreFile(t, saved, want, s) })
		t.Run("JSON", func(t *testing.T) { throughJSON(t, k, want) })
		k.stop()
		t.Run("and back", func(t *testing.T) { importFile(t, saved, want) })
	})
}

// restoreFile has etcdutl and etcd take a file.
func restoreFile(t *testing.T, file string, want state, s transfer.Summary) {
	var told struct {
		Revision int64  `json:"revision"`
		TotalKey int64  `json:"totalKey"`
		Version  string `json:"version"`
	}
	ok(t, json.Unmarshal(run(t, "etcdutl", "snapshot", "status", file, "-w", "json"), &told))
	if told.Version != transfer.EtcdStorageVersion || told.TotalKey != s.Keys {
		t.Fatalf("etcdutl says %+v, the export %+v", told, s)
	}
	etcd := restored(t, file)
	wantSame(t, stateOf(t, etcd), want)
	// The restored member takes writes and compactions.
	after := write(t, etcd, 99, 50)
	if after <= want.revision {
		t.Fatalf("revision %d after writes upon revision %d", after, want.revision)
	}
}

// throughJSON copies all history by JSON lines, and then what exists.
func throughJSON(t *testing.T, k *kinsy, want state) {
	defer k.log.HoldRemoval()()
	for _, history := range []bool{true, false} {
		var file bytes.Buffer
		_, err := transfer.WriteJSON(context.Background(), &file, k.view(), transfer.JSONOptions{History: history})
		ok(t, err)
		other, s := imported(t, func(sink transfer.Sink) (transfer.Summary, error) {
			return transfer.ReadJSON(context.Background(), &file, sink)
		})
		if history {
			wantSummary(t, s, want)
			wantSame(t, stateOf(t, other.peer), want)
		}
		if got, original := keysOf(t, other.peer, ""), keysOf(t, k.peer, ""); got != original {
			t.Fatalf("keys\n%s\nwant\n%s", got, original)
		}
	}
}

// TestPush writes a history into running servers, one of which takes one key at a
// time.
func TestPush(t *testing.T) {
	t.Parallel()
	source := startKinsy(t, filepath.Join(t.TempDir(), "kinsy.db"), server.ProfileEtcd)
	write(t, source.peer, *flagSeed, *flagChanges)
	file := filepath.Join(t.TempDir(), "export.db")
	source.export(t, file)
	netsy := startKinsy(t, filepath.Join(t.TempDir(), "kinsy.db"), server.ProfileNetsy)
	for name, target := range map[string]*peer{"etcd": startEtcd(t, t.TempDir()), "netsy": netsy.peer} {
		t.Run(name, func(t *testing.T) {
			push := func(opts transfer.PushOptions) error {
				p, err := client(t, target).Push(context.Background(), opts)
				if err != nil {
					return err
				}
				_, err = transfer.ReadEtcdDB(context.Background(), file, p, transfer.ReadOptions{})
				return err
			}
			ok(t, push(transfer.PushOptions{}))
			want := valuesOf(t, source.peer)
			if got := valuesOf(t, target); got != want {
				t.Fatalf("keys\n%s\nwant\n%s", got, want)
			}
			if err := push(transfer.PushOptions{}); !errors.Is(err, transfer.ErrNotEmpty) {
				t.Fatalf("into a server with keys: %v", err)
			}
			ok(t, push(transfer.PushOptions{Force: true}))
			if got := valuesOf(t, target); got != want {
				t.Fatalf("the second time, keys\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestSnapshotUnderLoad takes snapshots while keys are written and compacted, and
// compares each with what the server says of its revision.
func TestSnapshotUnderLoad(t *testing.T) {
	t.Parallel()
	k := startKinsy(t, filepath.Join(t.TempDir(), "kinsy.db"), server.ProfileEtcd)
	c := client(t, k.peer)
	h := newHistory(t, k.peer, *flagSeed, true)
	h.write(200)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				h.write(1)
			}
		}
	}()
	for i := range 10 {
		file := filepath.Join(t.TempDir(), fmt.Sprint(i))
		ok(t, c.SaveSnapshot(call(t), file))
		other, s := imported(t, func(sink transfer.Sink) (transfer.Summary, error) {
			return transfer.ReadEtcdDB(context.Background(), file, sink, transfer.ReadOptions{})
		})
		r := &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: int64(s.Revision)}
		want, err := k.kv.Range(call(t), r)
		if err != nil && isCompacted(err) {
			continue
		}
		ok(t, err)
		got, err := other.kv.Range(call(t), r)
		ok(t, err)
		if got.Count != want.Count || got.Count != s.Keys {
			t.Fatalf("%d keys at revision %d, want %d; the summary says %d", got.Count, s.Revision, want.Count, s.Keys)
		}
		for i := range want.Kvs {
			if !proto.Equal(got.Kvs[i], want.Kvs[i]) {
				t.Fatalf("at revision %d: %v, want %v", s.Revision, got.Kvs[i], want.Kvs[i])
			}
		}
	}
	close(stop)
	<-stopped
}
