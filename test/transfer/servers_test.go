package transfer

import (
	"context"
	"net"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/replicate"
	"github.com/kinsy/kinsy/pkg/server"
	"github.com/kinsy/kinsy/pkg/sqllog"
	"github.com/kinsy/kinsy/pkg/transfer"
)

// timeout bounds one call, start one start of etcd.
const (
	timeout = 20 * time.Second
	start   = 60 * time.Second
)

// peer is a running server and its services.
type peer struct {
	name  string
	addr  string
	kv    pb.KVClient
	watch pb.WatchClient
	lease pb.LeaseClient
	maint pb.MaintenanceClient
	// stop ends the server; also called at the end of the test.
	stop func()
}

func dial(t testing.TB, name, addr string) *peer {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	ok(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return &peer{
		name: name, addr: addr, kv: pb.NewKVClient(conn), watch: pb.NewWatchClient(conn),
		lease: pb.NewLeaseClient(conn), maint: pb.NewMaintenanceClient(conn),
	}
}

// startEtcd runs a member on a data folder, which may hold a restored one.
func startEtcd(t testing.TB, dir string) *peer {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = dir
	cfg.LogLevel = "fatal"
	cfg.UnsafeNoFsync = true
	any := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{any}, []url.URL{any}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{any}, []url.URL{any}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	e, err := embed.StartEtcd(cfg)
	ok(t, err)
	stopped := false
	stop := func() {
		if !stopped {
			e.Close()
		}
		stopped = true
	}
	t.Cleanup(stop)
	timer := time.NewTimer(start)
	defer timer.Stop()
	select {
	case <-e.Server.ReadyNotify():
	case <-timer.C:
		t.Fatalf("etcd is not ready within %s", start)
	}
	p := dial(t, "etcd", e.Clients[0].Addr().String())
	p.stop = stop
	return p
}

// kinsy is a kinsy server in this process.
type kinsy struct {
	*peer
	log   *sqllog.Log
	store *mvcc.Store
	path  string
}

// WriteSnapshot makes an etcd database of what is committed.
func (k *kinsy) WriteSnapshot(ctx context.Context, dir string) (path, version string, err error) {
	release := k.log.HoldRemoval()
	defer release()
	path = filepath.Join(dir, "db")
	_, err = transfer.WriteEtcdDB(ctx, path, k.view())
	return path, transfer.EtcdStorageVersion, err
}

// export writes what is committed to a file.
func (k *kinsy) export(t testing.TB, file string) transfer.Summary {
	t.Helper()
	defer k.log.HoldRemoval()()
	s, err := transfer.WriteEtcdDB(context.Background(), file, k.view())
	ok(t, err)
	return s
}

// view is the log up to what is committed, for a caller who holds removal.
func (k *kinsy) view() transfer.View {
	v := transfer.View{Log: k.log, Compacted: k.log.Compaction()}
	v.At = k.store.Head()
	return v
}

func quiet() *logrus.Logger {
	l := logrus.New()
	l.SetLevel(logrus.PanicLevel)
	return l
}

// startKinsy runs a server on a log, which is created where it is missing.
func startKinsy(t testing.TB, path string, profile server.Profile) *kinsy {
	t.Helper()
	log, err := sqllog.Open(context.Background(), sqllog.Config{Path: path, Logger: quiet()})
	ok(t, err)
	store, err := mvcc.Open(context.Background(), log, mvcc.Config{Logger: quiet()})
	ok(t, err)
	primary := replicate.New(log, store, replicate.Config{Logger: quiet()})
	k := &kinsy{log: log, store: store, path: path}
	s := server.New(server.Config{
		KV: primary, Lessor: primary, Admin: primary, Watcher: server.StoreWatcher(store), Profile: profile,
		Snapshotter: k, SnapshotDir: t.TempDir(), Logger: quiet(),
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	k.peer = dial(t, "kinsy", l.Addr().String())
	stopped := false
	k.stop = func() {
		if stopped {
			return
		}
		stopped = true
		ok(t, s.Stop())
		ok(t, <-served)
		primary.Close()
		store.Close()
		ok(t, log.Close())
	}
	t.Cleanup(k.stop)
	return k
}

// imported runs a kinsy on the log that read makes.
func imported(t testing.TB, read func(transfer.Sink) (transfer.Summary, error)) (*kinsy, transfer.Summary) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kinsy.db")
	l, err := sqllog.NewLoader(context.Background(), sqllog.Config{Path: path, Logger: quiet()})
	ok(t, err)
	defer func() { ok(t, l.Abort()) }()
	s, err := read(l)
	ok(t, err)
	return startKinsy(t, path, server.ProfileEtcd), s
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func call(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	return ctx
}
