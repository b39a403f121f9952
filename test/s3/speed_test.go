package s3

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/harness/client"
	"github.com/kinsy/kinsy/test/harness/faultproxy"
	"github.com/kinsy/kinsy/test/harness/process"
)

const (
	remoteLatency = 25 * time.Millisecond
	speedClients  = 256
	speedConns    = 16
	speedValue    = 256
	speedWarm     = time.Second
	speedLength   = 2 * time.Second
	speedTries    = 6
	wantWrites    = 4500.0            // a second
	wantOne       = 2 * remoteLatency // median of one client
	oneWrites     = 100
)

// TestSpeedAt25ms measures writes with an object store that takes 25 ms for each request. The clients, the proxy, the S3 server
// and whatever else the machine is busy with take their time from kinsy and only ever make it slower: the best of several
// measurements counts, and the first one that is fast enough is the last.
func TestSpeedAt25ms(t *testing.T) {
	w := newWorld(t)
	n := w.node(quorumStore)
	ok(t, n.Start())
	w.proxy.Set(faultproxy.Plan{Latency: remoteLatency})
	t.Run("256 clients", func(t *testing.T) { manyClients(t, w, n) })
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

// manyClients requires writes/s of clients that write again as soon as they are answered.
func manyClients(t *testing.T, w *world, n *process.Node) {
	c := startWriters(n.Addr, "/speed", speedConns, speedClients, speedValue)
	ok(t, n.Proc.Pause(t.Context(), speedWarm))
	var best float64
	for try := 0; try < speedTries && best < wantWrites; try++ {
		best = max(best, measure(t, w, n, c))
	}
	ok(t, c.end())
	requireKeys(t, n.Client(t), "/speed", c.acked.Load())
	if best < wantWrites && !slow() {
		t.Errorf("%.0f writes/s at best, want %.0f", best, wantWrites)
	}
}

// measure measures writes/s once.
func measure(t *testing.T, w *world, n *process.Node, c *writers) float64 {
	w.proxy.Reset()
	before, start := c.acked.Load(), time.Now()
	ok(t, n.Proc.Pause(t.Context(), speedLength))
	count, took := float64(c.acked.Load()-before), time.Since(start).Seconds()
	chunks, putTime := float64(w.requireOnePut(t)), w.proxy.Stats().PutTime.Seconds()
	t.Logf("%d clients, %s a request: %.0f writes/s; one chunk in %.1f ms of which its PUT takes %.1f ms, %.0f writes in one", speedClients,
		remoteLatency, count/took, took*1000/chunks, putTime*1000/chunks, count/chunks)
	return count / took
}

// requireKeys requires that so many keys are in a folder.
func requireKeys(t *testing.T, c *clientv3.Client, folder string, want int64) {
	t.Helper()
	ctx, cancel := client.Within(t.Context())
	defer cancel()
	resp, err := c.Get(ctx, folder+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	ok(t, err)
	if resp.Count != want {
		t.Errorf("%d keys in %s, %d were acknowledged", resp.Count, folder, want)
	}
}

// create puts a key that is not there.
func create(ctx context.Context, c *clientv3.Client, key, value string) error {
	ctx, cancel := client.Within(ctx)
	defer cancel()
	resp, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", 0)).Then(clientv3.OpPut(key, value)).Commit()
	if err == nil && !resp.Succeeded {
		err = fmt.Errorf("new key %s exists", key)
	}
	return err
}

func oneClient(t *testing.T, w *world, n *process.Node) {
	c := n.Client(t)
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
