package replicate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/mvcc/mvcctest"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// TestFailedCommit: everything that is pending fails, nothing of it is ever seen,
// and the log is brought back to what is committed.
func TestFailedCommit(t *testing.T) {
	for _, c := range []struct {
		name    string
		verdict verdict
		want    error
	}{
		{"disk full", verdict{err: sqllog.ErrFull}, ErrNoSpace},
		{"I/O error", verdict{err: sqllog.ErrIO}, ErrUnavailable},
		{"I/O error, rows on disk", verdict{err: sqllog.ErrIO, keep: true}, ErrUnavailable},
	} {
		for _, fresh := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/fresh=%v", c.name, fresh), func(t *testing.T) {
				b := newBed(t, Config{})
				state := ""
				if !fresh {
					b.write(put("a", "1"), put("b", "1"))
					state = "ab"
				}
				rev := b.store.Revision()
				b.failPending(c.verdict, c.want)
				b.refusing(state, rev, c.want)
				b.serving()
				if head := b.log.Head(); head != b.store.Head() {
					t.Fatalf("the log is at %+v, the store at %+v", head, b.store.Head())
				}
				if next := b.write(put("c", "2")); next != rev+1 {
					t.Fatalf("the next revision is %d, want %d", next, rev+1)
				}
				if got := b.keys(); got != state+"c" {
					t.Fatalf("keys are %q", got)
				}
				b.reopen(Config{})
				if got := b.keys(); got != state+"c" || b.store.Revision() != rev+1 {
					t.Fatalf("after reopening: keys %q at %d", got, b.store.Revision())
				}
				if len(b.fatal) > 0 {
					t.Fatal(<-b.fatal)
				}
			})
		}
	}
}

// failPending fails the commit of a group while more have formed behind it.
func (b *bed) failPending(v verdict, target error) {
	b.Helper()
	b.gate.set(true)
	recovered := make(chan struct{})
	b.hook(mvcctest.Hooks{Recover: func() error { <-recovered; return nil }})
	b.Cleanup(func() { b.hook(mvcctest.Hooks{}) })
	waiting := []<-chan error{b.txn(writes(put("w0", "x")))}
	<-b.gate.entered
	for i := range 8 {
		waiting = append(waiting, b.txn(writes(put(fmt.Sprintf("w%d", i+1), "x"))))
	}
	b.pending(8)
	waiting = append(waiting,
		b.txn(&pb.TxnRequest{Compare: []*pb.Compare{absent("w0")}, Success: []*pb.RequestOp{put("z", "x")}, Failure: []*pb.RequestOp{get("w0")}}),
		b.txn(writes(&pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("z"), Lease: 99}}})),
		call(func() error { _, err := b.p.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 5, TTL: 10}); return err }),
	)
	b.pending(9)
	for _, over := range waiting {
		stillWaits(b, "a write", over)
	}
	b.gate.set(false)
	b.gate.release <- v
	for i, over := range waiting {
		want(b, fmt.Sprintf("write %d", i), <-over, target)
	}
	want(b, "a write after it", <-b.txn(writes(put("late", "x"))), target)
	if st := b.p.Status(); st.Healthy || st.NoSpace != errors.Is(target, ErrNoSpace) || len(st.Errors) != 1 {
		b.Fatalf("status is %+v", st)
	}
	close(recovered)
}

// refusing checks that reads see just what is committed.
func (b *bed) refusing(keys string, rev int64, target error) {
	b.Helper()
	if got := b.keys(); got != keys || b.store.Revision() != rev {
		b.Fatalf("keys are %q at %d, want %q at %d", got, b.store.Revision(), keys, rev)
	}
	if resp, err := b.p.LeaseLeases(ctx); err != nil || len(resp.Leases) != 0 {
		b.Fatalf("%v, %v", resp, err)
	}
}

// TestRecoveryIsTriedAgain: the disk stays full for a while, and truncating fails.
func TestRecoveryIsTriedAgain(t *testing.T) {
	b := newBed(t, Config{})
	b.write(put("a", "1"))
	tries := make(chan string, 10)
	recovers, truncates := 0, 0
	b.hook(mvcctest.Hooks{
		Recover: func() error {
			if recovers++; recovers == 1 {
				tries <- "recover"
				return sqllog.ErrFull
			}
			return nil
		},
		Truncate: func(sqllog.Head) error {
			if truncates++; truncates == 1 {
				tries <- "truncate"
				return sqllog.ErrIO
			}
			return nil
		},
	})
	b.gate.set(true)
	over := b.txn(writes(put("b", "1")))
	<-b.gate.entered
	b.gate.set(false)
	b.gate.release <- verdict{keep: true, err: sqllog.ErrIO}
	want(t, "write", <-over, ErrUnavailable)
	if first, second := <-tries, <-tries; first != "recover" || second != "truncate" {
		t.Fatal(first, second)
	}
	b.serving()
	if rev := b.write(put("c", "1")); rev != 3 || b.keys() != "ac" {
		t.Fatalf("keys are %q at %d", b.keys(), rev)
	}
}

