package node

import (
	"context"
	"crypto/tls"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// requestLimit bounds a request that is expected to succeed, or to be refused, at once.
const requestLimit = 10 * time.Second

// startReal starts a node on the real engine and closes it at the end of the test.
func startReal(t *testing.T, c Config) *Node {
	t.Helper()
	n, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeNode(t, n) })
	return n
}

func closeNode(t *testing.T, n *Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), requestLimit)
	defer cancel()
	if err := n.Close(ctx); err != nil {
		t.Error(err)
	}
}

func dial(t *testing.T, target string, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func put(t *testing.T, conn *grpc.ClientConn, key, value string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), requestLimit)
	defer cancel()
	_, err := pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{Key: []byte(key), Value: []byte(value)})
	return err
}

func read(t *testing.T, conn *grpc.ClientConn, key string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), requestLimit)
	defer cancel()
	res, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte(key)})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Kvs) == 0 {
		return ""
	}
	return string(res.Kvs[0].Value)
}

func TestEngineSurvivesRestart(t *testing.T) {
	c := testConfig(t)
	path := socketPath(t)
	c.ListenAddress = "127.0.0.1:0,unix://" + path
	first := startReal(t, c)
	if err := put(t, dial(t, first.Addrs()[0], insecure.NewCredentials()), "a", "1"); err != nil {
		t.Fatal(err)
	}
	if got := read(t, dial(t, "unix://"+path, insecure.NewCredentials()), "a"); got != "1" {
		t.Errorf("over the socket: %q", got)
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(c.LogPath() + suffix)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("log%s: %v, %v", suffix, info, err)
		}
	}
	closeNode(t, first)

	second := startReal(t, c)
	if got := read(t, dial(t, second.Addrs()[0], insecure.NewCredentials()), "a"); got != "1" {
		t.Errorf("after restart: %q", got)
	}
}

func TestEngineProfile(t *testing.T) {
	c := testConfig(t)
	c.API = APINetsy
	n := startReal(t, c)
	if err := put(t, dial(t, n.Addrs()[0], insecure.NewCredentials()), "a", "1"); status.Code(err) != codes.Unimplemented {
		t.Errorf("put in the netsy profile: %v", err)
	}
}

func TestEngineMembers(t *testing.T) {
	c := testConfig(t)
	c.Name = "node-1"
	n := startReal(t, c)
	members := func(n *Node) *pb.MemberListResponse {
		t.Helper()
		conn := dial(t, n.Addrs()[0], insecure.NewCredentials())
		res, err := pb.NewClusterClient(conn).MemberList(t.Context(), &pb.MemberListRequest{})
		if err != nil || len(res.Members) != 1 {
			t.Fatalf("%v, %v", res, err)
		}
		return res
	}
	first := members(n)
	m := first.Members[0]
	if m.Name != "node-1" || m.ID == 0 || first.Header.ClusterId == 0 || len(m.ClientURLs) != 1 || m.ClientURLs[0] != n.URLs()[0] {
		t.Errorf("member %v, header %v", m, first.Header)
	}
	closeNode(t, n)
	c.AdvertiseClientURLs = "http://a:1, http://b:2"
	second := members(startReal(t, c))
	if second.Members[0].ID != m.ID || second.Header.ClusterId != first.Header.ClusterId {
		t.Errorf("ids changed over a restart: %v, %v", first, second)
	}
	if got := strings.Join(second.Members[0].ClientURLs, " "); got != "http://a:1 http://b:2" {
		t.Errorf("advertised %s", got)
	}
}

func TestEngineOverTLS(t *testing.T) {
	ca := newAuthority(t)
	c := testConfig(t)
	files := ca.writeFiles(t, t.TempDir(), "server")
	c.CertFile, c.KeyFile, c.TrustedCAFile = files.CertFile, files.KeyFile, files.TrustedCAFile
	n := startReal(t, c)
	if err := put(t, dial(t, n.Addrs()[0], credentials.NewTLS(ca.client(t, "client"))), "a", "1"); err != nil {
		t.Errorf("client with a certificate: %v", err)
	}
	for name, creds := range map[string]credentials.TransportCredentials{
		"no certificate":      credentials.NewTLS(ca.client(t, "")),
		"unknown certificate": credentials.NewTLS(&tls.Config{RootCAs: ca.client(t, "").RootCAs, Certificates: newAuthority(t).client(t, "x").Certificates}),
		"no TLS":              insecure.NewCredentials(),
	} {
		if err := put(t, dial(t, n.Addrs()[0], creds), "b", "1"); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEngineMetrics(t *testing.T) {
	n := startReal(t, testConfig(t))
	if err := put(t, dial(t, n.Addrs()[0], insecure.NewCredentials()), "a", "1"); err != nil {
		t.Fatal(err)
	}
	code, body := get(t, newClient(t), "http://"+n.MetricsAddr()+"/metrics")
	if code != http.StatusOK {
		t.Fatalf("status %d: %s", code, body)
	}
	for line := range strings.SplitSeq(body, "\n") {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "# HELP "), " ")
		if strings.HasPrefix(line, "# HELP ") && !strings.HasPrefix(name, "kinsy_") && !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			t.Errorf("metric %s is outside kinsy's names", name)
		}
	}
	code, body = get(t, newClient(t), "http://"+n.MetricsAddr()+"/readyz?verbose")
	if code != http.StatusOK || !strings.Contains(body, "[+]commit ok") {
		t.Errorf("readyz %d: %s", code, body)
	}
}

func TestEngineRefusesAForeignFile(t *testing.T) {
	c := testConfig(t)
	if err := os.WriteFile(c.LogPath(), []byte(strings.Repeat("no database", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), c.LogPath()) {
		t.Errorf("got %v", err)
	}
}

func TestEngineStartIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := Start(ctx, testConfig(t)); err == nil {
		closeNode(t, n)
		t.Error("started although the context had ended")
	}
}
