package transfer

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// fake is a server that knows ten keys, and what a test sets.
type fake struct {
	pb.UnimplementedKVServer
	pb.UnimplementedLeaseServer
	pb.UnimplementedMaintenanceServer
	pb.UnimplementedAuthServer

	kvs       []*mvccpb.KeyValue
	revision  int64
	compacted int                    // how many Ranges at a revision are refused
	leases    map[int64]int64        // nil: the lease RPCs are not answered
	snapshot  func() ([]byte, error) // nil: not answered
	single    bool                   // Txns of several keys are refused
	token     string

	mu      sync.Mutex
	refused int
	written []string
	granted []int64
}

const (
	fakePassword = "s3cret"
	fakeToken    = "token-1"
)

func startFake(t *testing.T, f *fake) Endpoint {
	t.Helper()
	s := grpc.NewServer(grpc.MaxSendMsgSize(1<<30),
		grpc.UnaryInterceptor(func(ctx context.Context, r any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			got := metadata.ValueFromIncomingContext(ctx, rpctypes.TokenFieldNameGRPC)
			if f.token != "" && !strings.HasSuffix(info.FullMethod, "Authenticate") && (len(got) != 1 || got[0] != f.token) {
				return nil, rpctypes.ErrGRPCInvalidAuthToken
			}
			return h(ctx, r)
		}))
	pb.RegisterKVServer(s, f)
	pb.RegisterLeaseServer(s, f)
	pb.RegisterMaintenanceServer(s, f)
	pb.RegisterAuthServer(s, f)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		ok(t, <-done)
	})
	return Endpoint{Address: "http://" + l.Addr().String() + "/"}
}

func dial(t *testing.T, f *fake) *Client {
	t.Helper()
	c, err := Dial(context.Background(), startFake(t, f))
	ok(t, err)
	t.Cleanup(func() { ok(t, c.Close()) })
	return c
}

func newFake(n int) *fake {
	f := &fake{revision: int64(n) + 10}
	for i := range n {
		f.kvs = append(f.kvs, &mvccpb.KeyValue{
			Key: fmt.Appendf(nil, "/k/%05d", i), Value: []byte("v"), CreateRevision: 2, ModRevision: int64(n) - int64(i)/2, Version: 1,
		})
	}
	return f
}

func (f *fake) Authenticate(_ context.Context, r *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	if r.Name != "root" || r.Password != fakePassword {
		return nil, rpctypes.ErrGRPCAuthFailed
	}
	return &pb.AuthenticateResponse{Token: fakeToken}, nil
}

func (f *fake) Range(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	if r.Revision != 0 && f.compacted > 0 {
		f.compacted--
		return nil, rpctypes.ErrGRPCCompacted
	}
	resp := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: f.revision}}
	for _, kv := range f.kvs {
		if bytes.Compare(kv.Key, r.Key) < 0 || len(r.RangeEnd) == 1 && r.RangeEnd[0] != 0 && bytes.Compare(kv.Key, r.RangeEnd) >= 0 {
			continue
		}
		if int64(len(resp.Kvs)) == r.Limit {
			resp.More = true
			break
		}
		resp.Kvs = append(resp.Kvs, kv)
	}
	return resp, nil
}

