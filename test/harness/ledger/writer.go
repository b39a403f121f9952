package ledger

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/history"
)

// Prefixes of the keys of writers: of those that a writer creates and perhaps deletes, and of those that all of them change.
const (
	NewPrefix    = "/new/"
	SharedPrefix = "/shared/"
	sharedKeys   = 12
)

// Writer writes with one request at a time, whatever happens to them. It is used by one goroutine at a time.
type Writer struct {
	// Err is why it ended before it was told to.
	Err error

	id       string // unique in the whole test: it begins the values
	client   *clientv3.Client
	rng      *rand.Rand
	single   bool
	patience time.Duration
	tell     func() // called after each acknowledged write

	done    Ledger           // what it did
	own     []string         // keys that it has created and may delete
	shared  map[string]int64 // modification revisions of shared keys as it knows them
	counter int
}

// NewWriter makes a writer whose keys and values begin with an id, which must be unique in the whole test. single: each request
// changes one key. patience bounds each request.
func NewWriter(id string, c *clientv3.Client, rng *rand.Rand, single bool, patience time.Duration) *Writer {
	return &Writer{id: id, client: c, rng: rng, single: single, patience: patience, shared: map[string]int64{}, tell: func() {}}
}

// Take returns what the writer did since the last call, and forgets it.
func (w *Writer) Take() *Ledger {
	l := w.done
	w.done = Ledger{}
	return &l
}

// one sends a random request.
func (w *Writer) one(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.patience)
	defer cancel()
	switch n := w.rng.IntN(100); {
	case n < 40:
		return w.swap(ctx)
	case n < 50 && len(w.own) > 0:
		return w.remove(ctx)
	case n < 65 && !w.single:
		return w.batch(ctx)
	default:
		return w.Create(ctx)
	}
}

func (w *Writer) unique() string {
	w.counter++
	return fmt.Sprintf("%s/%05d", w.id, w.counter)
}

// value makes a value of a random length, some longer than a database page.
func (w *Writer) value(id string) string {
	n := w.rng.IntN(200)
	if w.rng.IntN(100) == 0 {
		n = w.rng.IntN(20_000)
	}
	return id + strings.Repeat("-", n)
}

// Begin notes a write before it is sent. Acknowledge must follow before the next one, unless there is no answer.
func (w *Writer) Begin(changes ...history.Change) *Write {
	wr := &Write{Changes: changes}
	w.done.Writes = append(w.done.Writes, wr)
	return wr
}

// Acknowledge notes what the answer to the write's Txn says: it succeeded, or changed nothing.
func (w *Writer) Acknowledge(wr *Write, resp *clientv3.TxnResponse) {
	w.done.Newest = max(w.done.Newest, resp.Header.Revision)
	if resp.Succeeded {
		wr.Revision = resp.Header.Revision
		w.tell()
		return
	}
	w.done.Writes = w.done.Writes[:len(w.done.Writes)-1] // it is the last one
}

// Create puts a key that is not there.
func (w *Writer) Create(ctx context.Context) error {
	id := w.unique()
	c := history.Change{Key: NewPrefix + id, Value: w.value(id)}
	wr := w.Begin(c)
	resp, err := w.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(c.Key), "=", 0)).
		Then(clientv3.OpPut(c.Key, c.Value)).Else(clientv3.OpGet(c.Key)).Commit()
	if err != nil {
		return err
	}
	w.Acknowledge(wr, resp)
	if !resp.Succeeded {
		return fmt.Errorf("new key %s exists", c.Key)
	}
	w.own = append(w.own, c.Key)
	return nil
}

// swap puts a shared key if it is as the writer knows it, and reads it otherwise.
func (w *Writer) swap(ctx context.Context) error {
	key := fmt.Sprintf("%s%02d", SharedPrefix, w.rng.IntN(sharedKeys))
	c := history.Change{Key: key, Value: w.value(w.unique())}
	wr := w.Begin(c)
	resp, err := w.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", w.shared[key])).
		Then(clientv3.OpPut(key, c.Value)).Else(clientv3.OpGet(key)).Commit()
	if err != nil {
		return err
	}
	w.Acknowledge(wr, resp)
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
	w.done.Sights = append(w.done.Sights, Sight{Key: key, Value: string(kvs[0].Value), Mod: kvs[0].ModRevision})
	return nil
}

// remove deletes a key of its own.
func (w *Writer) remove(ctx context.Context) error {
	key := w.takeOwn()
	wr := w.Begin(history.Change{Key: key, Deleted: true})
	resp, err := w.client.Txn(ctx).If(clientv3.Compare(clientv3.Version(key), ">", 0)).Then(clientv3.OpDelete(key)).Commit()
	if err != nil {
		return err
	}
	w.Acknowledge(wr, resp)
	if !resp.Succeeded {
		return fmt.Errorf("acknowledged key %s is not there", key)
	}
	return nil
}

// batch puts several keys, and deletes one of its own, in one Txn.
func (w *Writer) batch(ctx context.Context) error {
	var changes []history.Change
	var ops []clientv3.Op
	for range 2 + w.rng.IntN(4) {
		id := w.unique()
		c := history.Change{Key: NewPrefix + id, Value: w.value(id)}
		changes, ops = append(changes, c), append(ops, clientv3.OpPut(c.Key, c.Value))
	}
	if len(w.own) > 0 {
		key := w.takeOwn()
		changes, ops = append(changes, history.Change{Key: key, Deleted: true}), append(ops, clientv3.OpDelete(key))
	}
	wr := w.Begin(changes...)
	resp, err := w.client.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return err
	}
	w.Acknowledge(wr, resp)
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

func (w *Writer) takeOwn() string {
	i := w.rng.IntN(len(w.own))
	key := w.own[i]
	w.own = slices.Delete(w.own, i, i+1)
	return key
}
