package replicate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

// chaosFor is how long TestChaos goes on.
func chaosFor(t *testing.T) time.Duration {
	text := os.Getenv("KINSY_CHAOS")
	if text == "" {
		return 2 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// chaosClient writes numbers that grow to a key of its own, at any node, and reads
// them. A write says what it replaces: one whose outcome was not known may come late,
// and must not undo a newer one.
type chaosClient struct {
	w    *world
	key  string
	r    *rand.Rand
	last int // tried
	most int // acknowledged, or read
	done int
}

func (c *chaosClient) step() {
	m := c.w.nodes[c.r.IntN(len(c.w.nodes))].live.Load()
	if m == nil {
		return
	}
	limit, cancel := context.WithTimeout(ctx, time.Duration(1+c.r.IntN(500))*time.Millisecond)
	defer cancel()
	if c.r.IntN(2) == 0 {
		c.last++
		resp, err := m.Txn(limit, &pb.TxnRequest{
			Compare: []*pb.Compare{holds(c.key, c.most)}, Success: writes(put(c.key, strconv.Itoa(c.last))).Success,
		})
		if err == nil && resp.Succeeded {
			c.most = c.last
			c.done++
		}
		return
	}
	resp, err := m.Range(limit, &pb.RangeRequest{Key: []byte(c.key)})
	if err == nil {
		c.check(m, resp)
		c.done++
	}
}

// holds compares a key with a number; 0 is none.
func holds(key string, n int) *pb.Compare {
	if n == 0 {
		return absent(key)
	}
	return &pb.Compare{Key: []byte(key), Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: []byte(strconv.Itoa(n))}}
}

// check compares what was read with what may be there.
func (c *chaosClient) check(m *Member, resp *pb.RangeResponse) {
	value := 0
	if len(resp.Kvs) > 0 {
		value, _ = strconv.Atoi(string(resp.Kvs[0].Value))
	}
	if value < c.most || value > c.last {
		c.w.Errorf("%s at %s is %d; %d was acknowledged or read, %d tried", c.key, m.self, value, c.most, c.last)
	}
	c.most = max(c.most, value)
}

// faults happen one after the other; each is undone by what it returns.
var faults = []struct {
	name string
	do   func(w *world, n, other *testNode) (undo func())
}{
	{"isolate", func(w *world, n, _ *testNode) func() {
		w.isolate(n, true)
		return func() { w.isolate(n, false) }
	}},
	{"hush", func(w *world, n, other *testNode) func() {
		w.net.hush(n.id, other.id, true)
		return func() { w.net.hush(n.id, other.id, false) }
	}},
	{"stop", func(_ *world, n, _ *testNode) func() {
		n.stop()
		return n.start
	}},
	{"no object storage", func(w *world, n, _ *testNode) func() {
		n.store.down(true)
		return func() { n.store.down(false) }
	}},
	{"no object storage for anybody", func(w *world, _, _ *testNode) func() {
		for _, n := range w.nodes {
			n.store.down(true)
		}
		return func() {
			for _, n := range w.nodes {
				n.store.down(false)
			}
		}
	}},
	{"answers of object storage are lost", func(w *world, n, _ *testNode) func() {
		n.store.set(func(op object.Op, _ string) error {
			if op == object.OpPut && rand.IntN(2) == 0 {
				return errAnswerLost
			}
			return nil
		})
		return func() { n.store.set(nil) }
	}},
	{"disk", func(_ *world, n, _ *testNode) func() {
		n.log.failOnce(rand.IntN(2) == 0)
		return func() {}
	}},
	{"move", func(w *world, n, _ *testNode) func() {
		for _, from := range w.nodes {
			if from.leads() {
				_ = from.m.MovePrimary(within(200*time.Millisecond), n.id)
			}
		}
		return func() {}
	}},
	{"compact", func(w *world, n, _ *testNode) func() {
		_, _ = n.m.Compact(within(200*time.Millisecond), n.index.Revision(), false)
		return func() {}
	}},
}

// TestChaos: whatever happens to nodes, disks, network and object storage, nothing that
// was acknowledged is lost, no read goes back, and in the end all nodes hold the same.
func TestChaos(t *testing.T) {
	w := newWorld(t)
	rules := []elect.Rule{elect.Majority, elect.Majority, 1, 2, elect.ObjectStorage}
	w.rule = rules[rand.IntN(len(rules))]
	w.trio()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	clients := make([]*chaosClient, 6)
	for i := range clients {
		c := &chaosClient{w: w, key: fmt.Sprint("client", i), r: rand.New(rand.NewPCG(rand.Uint64(), 0))}
		clients[i] = c
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					c.step()
				}
			}
		})
	}
	happened := map[string]int{}
	for end := time.Now().Add(chaosFor(t)); time.Now().Before(end) && !t.Failed(); {
		n, f := w.nodes[rand.IntN(3)], faults[rand.IntN(len(faults))]
		other := w.nodes[(rand.IntN(2)+1+slices.Index(w.nodes, n))%3]
		fmt.Fprintf(w.out, "-- %s: %s\n", n.name, f.name)
		undo := f.do(w, n, other)
		happened[f.name]++
		<-within(time.Duration(rand.IntN(int(4 * testSuspicion)))).Done()
		undo()
		<-within(time.Duration(rand.IntN(int(4 * testSuspicion)))).Done()
	}
	fmt.Fprintln(w.out, "-- all is well")
	w.put3()
	close(stop)
	wg.Wait()
	done := 0
	for _, c := range clients {
		resp, err := w.nodes[0].m.Range(within(patient), &pb.RangeRequest{Key: []byte(c.key)})
		if err != nil {
			t.Fatal(err)
		}
		c.check(w.nodes[0].m, resp)
		done += c.done
	}
	w.same(w.nodes...)
	t.Logf("rule %d: %d requests; epoch %d; %v", w.rule, done, w.cluster().Epoch, happened)
}
