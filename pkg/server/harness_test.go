package server

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testClusterID = 0xc1
	testMemberID  = 0x3e
)

// harness is a running server on an in-memory listener, and a client of it.
type harness struct {
	*Server
	engine  *fakeEngine
	conn    *grpc.ClientConn
	kv      pb.KVClient
	watch   pb.WatchClient
	lease   pb.LeaseClient
	cluster pb.ClusterClient
	maint   pb.MaintenanceClient
}

func quietLogger() *logrus.Logger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}

func testConfig(e *fakeEngine, p Profile) Config {
	return Config{
		KV: e, Lessor: e, Watcher: e, Admin: e, Profile: p,
		ClusterID: testClusterID, MemberID: testMemberID,
		MemberName: "node-1", ClientURLs: []string{"http://127.0.0.1:2379"},
		Logger: quietLogger(),
	}
}

// start runs a server with a fake engine; change may alter its configuration.
func start(t testing.TB, p Profile, change ...func(*Config)) *harness {
	t.Helper()
	e := newFakeEngine()
	cfg := testConfig(e, p)
	for _, f := range change {
		f(&cfg)
	}
	h := serve(t, cfg)
	h.engine = e
	return h
}

// serve runs a server with the configuration until the test ends.
func serve(t testing.TB, cfg Config) *harness {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	s := New(cfg)
	l := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	conn, err := grpc.NewClient("passthrough:///server",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // that is for one that had not begun
			t.Errorf("Serve: %v", err)
		}
	})
	return &harness{
		Server: s, conn: conn,
		kv: pb.NewKVClient(conn), watch: pb.NewWatchClient(conn), lease: pb.NewLeaseClient(conn),
		cluster: pb.NewClusterClient(conn), maint: pb.NewMaintenanceClient(conn),
	}
}

// idleKV is a KV service with a fake engine that serves no listener.
func idleKV(t testing.TB, p Profile) *kvServer {
	s := New(testConfig(newFakeEngine(), p))
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return &kvServer{Server: s}
}

// testContext ends with the test, or after ten seconds.
func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func wantStatus(t testing.TB, err error, code codes.Code, text string) {
	t.Helper()
	st, _ := status.FromError(err)
	if st.Code() != code || st.Message() != text {
		t.Fatalf("got %v %q, want %v %q", st.Code(), st.Message(), code, text)
	}
}

func wantError(t testing.TB, got, want error) {
	t.Helper()
	st, _ := status.FromError(want)
	wantStatus(t, got, st.Code(), st.Message())
}

func wantHeader(t testing.TB, h *pb.ResponseHeader, revision int64) {
	t.Helper()
	if h == nil || h.ClusterId != testClusterID || h.MemberId != testMemberID ||
		h.Revision != revision || h.RaftTerm != 0 {
		t.Fatalf("header %v, want cluster %d member %d revision %d", h, testClusterID, testMemberID, revision)
	}
}

func putOp(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key)}}}
}

func getOp(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key)}}}
}

func delOp(key, end string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
		RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)},
	}}
}

func txnOp(success, failure []*pb.RequestOp) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{
		RequestTxn: &pb.TxnRequest{Success: success, Failure: failure},
	}}
}

func ops(list ...*pb.RequestOp) []*pb.RequestOp { return list }
