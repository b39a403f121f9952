package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	newPrefix    = "/new/"
	sharedPrefix = "/shared/"
	sharedKeys   = 12
)

// write is one request that changes the store, all of it or nothing. No change occurs in two writes.
type write struct {
	changes  []change
	revision int64 // at which it was acknowledged; 0: its outcome is unknown
	applied  int64 // revision at which the history has it; 0: not at all
}

// sight is a key as a read saw it.
type sight struct {
	key, value string
	mod        int64
}

// writer writes with one request at a time. Its fields belong to its goroutine until run returns.
type writer struct {
	id     string // unique in the whole test: it begins the values
	client *clientv3.Client
	rng    *rand.Rand
	multi  bool // several changes in one request are allowed

	writes  []*write
	sights  []sight
	newest  int64            // highest revision that the store told
	own     []string         // keys that it has created and may delete
	shared  map[string]int64 // modification revisions of shared keys as it knows them
	counter int
	tell    func() // called after each acknowledged write
	fault   error  // why it ended before it was told to
}

func newWriter(id string, c *clientv3.Client, rng *rand.Rand, multi bool) *writer {
	return &writer{id: id, client: c, rng: rng, multi: multi, shared: map[string]int64{}, tell: func() {}}
}

// run writes until a request fails or stop is set. A failure before stop is a fault: nothing was done to the store yet.
func (w *writer) run(ctx context.Context, stop *atomic.Bool) {
	for !stop.Load() {
		if err := w.one(ctx); err != nil {
			if !stop.Load() {
				w.fault = fmt.Errorf("writer %s: %w", w.id, err)
			}
			return
		}
	}
}

func (w *writer) one(ctx context.Context) error {
	ctx, cancel := within(ctx)
	defer cancel()
	switch n := w.rng.IntN(100); {
	case n < 40:
		return w.swap(ctx)
	case n < 50 && len(w.own) > 0:
		return w.remove(ctx)
	case n < 65 && w.multi:
		return w.batch(ctx)
	default:
		return w.create(ctx)
	}
}

func (w *writer) unique() string {
	w.counter++
	return fmt.Sprintf("%s/%05d", w.id, w.counter)
}

// value makes a value of a random length, some longer than a database page.
func (w *writer) value(id string) string {
	n := w.rng.IntN(300)
	if w.rng.IntN(50) == 0 {
		n = w.rng.IntN(20_000)
	}
	return id + strings.Repeat("-", n)
}

// begin notes a write before it is sent.
func (w *writer) begin(changes ...change) *write {
	wr := &write{changes: changes}
	w.writes = append(w.writes, wr)
	return wr
}

// acknowledge notes what a Txn's answer says.
func (w *writer) acknowledge(wr *write, resp *clientv3.TxnResponse) {
	w.newest = max(w.newest, resp.Header.Revision)
	if resp.Succeeded {
		wr.revision = resp.Header.Revision
		w.tell()
		return
	}
	w.writes = w.writes[:len(w.writes)-1] // it is the last one
}

// create puts a key that is not there.
func (w *writer) create(ctx context.Context) error {
	id := w.unique()
	c := change{key: newPrefix + id, value: w.value(id)}
	wr := w.begin(c)
	resp, err := w.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(c.key), "=", 0)).
		Then(clientv3.OpPut(c.key, c.value)).Else(clientv3.OpGet(c.key)).Commit()
	if err != nil {
		return err
	}
	w.acknowledge(wr, resp)
	if !resp.Succeeded {
		return fmt.Errorf("new key %s exists", c.key)
	}
	w.own = append(w.own, c.key)
	return nil
}

// swap puts a shared key if it is as the writer knows it, and reads it otherwise.
func (w *writer) swap(ctx context.Context) error {
	key := fmt.Sprintf("%s%02d", sharedPrefix, w.rng.IntN(sharedKeys))
	c := change{key: key, value: w.value(w.unique())}
	wr := w.begin(c)
	resp, err := w.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", w.shared[key])).
		Then(clientv3.OpPut(key, c.value)).Else(clientv3.OpGet(key)).Commit()
	if err != nil {
		return err
	}
	w.acknowledge(wr, resp)
	if resp.Succeeded {
		w.shared[key] = resp.Header.Revision
		return nil
	}
	kvs := resp.Responses[0].GetResponseRange().Kvs
	if len(kvs) != 1 {
		return fmt.Errorf("%d keys of %s", len(kvs), key)
	}
	w.shared[key] = kvs[0].ModRevision
	w.sights = append(w.sights, sight{key: key, value: string(kvs[0].Value), mod: kvs[0].ModRevision})
	return nil
}

// remove deletes a key of its own.
func (w *writer) remove(ctx context.Context) error {
	key := w.takeOwn()
	wr := w.begin(change{key: key, deleted: true})
	resp, err := w.client.Txn(ctx).If(clientv3.Compare(clientv3.Version(key), ">", 0)).Then(clientv3.OpDelete(key)).Commit()
	if err != nil {
		return err
	}
	w.acknowledge(wr, resp)
	if !resp.Succeeded {
		return fmt.Errorf("acknowledged key %s is not there", key)
	}
	return nil
}

// batch puts several keys, and deletes one of its own, in one Txn.
func (w *writer) batch(ctx context.Context) error {
	var changes []change
	var ops []clientv3.Op
	for range 2 + w.rng.IntN(4) {
		id := w.unique()
		c := change{key: newPrefix + id, value: w.value(id)}
		changes, ops = append(changes, c), append(ops, clientv3.OpPut(c.key, c.value))
	}
	if len(w.own) > 0 {
		key := w.takeOwn()
		changes, ops = append(changes, change{key: key, deleted: true}), append(ops, clientv3.OpDelete(key))
	}
	wr := w.begin(changes...)
	resp, err := w.client.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return err
	}
	w.acknowledge(wr, resp)
	return deletedOne(resp.Responses)
}

func deletedOne(responses []*pb.ResponseOp) error {
	for _, r := range responses {
		if d := r.GetResponseDeleteRange(); d != nil && d.Deleted != 1 {
			return fmt.Errorf("an acknowledged key is not there: %d deleted", d.Deleted)
		}
	}
	return nil
}

func (w *writer) takeOwn() string {
	i := w.rng.IntN(len(w.own))
	key := w.own[i]
	w.own = slices.Delete(w.own, i, i+1)
	return key
}
