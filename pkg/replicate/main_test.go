package replicate

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/goleak"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/mvcc/mvcctest"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ctx = context.Background()

// bed is a Primary on a log in memory that fails, and waits, when it is told to.
type bed struct {
	testing.TB
	log   *mvcctest.Log
	mem   mvcc.Config
	store *mvcc.Store
	p     *Primary
	gate  *gate
	fatal chan error
}

func newBed(t testing.TB, cfg Config) *bed {
	b := &bed{TB: t, log: mvcctest.New(), fatal: make(chan error, 10), gate: &gate{entered: make(chan []sqllog.Row), release: make(chan verdict)}}
	b.hook(mvcctest.Hooks{})
	b.start(cfg)
	t.Cleanup(b.close)
	return b
}

// hook sets further hooks beside the gate.
func (b *bed) hook(h mvcctest.Hooks) {
	h.Append = b.gate.append
	b.log.Hook(h)
}

func (b *bed) start(cfg Config) {
	b.Helper()
	cfg.Logger = quiet()
	cfg.OnFatal = func(err error) { b.fatal <- err }
	b.mem.Logger, b.mem.ProgressInterval = cfg.Logger, -1
	var err error
	if b.store, err = mvcc.Open(ctx, b.log, b.mem); err != nil {
		b.Fatal(err)
	}
	b.p = New(b.log, b.store, cfg)
}

func (b *bed) close() {
	b.p.Close()
	b.store.Close()
}

// reopen starts anew on what the log holds.
func (b *bed) reopen(cfg Config) {
	b.Helper()
	b.close()
	b.log = b.log.Reopen()
	b.start(cfg)
}

func quiet() logrus.FieldLogger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}

// gate holds appends up while it is shut.
type gate struct {
	mu      sync.Mutex
	shut    bool
	entered chan []sqllog.Row
	release chan verdict
}

// verdict is what becomes of an append.
type verdict struct {
	keep bool // the rows are there in spite of err
	err  error
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
}

func (g *gate) append(rows []sqllog.Row) (bool, error) {
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if !shut {
		return false, nil
	}
	g.entered <- rows
	v := <-g.release
	return v.keep, v.err
}

// until waits for something that no channel tells.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for start := time.Now(); !done(); runtime.Gosched() {
		if time.Since(start) > 20*time.Second {
			t.Fatalf("waiting for %s", what)
		}
	}
}

// call runs fn and gives its error when it is over.
func call(fn func() error) <-chan error {
	over := make(chan error, 1)
	go func() { over <- fn() }()
	return over
}

func (b *bed) txn(r *pb.TxnRequest) <-chan error {
	return call(func() error {
		_, err := b.p.Txn(ctx, r)
		return err
	})
}

func writes(ops ...*pb.RequestOp) *pb.TxnRequest { return &pb.TxnRequest{Success: ops} }

func (b *bed) write(ops ...*pb.RequestOp) int64 {
	b.Helper()
	resp, err := b.p.Txn(ctx, writes(ops...))
	if err != nil {
		b.Fatal(err)
	}
	return resp.Header.Revision
}

// pending waits until the forming group has n rows.
func (b *bed) pending(n int) {
	b.Helper()
	until(b, "rows in the forming group", func() bool {
		b.p.mu.Lock()
		defer b.p.mu.Unlock()
		return len(b.p.forming.batch.Rows) == n
	})
}

// keys gives the committed keys, as one string.
func (b *bed) keys() string {
	b.Helper()
	resp, err := b.p.Range(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	if err != nil {
		b.Fatal(err)
	}
	var keys string
	for _, kv := range resp.Kvs {
		keys += string(kv.Key)
	}
	return keys
}

func (b *bed) serving() {
	b.Helper()
	until(b, "recovery", func() bool { return b.p.Err() == nil })
}

func absent(key string) *pb.Compare {
	return &pb.Compare{Key: []byte(key), Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{}}
}

func get(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key)}}}
}

func want(t testing.TB, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("%s: error is %v, want %v", what, err, target)
	}
}

// stillWaits checks that a call is not over.
func stillWaits(t testing.TB, what string, over <-chan error) {
	t.Helper()
	select {
	case err := <-over:
		t.Fatalf("%s did not wait: %v", what, err)
	default:
	}
}
