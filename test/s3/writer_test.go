package s3

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	newPrefix    = "/new/"
	sharedPrefix = "/shared/"
	sharedKeys   = 12
)

// patience is how long a client waits for an answer, and afterError how long before it tries something else.
const (
	patience   = 3 * time.Second
	afterError = 10 * time.Millisecond
)

// writer writes with one request at a time, whatever happens to them. Its fields belong to its goroutine until run returns.
type writer struct {
	id     string // unique in the whole test: it begins the values
	client *clientv3.Client
	rng    *rand.Rand
	tell   func() // called after each acknowledged write

	writes  []*write
	sights  []sight
	newest  int64            // highest revision that the store told
	own     []string         // keys that it has created and may delete
	shared  map[string]int64 // modification revisions of shared keys as it knows them
	counter int
}

func newWriter(id string, c *clientv3.Client, rng *rand.Rand) *writer {
	return &writer{id: id, client: c, rng: rng, shared: map[string]int64{}}
}

// run writes until stop is set, or a request ends as it must not.
func (w *writer) run(ctx context.Context, stop *atomic.Bool) error {
	for !stop.Load() {
		err := w.one(ctx)
		if err == nil {
			continue
		}
		if !openOutcome(err) {
			return fmt.Errorf("writer %s: %w", w.id, err)
		}
		if wait(ctx, afterError) != nil {
			return nil
		}
	}
	return nil
}

// wait returns after a time, or with an error when ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// openOutcome reports whether an error says no more than that the answer is missing.
func openOutcome(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return true
	}
	var known rpctypes.EtcdError // what the etcd client makes of a status whose text it knows
	code := status.Code(err)
	if errors.As(err, &known) {
		code = known.Code()
	}
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded:
		return true
	}
	return false
}

func (w *writer) one(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	switch n := w.rng.IntN(100); {
	case n < 40:
		return w.swap(ctx)
	case n < 50 && len(w.own) > 0:
		return w.remove(ctx)
	case n < 65:
		return w.batch(ctx)
	default:
		return w.create(ctx)
	}
}

func (w *writer) unique() string {
	w.counter++
	return fmt.Sprintf("%s/%05d", w.id, w.counter)
}

// value makes a value of a random length, a few of them long.
func (w *writer) value(id string) string {
	n := w.rng.IntN(150)
	if w.rng.IntN(200) == 0 {
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
		return fmt.Errorf("%d keys of %s, known of revision %d", len(kvs), key, w.shared[key])
	}
	if kvs[0].ModRevision < w.shared[key] {
		return fmt.Errorf("%s is of revision %d, acknowledged or seen was %d", key, kvs[0].ModRevision, w.shared[key])
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
	for _, r := range resp.Responses {
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
