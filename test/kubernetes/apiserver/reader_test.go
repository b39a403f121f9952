package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"
)

// reader reads the newest resource version over and over, from the watch cache
// and from the store in turn.
type reader struct {
	cluster *cluster
	stop    context.CancelFunc
	done    chan struct{}

	mu     sync.Mutex
	latest int64
	reads  int
	failed int
	wrong  []error
}

// read starts a reader. It ends with the test, or by finish.
func (c *cluster) read(t *testing.T) *reader {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &reader{cluster: c, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.run(ctx)
	}()
	t.Cleanup(r.end)
	return r
}

func (r *reader) end() {
	r.stop()
	<-r.done
}

func (r *reader) run(ctx context.Context) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		for _, of := range []resource{configMaps, events} {
			r.readOne(ctx, of)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (r *reader) readOne(ctx context.Context, of resource) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var page list
	err := r.cluster.do(ctx, http.MethodGet, of.path+"?limit=1", nil, &page)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.failed++
		return
	}
	r.reads++
	version, err := strconv.ParseInt(page.Metadata.ResourceVersion, 10, 64)
	if err == nil && version < r.latest {
		err = fmt.Errorf("version %d of %s after %d", version, of.path, r.latest)
	}
	if err != nil {
		r.wrong = append(r.wrong, err)
		return
	}
	r.latest = version
}

// newest returns the highest version that was read.
func (r *reader) newest() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.latest
}

// finish ends the reader and checks that versions never went back.
func (r *reader) finish(t *testing.T) {
	t.Helper()
	r.end()
	for _, err := range r.wrong {
		t.Error(err)
	}
	if r.reads == 0 {
		t.Error("nothing was read")
	}
	t.Logf("%d reads, %d failed", r.reads, r.failed)
}