func (f *fake) Txn(_ context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	if f.single && len(r.Success) > 1 {
		f.refused++
		return nil, status.Error(codes.InvalidArgument, "one key only")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var text []string
	for _, op := range r.Success {
		if put := op.GetRequestPut(); put != nil {
			if _, ok := f.leases[put.Lease]; put.Lease != 0 && !ok {
				return nil, rpctypes.ErrGRPCLeaseNotFound
			}
			text = append(text, fmt.Sprintf("%s=%s/%d", put.Key, put.Value, put.Lease))
		} else {
			text = append(text, "-"+string(op.GetRequestDeleteRange().Key))
		}
	}
	f.written = append(f.written, strings.Join(text, ","))
	f.revision++
	return &pb.TxnResponse{Header: &pb.ResponseHeader{Revision: f.revision}, Succeeded: true}, nil
}

func (f *fake) LeaseGrant(_ context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	if _, ok := f.leases[r.ID]; ok {
		return nil, rpctypes.ErrGRPCLeaseExist
	}
	f.granted = append(f.granted, r.ID)
	f.leases[r.ID] = r.TTL
	return &pb.LeaseGrantResponse{ID: r.ID, TTL: r.TTL}, nil
}

func (f *fake) LeaseLeases(context.Context, *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	if f.leases == nil {
		return nil, status.Error(codes.Unimplemented, "no leases")
	}
	r := &pb.LeaseLeasesResponse{}
	for id := range f.leases {
		r.Leases = append(r.Leases, &pb.LeaseStatus{ID: id})
	}
	return r, nil
}

func (f *fake) LeaseTimeToLive(_ context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	if f.leases == nil {
		return nil, status.Error(codes.Unimplemented, "no leases")
	}
	ttl, ok := f.leases[r.ID]
	if !ok {
		return nil, rpctypes.ErrGRPCLeaseNotFound
	}
	return &pb.LeaseTimeToLiveResponse{ID: r.ID, TTL: 1, GrantedTTL: ttl}, nil
}

func (f *fake) Snapshot(_ *pb.SnapshotRequest, stream pb.Maintenance_SnapshotServer) error {
	if f.snapshot == nil {
		return status.Error(codes.Unimplemented, "no snapshot")
	}
	b, err := f.snapshot()
	for part := range chunks(b, 1000) {
		if err := stream.Send(&pb.SnapshotResponse{Blob: part}); err != nil {
			return err
		}
	}
	return err
}

// chunks cuts bytes into parts of n.
func chunks(b []byte, n int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			part := b[:min(n, len(b))]
			if b = b[len(part):]; !yield(part) {
				return
			}
		}
	}
}

func TestEndpoints(t *testing.T) {
	own := &tls.Config{ServerName: "own", MinVersion: tls.VersionTLS13}
	for _, c := range []struct {
		in      Endpoint
		address string // empty: refused
		tls     bool
	}{
		{Endpoint{Address: "host:2379"}, "host:2379", false},
		{Endpoint{Address: "host:2379", TLS: own}, "host:2379", true},
		{Endpoint{Address: "http://host:2379/"}, "host:2379", false},
		{Endpoint{Address: "https://[::1]:2379"}, "[::1]:2379", true},
		{Endpoint{Address: "https://host:2379", TLS: own}, "host:2379", true},
		{Endpoint{Address: "http://host:2379", TLS: own}, "", false},
		{Endpoint{Address: ""}, "", false},
		{Endpoint{Address: "https://"}, "", false},
		{Endpoint{Address: "http://host/path"}, "", false},
		{Endpoint{Address: "http://root:" + fakePassword + "@host:1"}, "", false},
	} {
		address, config, err := c.in.parse()
		if address != c.address || (config != nil) != c.tls || (err == nil) != (c.address != "") {
			t.Errorf("%q: %q, %v, %v", c.in.Address, address, config != nil, err)
		}
		if err != nil && strings.Contains(err.Error(), fakePassword) {
			t.Errorf("the error has the password: %v", err)
		}
		if c.in.TLS != nil && c.tls && config != own {
			t.Errorf("%q: another TLS configuration", c.in.Address)
		}
	}
}

func TestPrefixRange(t *testing.T) {
	for prefix, want := range map[string]string{"": "\x00 \x00", "/": "/ 0", "a\xff": "a\xff b", "\xff": "\xff \x00"} {
		if key, end := prefixRange(prefix); string(key)+" "+string(end) != want {
			t.Errorf("%q: %q to %q", prefix, key, end)
		}
	}
}

func TestLogin(t *testing.T) {
	f := newFake(3)
	f.token = fakeToken
	e := startFake(t, f)
	e.Username, e.Password = "root", "wrong-"+fakePassword
	if _, err := Dial(context.Background(), e); err == nil || strings.Contains(err.Error(), fakePassword) ||
		!isError(err, rpctypes.ErrGRPCAuthFailed) {
		t.Fatalf("wrong password: %v", err)
	}
	e.Password = fakePassword
	c, err := Dial(context.Background(), e)
	ok(t, err)
	defer c.Close()
	_, err = c.Fetch(context.Background(), &memory{}, FetchOptions{Dir: t.TempDir()})
	ok(t, err)
	f.token = "another"
	if _, err := c.Fetch(context.Background(), &memory{}, FetchOptions{Dir: t.TempDir()}); err == nil {
		t.Fatal("a wrong token is taken")
	}
}

