package node

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// memberConfig is a node of a cluster whose object storage is a folder.
func memberConfig(t *testing.T, store, name string) Config {
	t.Helper()
	c := storeConfig(t, store)
	c.Quorum, c.ClusterID, c.NodeID = QuorumLocal, "test", name
	c.PeerListenAddress, c.InsecurePeers = "127.0.0.1:0", true
	return c
}

// awaitReady waits until a node says that it is, and then looks for metrics.
func awaitReady(t *testing.T, n *Node, metrics ...string) {
	t.Helper()
	url := "http://" + n.MetricsAddr()
	for deadline := time.Now().Add(20 * time.Second); ; {
		code, body := get(t, http.DefaultClient, url+"/readyz")
		_, text := get(t, http.DefaultClient, url+"/metrics")
		missing := ""
		for _, m := range metrics {
			if !strings.Contains(text, "\n"+m) {
				missing = m
			}
		}
		if code == http.StatusOK && missing == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d %s; metrics lack %q", code, body, missing)
		}
	}
}

// refusedStart starts a node that must not start.
func refusedStart(t *testing.T, c Config, want error, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	n, err := Start(ctx, c)
	if n != nil {
		_ = n.Close(context.Background())
	}
	if !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
		t.Fatalf("error is %v, want one of %q with %q", err, want, text)
	}
}

// TestMemberMetrics: one node is a cluster, and a second one that joins says so.
func TestMemberMetrics(t *testing.T) {
	store := t.TempDir()
	first := startStored(t, memberConfig(t, store, "n1"))
	awaitReady(t, first, `kinsy_role{role="primary"} 1`, "kinsy_voters 1", "kinsy_elections_total 1", "kinsy_election_duration_seconds_count 1",
		"kinsy_object_storage_fallbacks_total 0", "kinsy_without_primary_seconds_total ")
	second := startStored(t, memberConfig(t, store, "n2"))
	awaitReady(t, second, `kinsy_role{role="replica"} 1`, "kinsy_voters 2", "kinsy_elections_total 0")
	awaitReady(t, first, "kinsy_voters 2", "kinsy_receipts_total ", `kinsy_replica_lag_rows{node="n2"} 0`)
}

// TestCloneIsRefused: two nodes that live must not have one name.
func TestCloneIsRefused(t *testing.T) {
	store := t.TempDir()
	first := startStored(t, memberConfig(t, store, "n1"))
	refusedStart(t, memberConfig(t, store, "n1"), ErrCloned, "give this one another --node-id")
	awaitReady(t, first)
}

// TestOldDiskIsRefused: a copy of a log that was made before the node's last two starts.
func TestOldDiskIsRefused(t *testing.T) {
	c := memberConfig(t, t.TempDir(), "n1")
	run := func() {
		n, err := Start(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		awaitReady(t, n)
		if err := n.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	run()
	old, err := os.ReadFile(c.LogPath())
	if err != nil {
		t.Fatal(err)
	}
	run()
	run()
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(c.LogPath() + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(c.LogPath(), old, 0o600); err != nil {
		t.Fatal(err)
	}
	refusedStart(t, c, ErrOldDisk, "delete it, so that the node joins with an empty disk")
}

// TestOtherClusterIsRefused: neither the prefix nor the disk of another cluster is taken.
func TestOtherClusterIsRefused(t *testing.T) {
	store := t.TempDir()
	c := memberConfig(t, store, "n1")
	first := startStored(t, c)
	awaitReady(t, first)
	stranger := memberConfig(t, store, "n2")
	stranger.ClusterID = "other"
	refusedStart(t, stranger, s3snap.ErrOtherCluster, "cluster")
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.ClusterID, c.ObjectStore.URL = "other", "file://"+t.TempDir()
	refusedStart(t, c, sqllog.ErrOtherCluster, "it was not touched")
}

// TestMemberWithoutAPrimary: a node that lost the others says so, and refuses writes instead of losing them.
func TestMemberWithoutAPrimary(t *testing.T) {
	store := t.TempDir()
	first := startStored(t, memberConfig(t, store, "n1"))
	awaitReady(t, first)
	second := startStored(t, memberConfig(t, store, "n2"))
	awaitReady(t, second)
	awaitReady(t, first, "kinsy_voters 2")
	// Nobody may be elected while object storage is away.
	if err := os.Rename(store, filepath.Join(t.TempDir(), "away")); err != nil {
		t.Skip("the folder cannot be moved:", err)
	}
	if err := os.WriteFile(store, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(t.Context()); err != nil {
		t.Logf("close: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := kvOf(t, second).Put(ctx, &pb.PutRequest{Key: []byte("k")}); err == nil {
		t.Error("a write without a primary is acknowledged")
	}
	if code, body := get(t, http.DefaultClient, "http://"+second.MetricsAddr()+"/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "no leader") {
		t.Errorf("readyz says %d %s", code, body)
	}
}