// TestRandomFailures: clients write while commits fail now and then, with and
// without the rows on disk. What was acknowledged is there, what failed is not,
// and reads never see anything else.
func TestRandomFailures(t *testing.T) {
	b := newBed(t, Config{groupBytes: 20})
	g := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	commits, failures := 0, 0
	b.log.Hook(mvcctest.Hooks{Append: func([]sqllog.Row) (bool, error) {
		if commits++; commits%40 == 0 {
			failures++
			return g.IntN(2) == 0, []error{sqllog.ErrFull, sqllog.ErrIO}[g.IntN(2)]
		}
		return false, nil
	}})
	var wg sync.WaitGroup
	for c := range 8 {
		wg.Go(func() {
			key := fmt.Sprintf("k%d", c)
			var mod, version int64
			for range 60 {
				compare := &pb.Compare{Key: []byte(key), Target: pb.Compare_MOD, TargetUnion: &pb.Compare_ModRevision{ModRevision: mod}}
				resp, err := b.p.Txn(ctx, &pb.TxnRequest{Compare: []*pb.Compare{compare}, Success: []*pb.RequestOp{put(key, fmt.Sprint(version+1))}})
				switch {
				case err != nil:
					if !errors.Is(err, ErrNoSpace) && !errors.Is(err, ErrUnavailable) {
						t.Error(err)
					}
					until(t, "recovery", func() bool { return b.p.Err() == nil })
				case !resp.Succeeded:
					t.Errorf("%s is not at %d", key, mod)
				default:
					mod, version = resp.Header.Revision, version+1
				}
				now, err := b.p.Range(ctx, &pb.RangeRequest{Key: []byte(key)})
				if err != nil || (version > 0 && (now.Kvs[0].ModRevision != mod || now.Kvs[0].Version != version || string(now.Kvs[0].Value) != fmt.Sprint(version))) {
					t.Errorf("%v, %v, want version %d at %d", now, err, version, mod)
				}
			}
		})
	}
	wg.Wait()
	before, rev := b.keys(), b.store.Revision()
	b.serving()
	b.reopen(Config{})
	if b.keys() != before || b.store.Revision() != rev || failures == 0 {
		t.Fatalf("%q at %d after reopening, %q at %d before, %d failures", b.keys(), b.store.Revision(), before, rev, failures)
	}
}

// shortLog has lost rows that it has acknowledged.
type shortLog struct{ *mvcctest.Log }

func (l shortLog) Recover(ctx context.Context) (sqllog.Head, error) {
	head, err := l.Log.Recover(ctx)
	head.ID--
	return head, err
}

func TestLostRowsAreFatal(t *testing.T) {
	b := newBed(t, Config{})
	b.p.Close()
	b.p = New(shortLog{b.log}, b.store, Config{Logger: quiet(), OnFatal: func(err error) { b.fatal <- err }})
	b.write(put("a", "1"))
	b.gate.set(true)
	over := b.txn(writes(put("b", "1")))
	<-b.gate.entered
	b.gate.set(false)
	b.gate.release <- verdict{err: sqllog.ErrIO}
	want(t, "write", <-over, ErrUnavailable)
	want(t, "fatal", <-b.fatal, sqllog.ErrCorrupt)
	want(t, "later write", <-b.txn(writes(put("c", "1"))), sqllog.ErrCorrupt)
	if b.keys() != "a" || b.p.Status().Healthy || len(b.fatal) > 0 {
		t.Fatalf("%q, %+v", b.keys(), b.p.Status())
	}
}

// TestPanicInEvaluation: half a Txn must not reach the log with the group that it
// was evaluated into, and nothing is written any more.
func TestPanicInEvaluation(t *testing.T) {
	b := newBed(t, Config{})
	b.close()
	b.mem.CacheBytes = 1
	b.start(Config{})
	b.write(put("a", "1"))
	b.gate.set(true)
	inFlight := b.txn(writes(put("b", "1")))
	<-b.gate.entered
	forming := b.txn(writes(put("c", "1")))
	b.pending(1)
	b.hook(mvcctest.Hooks{Values: func([]sqllog.ID) error { panic("test") }})
	ignore := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("a"), IgnoreValue: true}}}
	want(t, "the Txn that panics", <-b.txn(writes(put("d", "1"), ignore)), ErrUnavailable)
	b.hook(mvcctest.Hooks{})
	want(t, "fatal", <-b.fatal, ErrUnavailable)
	b.gate.set(false)
	b.gate.release <- verdict{}
	want(t, "the group before", <-inFlight, nil)
	want(t, "its own group", <-forming, ErrUnavailable)
	want(t, "a later write", <-b.txn(writes(put("e", "1"))), ErrUnavailable)
	if len(b.fatal) > 0 || b.p.Status().Healthy {
		t.Fatalf("%+v", b.p.Status())
	}
	b.reopen(Config{})
	if got := b.keys(); got != "ab" {
		t.Fatalf("the log holds %q", got)
	}
}

// TestPanicIsNotRecoveredFrom: not even when the log has failed as well.
func TestPanicIsNotRecoveredFrom(t *testing.T) {
	b := newBed(t, Config{})
	b.gate.set(true)
	inFlight := b.txn(writes(put("b", "1")))
	<-b.gate.entered
	err := b.p.submit(ctx, func(*mvcc.Batch) error { panic("test") })
	want(t, "the evaluation that panics", err, ErrUnavailable)
	b.gate.set(false)
	b.gate.release <- verdict{err: sqllog.ErrFull}
	want(t, "the group before", <-inFlight, ErrNoSpace)
	want(t, "a later write", <-b.txn(writes(put("e", "1"))), b.p.Err())
	if err := b.p.Err(); err == nil || errors.Is(err, ErrNoSpace) {
		t.Fatal(err)
	}
}

func TestFatalPanicsByDefault(t *testing.T) {
	b := newBed(t, Config{})
	b.p.Close()
	b.p = New(b.log, b.store, Config{Logger: quiet()})
	defer func() {
		if recover() == nil {
			t.Fatal("nobody was told")
		}
	}()
	_ = b.p.submit(ctx, func(*mvcc.Batch) error { panic("test") })
}
