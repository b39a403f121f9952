package s3

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/s3/faultproxy"
)

const (
	remoteLatency = 25 * time.Millisecond
	speedClients  = 256
	speedConns    = 16
	speedValue    = 256
	speedWarm     = time.Second
	speedLength   = 4 * time.Second
	wantWrites    = 4500.0            // a second, where clients and server are fast enough for it
	wantShare     = 0.75              // of what the latency alone leaves of the speed without it
	wantOne       = 2 * remoteLatency // median of one client
	oneWrites     = 100
)

// TestSpeedAt25ms measures writes with an object store that takes 25 ms for each request. 256 clients, the proxy and the S3
// server share the machine with kinsy, and may be too slow for 4,500 writes/s by themselves. So the same load is measured
// without the latency first: what 25 ms more in each round of all clients would leave of that speed bounds what can be.
func TestSpeedAt25ms(t *testing.T) {
	w := newWorld(t)
	n := w.node(quorumStore)
	ok(t, n.start())
	free := manyClients(t, w, n, "near")
	w.proxy.Set(faultproxy.Plan{Latency: remoteLatency})
	t.Run("256 clients", func(t *testing.T) {
		rate := manyClients(t, w, n, "remote")
		bound := speedClients / (speedClients/free + remoteLatency.Seconds())
		want := min(wantWrites, wantShare*bound)
		t.Logf("%.0f writes/s of the %.0f that the latency leaves of %.0f without it; want %.0f", rate, bound, free, want)
		if rate < want && !slow() {
			t.Errorf("%.0f writes/s, want %.0f", rate, want)
		}
	})
	t.Run("1 client", func(t *testing.T) { oneClient(t, w, n) })
}

// puts are the PUTs of chunks that the proxy has seen: how many, of how many chunks, and the most at once.
func (w *world) puts() (sent, chunks, atOnce int) {
	stats := w.proxy.Stats()
	for key, n := range stats.Puts {
		if strings.HasPrefix(key, w.prefix+"/"+chunkFolder) {
			chunks++
			sent += n
		}
	}
	return sent, chunks, stats.MostAtOnce[path.Join(w.prefix, chunkFolder)]
}

// requireOnePut requires that each chunk was sent once, one after the other.
func (w *world) requireOnePut(t *testing.T) (chunks int) {
	t.Helper()
	sent, chunks, atOnce := w.puts()
	if sent != chunks || atOnce > 1 {
		t.Errorf("%d PUTs for %d chunks, up to %d at once", sent, chunks, atOnce)
	}
	return chunks
}

// manyClients measures the writes/s of clients that write again as soon as they are answered.
func manyClients(t *testing.T, w *world, n *node, folder string) float64 {
	conns := n.clients(t, speedConns)
	var stop atomic.Bool
	var writes atomic.Int64
	var done sync.WaitGroup
	errs := make([]error, speedClients)
	for i := range speedClients {
		done.Go(func() {
			errs[i] = putLoop(t.Context(), conns[i%len(conns)], fmt.Sprintf("/speed/%s/%03d/", folder, i), &stop, &writes)
		})
	}
	ok(t, n.proc.pause(t.Context(), speedWarm))
	w.proxy.Reset()
	before, start := writes.Load(), time.Now()
	ok(t, n.proc.pause(t.Context(), speedLength))
	count, took := writes.Load()-before, time.Since(start)
	chunks, putTime := w.requireOnePut(t), w.proxy.Stats().PutTime
	stop.Store(true)
	done.Wait()
	ok(t, errors.Join(errs...))
	rate := float64(count) / took.Seconds()
	t.Logf("%d clients, %s: %.0f writes/s; %d chunks, one in %.1f ms of which its PUT takes %.1f ms, %.0f writes in one", speedClients,
		folder, rate, chunks, took.Seconds()*1000/float64(chunks), putTime.Seconds()*1000/float64(chunks), float64(count)/float64(chunks))
	return rate
}

// putLoop puts keys, one after the other, in Txns as kube-apiserver sends them.
func putLoop(ctx context.Context, c *clientv3.Client, prefix string, stop *atomic.Bool, writes *atomic.Int64) error {
	value := strings.Repeat("v", speedValue)
	for i := 0; !stop.Load(); i++ {
		if err := create(ctx, c, fmt.Sprintf("%s%06d", prefix, i), value); err != nil {
			return err
		}
		writes.Add(1)
	}
	return nil
}

// create puts a key that is not there.
func create(ctx context.Context, c *clientv3.Client, key, value string) error {
	ctx, cancel := within(ctx)
	defer cancel()
	resp, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", 0)).Then(clientv3.OpPut(key, value)).Commit()
	if err == nil && !resp.Succeeded {
		err = fmt.Errorf("new key %s exists", key)
	}
	return err
}

func oneClient(t *testing.T, w *world, n *node) {
	c := n.client(t)
	w.proxy.Reset()
	value := strings.Repeat("v", speedValue)
	times := make([]time.Duration, oneWrites)
	for i := range times {
		start := time.Now()
		ok(t, create(t.Context(), c, fmt.Sprintf("/one/%03d", i), value))
		times[i] = time.Since(start)
	}
	chunks := w.requireOnePut(t)
	slices.Sort(times)
	median := times[len(times)/2]
	t.Logf("1 client, %s a request: median %s, slowest %s; %d chunks for %d writes", remoteLatency, median.Round(100*time.Microsecond),
		times[len(times)-1].Round(time.Millisecond), chunks, oneWrites)
	if median > wantOne && !slow() {
		t.Errorf("a write takes %s, want %s", median, wantOne)
	}
	if chunks > oneWrites {
		t.Errorf("%d PUTs for %d writes one after the other", chunks, oneWrites)
	}
}
