package s3

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// never is when an operation returned whose outcome stays open.
const never = int64(24 * time.Hour)

// registerPause is the longest time between two requests of one client: the histories of minutes must stay short enough
// to be checked.
const registerPause = 20 * time.Millisecond

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
	last    [registerCount]int64
	counter int
	history []observed
}

// crowd is a number of register clients at work.
type crowd struct {
	clients []*registerClient
	stopped atomic.Bool
	done    sync.WaitGroup
	cancel  context.CancelFunc
	faults
}

func newCrowd(count int, conns []*clientv3.Client, seed uint64) *crowd {
	begin := time.Now()
	c := &crowd{cancel: func() {}}
	for i := range count {
		c.clients = append(c.clients, &registerClient{id: i, client: conns[i%len(conns)], rng: rand.New(rand.NewPCG(seed, uint64(i))),
			clock: func() int64 { return time.Since(begin).Nanoseconds() }})
	}
	return c
}

func (c *crowd) start(ctx context.Context) {
	ctx, c.cancel = context.WithCancel(ctx)
	for _, one := range c.clients {
		c.done.Go(func() { c.fail(one.run(ctx, &c.stopped)) })
	}
}

// end stops the clients and waits for them.
func (c *crowd) end() error {
	c.stopped.Store(true)
	c.cancel()
	c.done.Wait()
	return c.found()
}

// run sends requests until stop is set, or one ends as it must not.
func (c *registerClient) run(ctx context.Context, stop *atomic.Bool) error {
	for !stop.Load() {
		err := c.one(ctx)
		if err != nil && !openOutcome(err) && ctx.Err() == nil {
			return fmt.Errorf("register client %d: %w", c.id, err)
		}
		if wait(ctx, rand.N(registerPause)) != nil {
			return nil
		}
	}
	return nil
}

// one sends a random request and notes it.
func (c *registerClient) one(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r := c.choose()
	o := observed{request: r, client: c.id, call: c.clock()}
	a, err := c.send(ctx, r)
	if err != nil {
		if r.writes() {
			o.unknown, o.returned = true, never
			c.history = append(c.history, o)
		}
		return err
	}
	o.answer, o.returned = a, c.clock()
	c.history = append(c.history, o)
	c.remember(r, a)
	return nil
}

func (c *registerClient) choose() request {
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
	return r
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
	case r.action == putOne:
		resp, err := c.client.Put(ctx, key, r.value)
		if err != nil {
			return answer{}, err
		}
		return answer{done: true, revision: resp.Header.Revision}, nil
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
