package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	registerClients     = 16
	registerConnections = 4
	registerLives       = 5 // processes of one history; all but the last are killed
)

// observed is a request with its answer; unknown: no answer came.
type observed struct {
	request
	client         int
	call, returned int64
	answer         answer
	unknown        bool
}

// registerClient sends one request at a time.
type registerClient struct {
	id      int
	client  *clientv3.Client
	rng     *rand.Rand
	clock   func() int64
	plain   bool // Put is allowed beside Txn
	last    [registerCount]int64
	counter int
	history []observed
}

// TestHistoriesAreLinearizable lets clients read and write a few keys while the store is killed and started again. The
// answers, revisions included, must be those of one sequence of operations. What became of writes without an answer is
// read from the store's history at the end.
func TestHistoriesAreLinearizable(t *testing.T) {
	for _, api := range []string{profileNetsy, profileEtcd} {
		t.Run(api, func(t *testing.T) {
			n := newNode(t, t.TempDir(), api)
			ok(t, n.start())
			rng := rand.New(rand.NewPCG(*flagSeed, 4))
			begin := time.Now()
			conns := n.clients(t, registerConnections)
			clients := make([]*registerClient, registerClients)
			for i := range clients {
				clients[i] = &registerClient{id: i, client: conns[i%len(conns)], rng: rand.New(rand.NewPCG(*flagSeed, uint64(10+i))),
					clock: func() int64 { return time.Since(begin).Nanoseconds() }, plain: api == profileEtcd}
			}
			for life := range registerLives {
				ok(t, oneLife(t.Context(), n, clients, 1000+rng.Int64N(2000), life < registerLives-1))
			}
			head, err := revision(t.Context(), conns[0])
			ok(t, err)
			events, _, err := replay(t.Context(), conns[0], 1, head)
			ok(t, err)
			ok(t, contiguous(events, 1, head))
			judge(t, clients, events)
		})
	}
}

// oneLife lets the clients work until they have sent a number of requests. Then it kills the process and starts another
// one, or waits for the clients.
func oneLife(ctx context.Context, n *node, clients []*registerClient, requests int64, kill bool) error {
	ctx, cancel := within(ctx)
	defer cancel()
	var left atomic.Int64
	left.Store(requests)
	enough := make(chan struct{})
	var over atomic.Bool
	var done sync.WaitGroup
	errs := make([]error, len(clients))
	for i, c := range clients {
		done.Go(func() {
			for !over.Load() {
				if errs[i] = c.one(ctx); errs[i] != nil && !over.Load() {
					return
				}
				errs[i] = nil
				if left.Add(-1) == 0 {
					over.Store(true)
					close(enough)
				}
			}
		})
	}
	select {
	case <-enough:
	case <-ctx.Done():
		return fmt.Errorf("%d requests are left: %w", left.Load(), ctx.Err())
	}
	if kill {
		n.proc.kill()
		cancel() // the etcd client goes on trying reads
	}
	done.Wait()
	for i, c := range clients {
		c.close()
		if errs[i] != nil {
			return fmt.Errorf("client %d: %w", i, errs[i])
		}
	}
	if !kill {
		return nil
	}
	return n.start()
}

// close gives the unanswered requests of a process that has ended their end: nothing is done for them any more.
func (c *registerClient) close() {
	for i := range c.history {
		if o := &c.history[i]; o.unknown && o.returned == 0 {
			o.returned = c.clock()
		}
	}
}

// one sends a random request and notes it.
func (c *registerClient) one(ctx context.Context) error {
	r := request{key: c.rng.IntN(registerCount)}
	r.seen = c.last[r.key]
	switch n := c.rng.IntN(10); {
	case n < 3:
		r.action = getOne
	case n < 5:
		r.action = getAll
	case n < 6:
		r.action = putOne
	case n < 7 && r.seen > 0:
		r.action = deleteOne
	default:
		r.action = swapOne
	}
	if r.action == putOne || r.action == swapOne {
		c.counter++
		r.value = fmt.Sprintf("%d-%d", c.id, c.counter)
	}
	o := observed{request: r, client: c.id, call: c.clock()}
	a, err := c.send(ctx, r)
	if err != nil {
		if o.unknown = true; r.writes() {
			c.history = append(c.history, o)
		}
		return err
	}
	o.answer, o.returned = a, c.clock()
	c.history = append(c.history, o)
	c.remember(r, a)
	return nil
}

// remember keeps what the client knows of the keys.
func (c *registerClient) remember(r request, a answer) {
	switch {
	case r.action == getAll:
		for i, k := range a.keys {
			c.last[i] = k.mod
		}
	case r.writes() && a.done && r.action == deleteOne:
		c.last[r.key] = 0
	case r.writes() && a.done:
		c.last[r.key] = a.revision
	default:
		c.last[r.key] = a.keys[r.key].mod
	}
}

func registerKey(i int) string { return fmt.Sprintf("%s%d", registerPrefix, i) }

func (c *registerClient) send(ctx context.Context, r request) (answer, error) {
	key := registerKey(r.key)
	switch {
	case r.action == getOne:
		resp, err := c.client.Get(ctx, key)
		return answerOf((*pb.RangeResponse)(resp)), err
	case r.action == getAll && c.rng.IntN(2) == 0:
		resp, err := c.client.Get(ctx, registerPrefix, clientv3.WithPrefix())
		return answerOf((*pb.RangeResponse)(resp)), err
	case r.action == getAll:
		var gets []clientv3.Op
		for i := range registerCount {
			gets = append(gets, clientv3.OpGet(registerKey(i)))
		}
		return c.txn(c.client.Txn(ctx).Then(gets...))
	case r.action == putOne && c.plain:
		resp, err := c.client.Put(ctx, key, r.value)
		if err != nil {
			return answer{}, err
		}
		return answer{done: true, revision: resp.Header.Revision}, nil
	case r.action == putOne:
		return c.txn(c.client.Txn(ctx).Then(clientv3.OpPut(key, r.value)))
	}
	op := clientv3.OpPut(key, r.value)
	if r.action == deleteOne {
		op = clientv3.OpDelete(key)
	}
	return c.txn(c.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", r.seen)).Then(op).Else(clientv3.OpGet(key)))
}

func (c *registerClient) txn(t clientv3.Txn) (answer, error) {
	resp, err := t.Commit()
	if err != nil {
		return answer{}, err
	}
	a := answer{done: resp.Succeeded, revision: resp.Header.Revision}
	for _, one := range resp.Responses {
		a.see(one.GetResponseRange())
	}
	return a, nil
}

func answerOf(resp *pb.RangeResponse) answer {
	if resp == nil {
		return answer{}
	}
	a := answer{done: true, revision: resp.Header.Revision}
	a.see(resp)
	return a
}

func (a *answer) see(resp *pb.RangeResponse) {
	for _, kv := range resp.GetKvs() {
		var i int
		if _, err := fmt.Sscanf(string(kv.Key), registerPrefix+"%d", &i); err == nil && i < registerCount {
			a.keys[i] = register{value: string(kv.Value), mod: kv.ModRevision}
		}
	}
}
