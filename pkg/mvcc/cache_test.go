package mvcc

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/mvcc/mvcctest"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// cached sums up the values in memory by looking at every record.
func (d *db) cached() (bytes int64) {
	all := d.store.history.from(nil, 0, 1<<62, 1<<62)
	for _, r := range all {
		if r.size > 0 && r.value.Load() != nil {
			bytes += int64(r.size) + cacheOverhead
		}
	}
	return bytes
}

func TestCacheKeepsItsBudget(t *testing.T) {
	const budget = 4 << 10
	d := newDB(t, Config{CacheBytes: budget})
	value := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, i%300) }
	const keys = 200
	for i := range keys {
		d.write(put(fmt.Sprintf("k%03d", i), string(value(i))))
		if got := d.cached(); got > budget || got != d.store.cache.bytes.Load() {
			t.Fatalf("%d bytes are cached, %d counted, budget %d", got, d.store.cache.bytes.Load(), budget)
		}
	}
	var wg sync.WaitGroup
	for c := range 4 {
		wg.Go(func() {
			g := newGen(uint64(c))
			for range 500 {
				i := g.IntN(keys)
				resp, err := d.store.Range(context.Background(), &pb.RangeRequest{Key: fmt.Appendf(nil, "k%03d", i), RangeEnd: fmt.Appendf(nil, "k%03d", i+g.IntN(5)+1)})
				if err != nil {
					t.Error(err)
					return
				}
				for n, kv := range resp.Kvs {
					if !bytes.Equal(kv.Value, value(i+n)) {
						t.Errorf("%s has a value of %d bytes", kv.Key, len(kv.Value))
					}
				}
			}
		})
	}
	wg.Wait()
	if got := d.cached(); got > budget || got != d.store.cache.bytes.Load() {
		t.Fatalf("%d bytes are cached, %d counted, budget %d", got, d.store.cache.bytes.Load(), budget)
	}
	if d.store.cache.hits.Load() == 0 || d.store.cache.miss.Load() == 0 {
		t.Fatalf("%d hits, %d misses", d.store.cache.hits.Load(), d.store.cache.miss.Load())
	}
}

// TestCacheKeepsWhatIsRead: second chance, that is, a value that is read again and
// again outlives many that are not.
func TestCacheKeepsWhatIsRead(t *testing.T) {
	d := newDB(t, Config{CacheBytes: 2 << 10})
	d.write(put("hot", string(make([]byte, 100))))
	before := d.store.cache.miss.Load()
	for i := range 200 {
		d.write(put(fmt.Sprintf("cold%03d", i), string(make([]byte, 100))))
		if _, err := d.store.Range(context.Background(), &pb.RangeRequest{Key: []byte("hot")}); err != nil {
			t.Fatal(err)
		}
	}
	if got := d.store.cache.miss.Load(); got != before {
		t.Fatalf("a hot value was fetched %d times", got-before)
	}
}

// TestCacheCountsOnce: two readers fetch the same value at the same time.
func TestCacheCountsOnce(t *testing.T) {
	d := newDB(t, Config{CacheBytes: 50})
	d.write(put("a", string(make([]byte, 20))))
	d.write(put("b", string(make([]byte, 20)))) // a is evicted
	var both, done sync.WaitGroup
	both.Add(2)
	d.log.Hook(mvcctest.Hooks{Values: func([]sqllog.ID) error {
		both.Done()
		both.Wait()
		return nil
	}})
	for range 2 {
		done.Go(func() {
			if _, err := d.store.Range(context.Background(), &pb.RangeRequest{Key: []byte("a")}); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	if got := d.cached(); got != d.store.cache.bytes.Load() || d.store.cache.n != 1 {
		t.Fatalf("%d bytes are cached, %d counted of %d values", got, d.store.cache.bytes.Load(), d.store.cache.n)
	}
}

// TestValueThatIsNotWhatWasWritten: a value of another length is corruption, not
// an answer.
func TestValueThatIsNotWhatWasWritten(t *testing.T) {
	d := newDB(t, Config{CacheBytes: 1})
	d.write(put("k", "value"))
	d.store.find([]byte("k"), d.store.Revision()).size = 4
	if _, err := d.store.Range(context.Background(), &pb.RangeRequest{Key: []byte("k")}); err == nil {
		t.Fatal("a value that was cut was handed out")
	}
}
