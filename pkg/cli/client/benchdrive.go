package client

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/kinsy/kinsy/pkg/cli/terminal"
)

const (
	// showEvery is how often progress is shown.
	showEvery = 200 * time.Millisecond
	// afterFailure is how long a client waits after an operation that failed.
	afterFailure = 20 * time.Millisecond
)

// limits end a measurement: the first that is reached. 0: there is none of its kind.
type limits struct {
	total    int64
	duration time.Duration
}

func (b *bench) limits() limits {
	if b.total > 0 {
		return limits{total: b.total}
	}
	return limits{duration: b.duration}
}

// result is what was measured.
type result struct {
	latencies *histogram
	took      time.Duration
	failed    int64
	err       error // the first failure
	puts      int64 // of watch, whose operations are events
}

// driver has clients do operations.
type driver struct {
	limits
	op      operation
	answer  time.Duration
	start   time.Time
	next    atomic.Int64 // number of the next operation
	done    atomic.Int64
	mu      sync.Mutex
	failure error
	failed  int64
}

// drive has the clients do operations until a limit is reached, under a name for its progress. It ends with the context's error.
func (b *bench) drive(ctx context.Context, name string, l limits, op operation) (result, error) {
	d := &driver{limits: l, op: op, answer: b.answerLimit, start: time.Now()}
	histograms := make([]histogram, b.clients)
	var clients sync.WaitGroup
	for i := range b.clients {
		clients.Go(func() { d.client(ctx, b.conns[i%len(b.conns)], &histograms[i]) })
	}
	stop := b.showing(func() string { return name + " " + d.progress() })
	clients.Wait()
	took := time.Since(d.start)
	stop()
	all := &histogram{}
	for i := range histograms {
		all.merge(&histograms[i])
	}
	return result{latencies: all, took: took, failed: d.failed, err: d.failure}, ctx.Err()
}

// client does one operation after the other.
func (d *driver) client(ctx context.Context, conn grpc.ClientConnInterface, h *histogram) {
	kv := pb.NewKVClient(conn)
	for ctx.Err() == nil {
		begin := time.Now()
		if d.duration > 0 && begin.Sub(d.start) >= d.duration {
			return
		}
		n := d.next.Add(1) - 1
		if d.total > 0 && n >= d.total {
			return
		}
		err := d.once(ctx, kv, n)
		if err == nil {
			h.add(time.Since(begin))
			d.done.Add(1)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		d.fail(err)
		select {
		case <-ctx.Done():
		case <-time.After(afterFailure):
		}
	}
}

func (d *driver) once(ctx context.Context, kv pb.KVClient, n int64) error {
	ctx, cancel := context.WithTimeout(ctx, d.answer)
	defer cancel()
	return d.op(ctx, kv, n)
}

func (d *driver) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failure == nil {
		d.failure = err
	}
	d.failed++
}

// progress fits into 80 columns, with a short name before it.
func (d *driver) progress() string {
	done, since := d.done.Load(), time.Since(d.start)
	bar := terminal.Bar(done, d.total)
	if d.total == 0 {
		bar = terminal.Bar(int64(since), int64(d.duration))
	}
	return bar + " " + terminal.Digits(done) + ", " + terminal.Digits(int64(float64(done)/since.Seconds())) + "/s"
}

// showing shows a text on the line again and again, until stop is called.
func (s *session) showing(text func() string) (stop func()) {
	if !s.line.Live() {
		return func() {}
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(showEvery)
		defer ticker.Stop()
		for {
			s.line.Show(text())
			select {
			case <-end:
				return
			case <-ticker.C:
			}
		}
	}()
	return func() {
		close(end)
		<-ended
	}
}
