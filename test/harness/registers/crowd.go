package registers

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/client"
	"github.com/kinsy/kinsy/test/harness/load"
)

// never is when an operation returned whose outcome stays open.
const never = int64(24 * time.Hour)

// Config describes a Crowd.
type Config struct {
	// Count is the number of clients. They share Clients, in turn; those may be of different nodes.
	Count   int
	Clients []*clientv3.Client
	// Seed gives the random choices.
	Seed uint64
	// Alone: nobody else writes to the store, so every revision is one of these clients'.
	Alone bool
	// Single: only such requests are sent that the netsy profile serves: puts are Txns.
	Single bool
	// Strict: every error before Stop is a fault, and ends its client. Else clients go on when an answer is missing.
	Strict bool
	// Patience bounds each request; 0 means client.WaitLimit.
	Patience time.Duration
	// Pause is the longest time between two requests of one client; 0: there is none. The histories of minutes must stay short
	// enough to be checked.
	Pause time.Duration
}

// Crowd is a number of clients that read and write registers: a load.Load that counts requests that were answered.
type Crowd struct {
	load.Load
	cfg     Config
	members []*member
}

// observed is a request with its answer; unknown: no answer came.
type observed struct {
	request
	client         int
	call, returned int64
	answer         answer
	unknown        bool
}

// member sends one request at a time.
type member struct {
	id       int
	client   *clientv3.Client
	rng      *rand.Rand
	single   bool
	patience time.Duration
	last     [registerCount]int64
	counter  int
	history  []observed
}

// All crowds of a process share a clock and the ids of clients, so that they can be judged together.
var (
	begun   = time.Now()
	members atomic.Int64
)

func now() int64 { return time.Since(begun).Nanoseconds() }

// NewCrowd makes the clients. They begin with Start.
func NewCrowd(cfg Config) *Crowd {
	if cfg.Patience == 0 {
		cfg.Patience = client.WaitLimit
	}
	c := &Crowd{cfg: cfg}
	for i := range cfg.Count {
		c.members = append(c.members, &member{id: int(members.Add(1)), client: cfg.Clients[i%len(cfg.Clients)],
			rng: rand.New(rand.NewPCG(cfg.Seed, uint64(i))), single: cfg.Single, patience: cfg.Patience})
	}
	return c
}

// Start lets the clients work until Stop, or ctx ends. It may be called again after End.
func (c *Crowd) Start(ctx context.Context) {
	var clients []load.Client
	for _, m := range c.members {
		one := load.Client{Name: fmt.Sprintf("register client %d", m.id), Strict: c.cfg.Strict, One: func(ctx context.Context) error {
			err := m.one(ctx)
			if err == nil {
				c.Add()
			}
			return err
		}}
		if c.cfg.Pause > 0 {
			one.Pause = func(ctx context.Context) { _ = client.Wait(ctx, rand.N(c.cfg.Pause)) } // the loop sees that ctx has ended
		}
		clients = append(clients, one)
	}
	c.Load.Start(ctx, clients...)
}

// End stops the clients, gives requests under way up, waits, and returns what must not have happened.
func (c *Crowd) End() error {
	c.GiveUp()
	c.Wait()
	return c.Err()
}

// Bury says that nothing is done any more for the requests that were not answered so far: whoever had them is dead, and with it
// all on the way from it. Without that a write may take effect at any later time. The clients must have ended.
func (c *Crowd) Bury() {
	for _, m := range c.members {
		for i := range m.history {
			if o := &m.history[i]; o.unknown && o.returned == never {
				o.returned = now()
			}
		}
	}
}

// one sends a random request and notes it.
func (c *member) one(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	r := c.choose()
	o := observed{request: r, client: c.id, call: now()}
	a, err := c.send(ctx, r)
	if err != nil {
		if r.writes() {
			o.unknown, o.returned = true, never
			c.history = append(c.history, o)
		}
		return err
	}
	o.answer, o.returned = a, now()
	c.history = append(c.history, o)
	c.remember(r, a)
	return nil
}

// choose draws a request.
func (c *member) choose() request {
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
func (c *member) remember(r request, a answer) {
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

// registerKey is the key of a register.
func registerKey(i int) string { return fmt.Sprintf("%s%d", Prefix, i) }

func (c *member) send(ctx context.Context, r request) (answer, error) {
	key := registerKey(r.key)
	switch {
	case r.action == getOne:
		resp, err := c.client.Get(ctx, key)
		return answerOf((*pb.RangeResponse)(resp)), err
	case r.action == getAll && c.rng.IntN(2) == 0:
		resp, err := c.client.Get(ctx, Prefix, clientv3.WithPrefix())
		return answerOf((*pb.RangeResponse)(resp)), err
	case r.action == getAll:
		var gets []clientv3.Op
		for i := range registerCount {
			gets = append(gets, clientv3.OpGet(registerKey(i)))
		}
		return c.txn(c.client.Txn(ctx).Then(gets...))
	case r.action == putOne && c.single:
		return c.txn(c.client.Txn(ctx).Then(clientv3.OpPut(key, r.value)))
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

func (c *member) txn(t clientv3.Txn) (answer, error) {
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
		if _, err := fmt.Sscanf(string(kv.Key), Prefix+"%d", &i); err == nil && i < registerCount {
			a.keys[i] = register{value: string(kv.Value), mod: kv.ModRevision}
		}
	}
}
