package server

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
)

func rangeOf(key string) *pb.RangeRequest { return &pb.RangeRequest{Key: []byte(key)} }

func blockedRange(ctx context.Context, _ *pb.RangeRequest) (*pb.RangeResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestConfigValidate(t *testing.T) {
	e := newFakeEngine()
	good := testConfig(e, "")
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"engine":   func(c *Config) { c.Lessor = nil },
		"profile":  func(c *Config) { c.Profile = "kine" },
		"size":     func(c *Config) { c.MaxRequestBytes = -1 },
		"size max": func(c *Config) { c.MaxRequestBytes = 1 << 31 },
		"ops":      func(c *Config) { c.MaxTxnOps = -1 },
		"interval": func(c *Config) { c.HealthInterval = -1 },
	} {
		c := good
		change(&c)
		if c.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestPanicIsAnswered(t *testing.T) {
	h := start(t, ProfileEtcd)
	h.engine.onRange = func(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) { panic("boom") }
	_, err := h.kv.Range(testContext(t), rangeOf("k"))
	wantError(t, err, errPanic)
	h.engine.onStream = func(context.Context, func(*pb.RangeStreamResponse) error) error { panic("boom") }
	stream, err := h.kv.RangeStream(testContext(t), rangeOf("k"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	wantError(t, err, errPanic)
	if n := h.metrics.panics.Load(); n != 2 {
		t.Errorf("%d panics counted", n)
	}
	if _, err := h.maint.Status(testContext(t), &pb.StatusRequest{}); err != nil {
		t.Fatalf("the server is gone: %v", err)
	}
}

// GracefulStop ends open watch and keepalive streams, lets a running request
// finish, and needs no deadline for it.
func TestGracefulStop(t *testing.T) {
	h := start(t, ProfileEtcd)
	ctx := testContext(t)
	stream, _ := openWatch(t, h, ctx)
	leases := keepAlive(t, h)
	if err := leases.Send(&pb.LeaseKeepAliveRequest{ID: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := leases.Recv(); err != nil {
		t.Fatal(err)
	}
	entered, release := make(chan struct{}), make(chan struct{})
	h.engine.onRange = func(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
		close(entered)
		<-release
		return &pb.RangeResponse{}, nil
	}
	answered := make(chan error, 1)
	go func() {
		_, err := h.kv.Range(ctx, rangeOf("k"))
		answered <- err
	}()
	<-entered

	stopped := make(chan error, 1)
	go func() { stopped <- h.GracefulStop(ctx) }()
	_, err := stream.Recv()
	wantError(t, err, rpctypes.ErrGRPCStopped)
	_, err = leases.Recv()
	wantError(t, err, rpctypes.ErrGRPCStopped)
	select {
	case err := <-stopped:
		t.Fatalf("stopped with a request running: %v", err)
	default:
	}
	close(release)
	if err := <-answered; err != nil {
		t.Fatalf("the running request: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if _, err := h.kv.Range(ctx, rangeOf("k")); status.Code(err) != codes.Unavailable {
		t.Fatalf("after the stop: %v", err)
	}
}

// A request that does not end in time is cut off through its context.
func TestGracefulStopDeadline(t *testing.T) {
	h := start(t, ProfileEtcd)
	entered := make(chan struct{})
	h.engine.onRange = func(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
		close(entered)
		return blockedRange(ctx, r)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := h.kv.Range(testContext(t), rangeOf("k"))
		answered <- err
	}()
	<-entered
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := h.GracefulStop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if err := <-answered; err == nil {
		t.Fatal("the request was answered")
	}
}

// A handler that does not even end with its context does not hold up the stop.
func TestStopWithStuckHandler(t *testing.T) {
	h := start(t, ProfileEtcd)
	entered, release := make(chan struct{}), make(chan struct{})
	h.engine.onRange = func(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
		close(entered)
		<-release
		return &pb.RangeResponse{}, nil
	}
	answered := make(chan error, 1)
	go func() {
		_, err := h.kv.Range(testContext(t), rangeOf("k"))
		answered <- err
	}()
	<-entered
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := h.GracefulStop(ctx); !errors.Is(err, errStuck) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(release)
	<-answered
}

func TestWatchWhileStopping(t *testing.T) {
	h := start(t, ProfileEtcd)
	h.drain(rpctypes.ErrGRPCStopped)
	stream, err := h.watch.Watch(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	wantError(t, err, rpctypes.ErrGRPCStopped)
}

func TestHealth(t *testing.T) {
	h := start(t, ProfileNetsy, func(c *Config) { c.HealthInterval = time.Millisecond })
	client := healthpb.NewHealthClient(h.conn)
	check := func(want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		resp, err := client.Check(testContext(t), &healthpb.HealthCheckRequest{})
		if err != nil || resp.Status != want {
			t.Fatalf("got %v, %v, want %v", resp, err, want)
		}
	}
	watch, err := client.Watch(testContext(t), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	follow := func(want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		resp, err := watch.Recv()
		if err != nil || resp.Status != want {
			t.Fatalf("got %v, %v, want %v", resp, err, want)
		}
	}
	check(healthpb.HealthCheckResponse_SERVING)
	follow(healthpb.HealthCheckResponse_SERVING)
	h.engine.setStatus(Status{})
	check(healthpb.HealthCheckResponse_NOT_SERVING)
	follow(healthpb.HealthCheckResponse_NOT_SERVING)
	h.engine.setStatus(Status{Healthy: true})
	check(healthpb.HealthCheckResponse_SERVING)
	follow(healthpb.HealthCheckResponse_SERVING)
	h.health.shutdown()
	check(healthpb.HealthCheckResponse_NOT_SERVING)
}

func TestReflection(t *testing.T) {
	h := start(t, ProfileNetsy)
	stream, err := reflectionpb.NewServerReflectionClient(h.conn).ServerReflectionInfo(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{},
	}); err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range resp.GetListServicesResponse().GetService() {
		names = append(names, s.Name)
	}
	all := strings.Join(names, " ")
	for _, want := range []string{
		"etcdserverpb.KV", "etcdserverpb.Watch", "etcdserverpb.Lease", "etcdserverpb.Cluster",
		"etcdserverpb.Maintenance", "etcdserverpb.Auth", "grpc.health.v1.Health",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("%s is not listed in %s", want, all)
		}
	}
}

// collected returns the value of one sample, -1 when it is not there.
func collected(t *testing.T, s *Server, name string, labels map[string]string) float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(s); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	sample:
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if labels[l.GetName()] != l.GetValue() {
					continue sample
				}
			}
			switch {
			case m.Counter != nil:
				return m.Counter.GetValue()
			case m.Gauge != nil:
				return m.Gauge.GetValue()
			case m.Histogram != nil:
				return float64(m.Histogram.GetSampleCount())
			}
		}
	}
	return -1
}

func TestMetrics(t *testing.T) {
	h := start(t, ProfileNetsy)
	ctx := testContext(t)
	for range 3 {
		if _, err := h.kv.Range(ctx, rangeOf("k")); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = h.kv.Range(ctx, &pb.RangeRequest{})
	_, _ = h.kv.Put(ctx, &pb.PutRequest{Key: []byte("k")})
	stream, _ := openWatch(t, h, ctx)
	sendAll(t, stream, progressRequest())
	next(t, stream)
	for _, c := range []struct {
		name   string
		labels map[string]string
		want   float64
	}{
		{"kinsy_grpc_requests_total", map[string]string{"method": "KV/Range", "code": "OK"}, 3},
		{"kinsy_grpc_requests_total", map[string]string{"method": "KV/Range", "code": "InvalidArgument"}, 1},
		{"kinsy_grpc_requests_total", map[string]string{"method": "KV/Put", "code": "Unimplemented"}, 1},
		{"kinsy_grpc_requests_total", map[string]string{"method": "KV/Txn", "code": "OK"}, -1},
		{"kinsy_grpc_requests_in_flight", map[string]string{"method": "KV/Range"}, 0},
		{"kinsy_grpc_requests_in_flight", map[string]string{"method": "Watch/Watch"}, 1},
		{"kinsy_grpc_request_duration_seconds", map[string]string{"method": "KV/Range"}, 4},
		{"kinsy_grpc_request_duration_seconds", map[string]string{"method": "Watch/Watch"}, -1},
		{"kinsy_grpc_watch_streams", nil, 1},
		{"kinsy_grpc_watch_events_total", nil, 0},
		{"kinsy_grpc_panics_total", nil, 0},
	} {
		if got := collected(t, h.Server, c.name, c.labels); got != c.want {
			t.Errorf("%s%v: got %v, want %v", c.name, c.labels, got, c.want)
		}
	}
}

func TestMetricsOfUnknownMethodAndCode(t *testing.T) {
	m := newMetrics(nil, ProfileEtcd)
	e := m.method("/other.Service/Call")
	e.inFlight.Add(1)
	e.done(codes.Code(99), time.Second)
	if e != m.unknown || e.inFlight.Load() != 0 || e.codes[codes.Unknown].Load() != 1 {
		t.Fatal("not counted as unknown")
	}
}

func TestRequestsAreLoggedAtDebugOnly(t *testing.T) {
	for level, want := range map[logrus.Level]bool{logrus.InfoLevel: false, logrus.DebugLevel: true} {
		log := quietLogger()
		log.SetLevel(level)
		hook := &countingHook{}
		log.AddHook(hook)
		h := start(t, ProfileNetsy, func(c *Config) { c.Logger = log })
		if _, err := h.kv.Range(testContext(t), rangeOf("k")); err != nil {
			t.Fatal(err)
		}
		_ = h.conn.Close()
		if err := h.Stop(); err != nil {
			t.Fatal(err)
		}
		if got := hook.n > 0; got != want {
			t.Errorf("level %v: logged %v", level, got)
		}
	}
}

type countingHook struct{ n int }

func (h *countingHook) Levels() []logrus.Level { return logrus.AllLevels }

func (h *countingHook) Fire(*logrus.Entry) error {
	h.n++
	return nil
}

func TestServeAfterStop(t *testing.T) {
	s := New(testConfig(newFakeEngine(), ProfileNetsy))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(listener); err == nil {
		t.Fatal("a stopped server serves")
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
}
