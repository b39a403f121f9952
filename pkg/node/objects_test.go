package node

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

// storeConfig is a node whose writes are acknowledged by a folder that outlives its data folder.
func storeConfig(t *testing.T, store string) Config {
	t.Helper()
	c := DefaultConfig(true)
	c.DataDir = t.TempDir()
	c.ListenAddress, c.MetricsBindAddress, c.HTTPAddress = "127.0.0.1:0", "127.0.0.1:0", HTTPOff
	c.ObjectStore = object.Config{URL: "file://" + store}
	c.Quorum = QuorumObjectStore
	c.Logger = logrus.New()
	c.Logger.SetOutput(io.Discard)
	return c
}

func startStored(t *testing.T, c Config) *Node {
	t.Helper()
	n, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return n
}

func kvOf(t *testing.T, n *Node) pb.KVClient {
	t.Helper()
	conn, err := grpc.NewClient(n.Addrs()[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return pb.NewKVClient(conn)
}

// TestNodeComesBackFromObjectStorage: on an empty disk, with everything acknowledged, and metrics that say so.
func TestNodeComesBackFromObjectStorage(t *testing.T) {
	store := t.TempDir()
	first := startStored(t, storeConfig(t, store))
	if _, err := kvOf(t, first).Put(t.Context(), &pb.PutRequest{Key: []byte("k"), Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := storeConfig(t, store)
	var last s3snap.Progress
	c.RestoreProgress = func(p s3snap.Progress) { last = p }
	second := startStored(t, c)
	resp, err := kvOf(t, second).Range(t.Context(), &pb.RangeRequest{Key: []byte("k")})
	if err != nil || len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != "v" {
		t.Fatalf("%v, %v", resp, err)
	}
	if !last.Done || last.Rows != 2 {
		t.Fatalf("progress is %+v, want the epoch row and the key", last)
	}
	_, metrics := get(t, http.DefaultClient, "http://"+second.MetricsAddr()+"/metrics")
	for _, want := range []string{"kinsy_restore_rows 2", "kinsy_restore_done 1", "kinsy_fenced 0", "kinsy_uploaded_id 3"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %q", want)
		}
	}
}

// TestFencedNodeFails: the older of two nodes on one prefix ends by itself, and its health names the reason.
func TestFencedNodeFails(t *testing.T) {
	store := t.TempDir()
	first := startStored(t, storeConfig(t, store))
	second := startStored(t, storeConfig(t, store))
	select {
	case <-first.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the older node goes on")
	}
	if _, ready := get(t, http.DefaultClient, "http://"+first.MetricsAddr()+"/readyz"); !strings.Contains(ready, "fenced") {
		t.Errorf("readyz says %q", ready)
	}
	if _, err := kvOf(t, first).Put(t.Context(), &pb.PutRequest{Key: []byte("k")}); err == nil {
		t.Error("the older node acknowledges a write")
	}
	if _, err := kvOf(t, first).Range(t.Context(), &pb.RangeRequest{Key: []byte("k")}); err == nil {
		t.Error("the older node answers a linearizable read")
	}
	if _, err := kvOf(t, second).Put(t.Context(), &pb.PutRequest{Key: []byte("k")}); err != nil {
		t.Errorf("the newer node: %v", err)
	}
}

// TestWaitingForObjectStorageIsTold: a node without a log does not start without it, and says what it waits for.
func TestWaitingForObjectStorageIsTold(t *testing.T) {
	c := storeConfig(t, t.TempDir())
	c.ObjectStore = object.Config{URL: "s3://bucket/prefix", Timeout: time.Second,
		S3: object.S3Config{Endpoint: "http://127.0.0.1:1", Region: "r", AccessKey: "a", SecretKey: "s"}}
	n := &Node{cfg: c, log: c.logger(), registry: newRegistry(c), done: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- n.bringUp(ctx, openEngine) }()
	deadline := time.Now().Add(20 * time.Second)
	for {
		if err := n.checkServing(); err != nil && strings.Contains(err.Error(), "waiting for object storage") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("readiness is %v", n.checkServing())
		}
	}
	cancel()
	if err := <-over; err == nil {
		t.Error("the node started")
	}
	if err := n.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(c.DataDir, logFileName)); err == nil {
		t.Error("a log was made")
	}
}
