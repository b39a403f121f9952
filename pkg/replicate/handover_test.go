package replicate

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/mvcc"
)

// load has clients at nodes write, read and compare until it is ended, which tells
// what went wrong and how much was done.
func (w *world) load(nodes ...*testNode) (end func() (done int, errs []error)) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	done := 0
	stop := make(chan struct{})
	client := func(n *testNode, what string, call func(i int) error) {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				err := call(i)
				mu.Lock()
				done++
				if err != nil {
					errs = append(errs, fmt.Errorf("%s at %s: %w", what, n.name, err))
				}
				mu.Unlock()
			}
		})
	}
	for _, n := range nodes {
		mine := "mine" + n.name
		client(n, "write", func(i int) error {
			value := fmt.Sprint(i)
			if _, err := n.tryPut(within(patient), mine, value); err != nil {
				return err
			}
			got, err := n.tryGet(within(patient), mine)
			if err == nil && got != value {
				err = fmt.Errorf("read %q after %q was acknowledged", got, value)
			}
			return err
		})
		client(n, "read", func(int) error {
			_, err := n.tryGet(within(patient), "mine"+nodes[0].name)
			return err
		})
		client(n, "compare", func(int) error {
			_, err := n.m.Txn(within(patient), &pb.TxnRequest{Compare: []*pb.Compare{absent("there")}, Success: writes(put("there", "x")).Success})
			return err
		})
		client(n, "keep alive", func(int) error {
			_, err := n.m.LeaseKeepAlive(within(patient), 9)
			return err
		})
	}
	return func() (int, []error) {
		close(stop)
		wg.Wait()
		return done, errs
	}
}

// TestMovePrimary under load, to every node: no request fails.
func TestMovePrimary(t *testing.T) {
	w := newWorld(t)
	w.setup = func(c *MemberConfig) { c.Suspicion = 600 * time.Millisecond } // no other elections
	a, b, c := w.trio()
	if _, err := a.m.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 9, TTL: 600}); err != nil {
		t.Fatal(err)
	}
	a.put("there", "x")
	end := w.load(a, b, c)
	for _, to := range []*testNode{b, c, a, b} {
		w.moveTo(to)
		for _, n := range []*testNode{a, b, c} {
			if n != to {
				n.awaitFollow(to)
			}
		}
	}
	if got := w.cluster().Epoch; got < 5 {
		t.Errorf("epoch %d after four hand-overs", got)
	}
	done, errs := end()
	t.Logf("%d requests", done)
	for _, err := range errs[:min(len(errs), 10)] {
		t.Error(err)
	}
	w.same(a, b, c)
}

// TestMovePrimaryRefused: what cannot be done leaves everything as it is.
func TestMovePrimaryRefused(t *testing.T) {
	w := newWorld(t)
	a := w.add("a").awaitLead()
	want(t, "to nobody", a.m.MovePrimary(ctx, 0), ErrNoSuccessor)
	want(t, "to oneself", a.m.MovePrimary(ctx, a.id), nil)
	b := w.add("b")
	w.voters(a, b)
	want(t, "to nobody who is known", a.m.MovePrimary(ctx, elect.NodeID(99)), ErrNoSuccessor)
	want(t, "by a Replica", b.m.MovePrimary(ctx, b.id), ErrNotPrimary)
	want(t, "by a Replica, to who is it", b.m.MovePrimary(ctx, a.id), nil)
	if w.primary() != a {
		t.Fatal("another node is Primary")
	}
	a.put("key", "value")
	// The successor does not answer: the Primary goes on.
	a.store.down(true)
	if err := a.m.MovePrimary(within(3*testSuspicion), 0); err == nil {
		t.Error("handed over without object storage")
	}
	a.store.down(false)
	a.put("key", "after")
	if got := b.get("key"); got != "after" {
		t.Errorf("read %q", got)
	}
}

// isLeaseError reports whether a keep-alive failed since there is no such lease.
func isLeaseError(err error) bool { return errors.Is(err, mvcc.ErrLeaseNotFound) }

// TestMovePrimaryWithoutObjectStorage: a hand-over that cannot come about ends by
// itself, however patient its client is, and writes go on.
func TestMovePrimaryWithoutObjectStorage(t *testing.T) {
	w := newWorld(t)
	a, _, _ := w.trio()
	for _, n := range w.nodes {
		n.store.down(true)
	}
	if err := a.m.MovePrimary(ctx, 0); !errors.Is(err, ErrNoSuccessor) {
		t.Errorf("hand-over without object storage: %v", err)
	}
	a.put("key", "value")
	for _, n := range w.nodes {
		n.store.down(false)
	}
}