func TestFetchBySnapshot(t *testing.T) {
	m := random(t, 1, 60, 20)
	f := newFake(3)
	f.snapshot = func() ([]byte, error) { return exported(t, m), nil }
	c := dial(t, f)
	got, dir := &memory{}, t.TempDir()
	s, err := c.Fetch(context.Background(), got, FetchOptions{Dir: dir})
	ok(t, err)
	wantHistory(t, got, m)
	if len(s.Warnings) != 0 {
		t.Fatalf("%+v", s)
	}
	path := filepath.Join(dir, "saved")
	ok(t, c.SaveSnapshot(context.Background(), path))
	if !bytes.Equal(must(os.ReadFile(path)), exported(t, m)) {
		t.Fatal("another file was saved")
	}
	if err := c.SaveSnapshot(context.Background(), path); !errors.Is(err, ErrExists) {
		t.Fatal(err)
	}
	wantFiles(t, dir, "saved")
}

func TestBrokenSnapshots(t *testing.T) {
	whole := exported(t, random(t, 1, 60, 20))
	flipped := bytes.Clone(whole)
	flipped[5000] ^= 1
	lost := status.Error(codes.Unavailable, "lost")
	for name, c := range map[string]struct {
		b    []byte
		err  error
		want error
	}{
		"no checksum": {whole[:len(whole)-checksumSize], nil, ErrDamaged},
		"cut":         {whole[:len(whole)-4096], nil, ErrDamaged},
		"flipped":     {flipped, nil, ErrDamaged},
		"nothing":     {nil, nil, ErrDamaged},
		"lost":        {whole[:5000], lost, nil},
	} {
		f := newFake(3)
		f.snapshot = func() ([]byte, error) { return c.b, c.err }
		cl, sink, dir := dial(t, f), &memory{}, t.TempDir()
		_, err := cl.Fetch(context.Background(), sink, FetchOptions{Dir: dir})
		if err == nil || c.want != nil && !errors.Is(err, c.want) || c.err != nil && status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
		if len(sink.rows) > 0 || sink.finished {
			t.Errorf("%s: rows were added", name)
		}
		if err := cl.SaveSnapshot(context.Background(), filepath.Join(dir, "x")); err == nil {
			t.Errorf("%s: was saved", name)
		}
		wantFiles(t, dir)
	}
}

// Without a snapshot, keys are read page by page and sorted by revision.
func TestFetchByKey(t *testing.T) {
	for _, prefix := range []string{"", "/"} {
		const n = 2*fetchPage + 10
		f := newFake(n)
		f.leases = map[int64]int64{5: 60, 6: 1}
		f.compacted = fetchTries - 1
		f.kvs[3].Lease, f.kvs[7].Lease = 5, 8 // the second has expired since
		f.kvs[9].CreateRevision, f.kvs[9].Version = 0, 0
		m := &memory{}
		s, err := dial(t, f).Fetch(context.Background(), m, FetchOptions{Dir: t.TempDir(), Prefix: prefix})
		ok(t, err)
		if s.Keys != n || s.Leases != 3 || int64(s.Revision) != f.revision || s.CompactRevision != s.Revision || len(s.Warnings) != 1 {
			t.Fatalf("%+v", s)
		}
		for i, want := range []int64{60, minLeaseTTL, minLeaseTTL} {
			if m.rows[i].Kind != sqllog.KindLease || m.rows[i].Version != want {
				t.Errorf("lease %+v, want TTL %d", m.rows[i], want)
			}
		}
		byKey := map[string]sqllog.Row{}
		for _, r := range m.rows[3:] {
			byKey[string(r.Key)] = r
		}
		for i, kv := range f.kvs {
			r := byKey[string(kv.Key)]
			if int64(r.Revision) != kv.ModRevision || r.Lease != kv.Lease || r.Sub != int64(i%2) || r.Version != 1 {
				t.Fatalf("key %d is %+v", i, r)
			}
		}
	}
}

func TestFetchByKeyFails(t *testing.T) {
	fetch := func(change func(*fake), opts FetchOptions) error {
		f := newFake(fetchPage + 10)
		change(f)
		opts.Dir = t.TempDir()
		m := &memory{}
		_, err := dial(t, f).Fetch(context.Background(), m, opts)
		if m.finished != (err == nil) {
			t.Error("the sink was finished")
		}
		wantFiles(t, opts.Dir)
		return err
	}
	if err := fetch(func(f *fake) { f.compacted = fetchTries }, FetchOptions{}); err == nil || !strings.Contains(err.Error(), "compacted") {
		t.Errorf("always compacted: %v", err)
	}
	if err := fetch(func(f *fake) { f.kvs[0].Lease = 5 }, FetchOptions{}); !errors.Is(err, ErrLeaseTTL) {
		t.Errorf("leases are not told: %v", err)
	}
	if err := fetch(func(f *fake) { f.kvs[0].Lease = 5 }, FetchOptions{LeaseTTL: 7}); err != nil {
		t.Errorf("leases are not told, a TTL is given: %v", err)
	}
	if err := fetch(func(f *fake) { f.kvs[1], f.kvs[2] = f.kvs[2], f.kvs[1] }, FetchOptions{}); !errors.Is(err, ErrDamaged) {
		t.Errorf("keys out of order: %v", err)
	}
	if err := fetch(func(f *fake) { f.kvs[1].ModRevision = 1 << 40 }, FetchOptions{}); !errors.Is(err, ErrDamaged) {
		t.Errorf("a revision in the future: %v", err)
	}
}

