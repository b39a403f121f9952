package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/kinsy/kinsy/pkg/node"
)

// profiles runs a test once with each API profile.
func profiles(t *testing.T, test func(t *testing.T, s *server)) {
	for _, api := range []string{node.APIEtcd, node.APINetsy} {
		t.Run(api, func(t *testing.T) { test(t, startServer(t, api)) })
	}
}

func TestValuesAreKeptByteForByte(t *testing.T) {
	profiles(t, func(t *testing.T, s *server) {
		all := make([]byte, 256)
		for i := range all {
			all[i] = byte(i)
		}
		path := writeFile(t, string(all))
		s.done("put", "--value-file", path, "file")
		s.doneWith(string(all), "put", "stdin", "-")
		s.done("put", "--escaped", "argument", Escape(all))
		for _, key := range []string{"file", "stdin", "argument"} {
			equal(t, s.done("get", "--raw", key), string(all))
			equal(t, s.done("get", "--print-value-only", key), Escape(all)+"\n")
		}
	})
}

// deadAddress is one at which nobody listens.
func deadAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestEndpointsAreTriedInTurn(t *testing.T) {
	s := startServer(t, node.APINetsy)
	dead := deadAddress(t)
	list := dead + "," + s.address
	for _, args := range [][]string{{"put", "a", "b"}, {"get", "a"}, {"history", "a"}, {"del", "a"}} {
		if err := command(t.Context(), strings.NewReader(""), newOutput(), newOutput(), append(args, "--endpoints", list)...); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
	for _, args := range [][]string{{"put", "a", "b"}, {"get", "a"}, {"watch", "a"}, {"bench", "put"}, {"dump"}} {
		err := command(t.Context(), strings.NewReader(""), newOutput(), newOutput(), append(args, "--endpoints", dead)...)
		if err == nil || !strings.Contains(err.Error(), "no server at "+dead) || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// fakeKV answers Txns and reads as it is told.
type fakeKV struct {
	pb.UnimplementedKVServer
	err   error
	block bool // until the client has had enough
	calls atomic.Int64
}

func (f *fakeKV) answer(ctx context.Context) error {
	f.calls.Add(1)
	if f.block {
		<-ctx.Done()
	}
	return f.err
}

func (f *fakeKV) Txn(ctx context.Context, _ *pb.TxnRequest) (*pb.TxnResponse, error) {
	return nil, f.answer(ctx)
}

func (f *fakeKV) Range(ctx context.Context, _ *pb.RangeRequest) (*pb.RangeResponse, error) {
	return nil, f.answer(ctx)
}

// startFake serves it, and more.
func startFake(t *testing.T, f *fakeKV, more ...func(grpc.ServiceRegistrar)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterKVServer(server, f)
	for _, register := range more {
		register(server)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		<-ended
	})
	return l.Addr().String()
}

func TestWritesAreSentOnce(t *testing.T) {
	s := startServer(t, node.APIEtcd)
	for _, tt := range []struct {
		err         error
		write, read string // the error that is expected; empty: none
	}{
		{rpctypes.ErrGRPCNoLeader, "", ""},
		{rpctypes.ErrGRPCUnhealthy, "etcdserver: unhealthy cluster; whether it was done is not known", ""},
		{rpctypes.ErrGRPCLeaderChanged, "etcdserver: leader changed; whether it was done is not known", ""},
		{rpctypes.ErrGRPCNoSpace, "etcdserver: mvcc: database space exceeded", "etcdserver: mvcc: database space exceeded"},
	} {
		f := &fakeKV{err: tt.err}
		list := startFake(t, f) + "," + s.address
		for want, args := range map[string][]string{"w" + tt.write: {"put", "a", "b"}, "r" + tt.read: {"get", "a"}} {
			f.calls.Store(0)
			err := command(t.Context(), strings.NewReader(""), newOutput(), newOutput(), append(args, "--endpoints", list)...)
			if text := errorText(err); text != want[1:] || f.calls.Load() != 1 {
				t.Errorf("%v %v: %q after %d calls, want %q", tt.err, args, text, f.calls.Load(), want[1:])
			}
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestDeadlineIsNamed(t *testing.T) {
	blocked := startFake(t, &fakeKV{block: true})
	for want, args := range map[string][]string{
		"no answer in time (--command-timeout); whether it was done is not known": {"put", "a", "b"},
		"no answer in time (--command-timeout)":                                   {"get", "a"},
	} {
		err := command(t.Context(), strings.NewReader(""), newOutput(), newOutput(), append(args, "--endpoints", blocked, "--command-timeout", "50ms")...)
		if errorText(err) != want {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
	// A listener that says nothing: there is a connection of TCP, and no server.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = command(t.Context(), strings.NewReader(""), newOutput(), newOutput(), "get", "a", "--endpoints", l.Addr().String(), "--dial-timeout", "50ms")
	if want := "no server at " + l.Addr().String() + ": no connection within 50ms"; errorText(err) != want {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestDumpAndLoad(t *testing.T) {
	profiles(t, func(t *testing.T, s *server) {
		want := map[string]string{}
		for i := range 5 {
			key := fmt.Sprintf("/k/%d", i)
			want[key] = strings.Repeat("\x00\xff", i)
			s.done("put", "--escaped", key, Escape([]byte(want[key])))
		}
		s.done("put", "/other", "x")
		s.done("lease", "grant", "100", "--id", "1f")
		s.done("put", "/k/leased", "y", "--lease", "1f")
		for _, format := range []string{"json", "antietcd"} {
			path := filepath.Join(t.TempDir(), "dump")
			s.done("dump", "--prefix", "/k/", "--format", format, "--file", path)
			s.refused("exists; give --force", "dump", "--file", path)
			to := startServer(t, s.config.API)
			equal(t, to.done("load", path), "OK, loaded 6 values\n")
			equal(t, to.done("get", "--prefix", ""), s.done("get", "--prefix", "/k/"))
			if text := to.done("get", "-w", "json", "/k/leased"); strings.Contains(text, "lease") {
				t.Errorf("a lease although none was asked for: %s", text)
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, to.doneWith(string(text), "load"), "OK, loaded 6 values\n")
			equal(t, s.done("dump", "--prefix", "/k/", "--format", format), string(text))
		}
	})
}

func TestDumpAndLoadWithLeases(t *testing.T) {
	profiles(t, func(t *testing.T, s *server) {
		s.done("lease", "grant", "100", "--id", "694d77aa9e2c2701")
		s.done("put", "/leased", "y", "--lease", "694d77aa9e2c2701")
		dump := []string{"dump", "--prefix", "/", "--with-lease"}
		if s.config.API == node.APINetsy {
			s.refused("give --lease-ttl", dump...)
			dump = append(dump, "--lease-ttl", "100")
		}
		for _, format := range []string{"json", "antietcd"} {
			text := s.done(append(dump, "--format", format)...)
			if !strings.Contains(text, `"694d77aa9e2c2701"`) {
				t.Errorf("no lease in %s", text)
			}
			to := startServer(t, node.APIEtcd)
			equal(t, to.doneWith(text, "load", "--with-lease", "--lease-ttl", "77"), "OK, loaded 1 values\n")
			ttl := "100"
			if format == "antietcd" {
				ttl = "77"
			}
			if got := to.done("lease", "timetolive", "694d77aa9e2c2701", "--keys"); !strings.Contains(got, "TTL("+ttl+"s)") || !strings.Contains(got, "/leased") {
				t.Errorf("%s: %s", format, got)
			}
			equal(t, to.doneWith(text, "load", "--with-lease"), "OK, loaded 1 values\n") // the lease is there now
		}
	})
}

func TestLoadReadsOtherDumps(t *testing.T) {
	s := startServer(t, node.APIEtcd)
	for name, text := range map[string]string{
		"anticli":           `{"header":{"revision":5},"kvs":[{"key":"L2E","value":"eA==","mod_revision":3,"lease":"000000000000001f"},{"key":"L2I=","value":""}]}`,
		"anticli, a txn":    `{"header":{},"succeeded":true,"responses":[{"response_range":{"kvs":[{"key":"L2E=","value":"eA=="}]}},{"response_put":{}},{"response_range":{"kvs":[{"key":"L2I=","value":""}]}}]}`,
		"etcdctl":           `{"header":{"cluster_id":1},"kvs":[{"key":"L2E=","create_revision":2,"mod_revision":2,"version":1,"value":"eA==","lease":31},{"key":"L2I=","value":""}],"count":2}`,
		"kinsy get as JSON": "",
	} {
		t.Run(name, func(t *testing.T) {
			if text == "" {
				s.done("put", "/a", "x")
				s.done("put", "/b", "y")
				text = s.done("get", "--prefix", "", "-w", "json")
			}
			s.done("del", "--prefix", "")
			equal(t, s.doneWith(text, "load", "--with-lease"), "OK, loaded 2 values\n")
			equal(t, s.done("get", "/a"), "/a\nx\n")
		})
	}
	for text, why := range map[string]string{
		"":                             "a dump is",
		"[]":                           "a dump is",
		"{}":                           "a dump is",
		`{"kvs":[{"key":"L2E="}]}`:     "key /a has no value",
		`{"kvs":[{"value":"L2E="}]}`:   "key number 1 of the dump is empty",
		`{"kvs":[{"key":"?"}]}`:        "a dump is",
		`{"format":"kinsy-json-2"}`:    "newer format",
		"{\"format\":\"kinsy-json-1\"": "not a file of this format",
	} {
		var out bytes.Buffer
		err := command(t.Context(), strings.NewReader(text), &out, &out, s.args("load")...)
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", text, err, why)
		}
	}
}

func TestBench(t *testing.T) {
	profiles(t, func(t *testing.T, s *server) {
		for _, load := range []string{"put", "range", "mixed", "watch"} {
			text := s.done("bench", load, "--total", "300", "--clients", "7", "--keys", "40", "--watchers", "3", "--connections", "2")
			want := "300 in"
			if load == "watch" {
				want = "900 in"
			}
			for _, want := range []string{want, "7 on 2 connections", "p99.9 ", "failed       0\n"} {
				if !strings.Contains(text, want) {
					t.Errorf("%s: %q is not in:\n%s", load, want, text)
				}
			}
			equal(t, s.done("get", "--prefix", "", "--count-only"), "0\n")
		}
		s.done("bench", "put", "--total", "20", "--new-keys", "--keep")
		equal(t, s.done("get", "--prefix", benchPrefix, "--count-only"), "20\n")
		if text := s.done("bench", "put", "--duration", "50ms", "-w", "json"); !strings.Contains(text, `"p99":`) {
			t.Errorf("no latencies in %s", text)
		}
		if text := s.done("bench", "put", "--total", "5", "-w", "table"); !strings.Contains(text, "P99.9 MS") {
			t.Errorf("no columns in %s", text)
		}
	})
}

func TestBenchTellsFailures(t *testing.T) {
	address := startFake(t, &fakeKV{err: rpctypes.ErrGRPCNoSpace})
	out := newOutput()
	err := command(t.Context(), strings.NewReader(""), out, newOutput(), "bench", "put", "--total", "3", "--keep", "--endpoints", address)
	if err == nil || errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), "3 operations failed, the first with: etcdserver: mvcc: database space exceeded") {
		t.Errorf("%v\n%s", err, out)
	}
}

// leaderless refuses watches as a server does that hears no leader.
type leaderless struct {
	pb.UnimplementedWatchServer
	asked chan []string // the clients' metadata
}

func (l *leaderless) Watch(stream pb.Watch_WatchServer) error {
	l.asked <- metadata.ValueFromIncomingContext(stream.Context(), rpctypes.MetadataRequireLeaderKey)
	return rpctypes.ErrGRPCNoLeader
}

func TestWatchPassesServersWithoutALeader(t *testing.T) {
	s := startServer(t, node.APIEtcd)
	l := &leaderless{asked: make(chan []string, 10)}
	address := startFake(t, &fakeKV{}, func(r grpc.ServiceRegistrar) { pb.RegisterWatchServer(r, l) })
	s.done("put", "/a", "x")
	b := s.background("watch", "/a", "--rev", "1", "--endpoints", address+","+s.address)
	b.out.waitFor(t, "/a\nx\n")
	if got := <-l.asked; len(got) != 1 || got[0] != rpctypes.MetadataHasLeader {
		t.Errorf("it asked for a leader by %q", got)
	}
	b.stop()
	if err := b.wait(t); err != nil || b.errs.String() != "" {
		t.Errorf("%v, %s", err, b.errs)
	}
	err := command(t.Context(), strings.NewReader(""), newOutput(), newOutput(), "watch", "/a", "--endpoints", address)
	if errorText(err) != "etcdserver: no leader" {
		t.Errorf("with nothing but that server: %v", err)
	}
}