// pushed writes rows into a fake and returns what it got.
func pushed(t *testing.T, f *fake, opts PushOptions) ([]string, error) {
	t.Helper()
	p, err := dial(t, f).Push(context.Background(), opts)
	if err != nil {
		return nil, err
	}
	put := func(key, value string, lease int64) sqllog.Row {
		return sqllog.Row{Kind: sqllog.KindPut, Key: []byte(key), Value: []byte(value), Lease: lease}
	}
	err = p.Add([]sqllog.Row{
		{Kind: sqllog.KindLease, Lease: 5, Version: 60}, {Kind: sqllog.KindLease, Lease: 6},
		put("a", "1", 5), put("b", "1", 7), put("a", "2", 0),
		{Kind: sqllog.KindDelete, Key: []byte("b")}, {Kind: sqllog.KindCompact}, put("c", "1234567890", 0),
	})
	if err == nil {
		err = p.Finish(sqllog.Head{}, sqllog.Compaction{})
	}
	if p.Revision() != f.revision {
		t.Errorf("revision %d, want %d", p.Revision(), f.revision)
	}
	return f.written, err
}

func TestPush(t *testing.T) {
	for name, c := range map[string]struct {
		opts PushOptions
		fake func(*fake)
		want string
	}{
		"plain":     {PushOptions{}, func(*fake) {}, "a=1/5,b=1/0 a=2/0,-b,c=1234567890/0"},
		"two":       {PushOptions{MaxOps: 2}, func(*fake) {}, "a=1/5,b=1/0 a=2/0,-b c=1234567890/0"},
		"few bytes": {PushOptions{MaxBytes: 5}, func(*fake) {}, "a=1/5,b=1/0 a=2/0,-b c=1234567890/0"},
		"single":    {PushOptions{}, func(f *fake) { f.single = true }, "a=1/5 b=1/0 a=2/0 -b c=1234567890/0"},
		"forced":    {PushOptions{Force: true}, func(f *fake) { f.kvs = newFake(1).kvs; f.leases[5] = 1 }, "a=1/5,b=1/0 a=2/0,-b,c=1234567890/0"},
	} {
		f := newFake(0)
		f.leases = map[int64]int64{}
		c.fake(f)
		got, err := pushed(t, f, c.opts)
		if err != nil || strings.Join(got, " ") != c.want || f.refused > 1 {
			t.Errorf("%s: %q, %v, %d times refused", name, got, err, f.refused)
		}
	}
}

func TestPushRefuses(t *testing.T) {
	f := newFake(1)
	if _, err := pushed(t, f, PushOptions{}); !errors.Is(err, ErrNotEmpty) || len(f.granted) > 0 {
		t.Errorf("a server with keys: %v", err)
	}
	f = newFake(0)
	f.leases = map[int64]int64{5: 1}
	if _, err := pushed(t, f, PushOptions{}); !isError(err, rpctypes.ErrGRPCLeaseExist) {
		t.Errorf("a lease that is there: %v", err)
	}
}

// A lease that runs out during a long import is granted again.
func TestPushGrantsAgain(t *testing.T) {
	f := newFake(0)
	f.leases = map[int64]int64{}
	p, err := dial(t, f).Push(context.Background(), PushOptions{})
	ok(t, err)
	ok(t, p.Add([]sqllog.Row{{Kind: sqllog.KindLease, Lease: 5, Version: 60}}))
	delete(f.leases, 5)
	ok(t, p.Add([]sqllog.Row{{Kind: sqllog.KindPut, Key: []byte("a"), Lease: 5}}))
	ok(t, p.Finish(sqllog.Head{}, sqllog.Compaction{}))
	if len(f.granted) != 2 || f.leases[5] != 60 || len(f.written) != 1 {
		t.Fatalf("granted %v, written %q", f.granted, f.written)
	}
}
