package apiserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kinsy/kinsy/test/kubernetes/process"
)

const (
	writeInterval = 20 * time.Millisecond
	writeTimeout  = 10 * time.Second
	settleTimeout = time.Minute
)

var errTooFew = errors.New("too few writes")

// writer writes one name after the other, whatever becomes of each, and
// remembers those that were acknowledged.
type writer struct {
	cluster  *cluster
	resource resource
	prefix   string
	put      func(ctx context.Context, name string) (object, error)
	stop     context.CancelFunc
	done     chan struct{}

	mu       sync.Mutex
	versions map[string]string // acknowledged: name to resource version
	times    []time.Time       // of the acknowledgements
	failed   int
}

// write starts a writer that creates objects. It ends with the test, or by
// finish.
func (c *cluster) write(t *testing.T, r resource, prefix string) *writer {
	t.Helper()
	w := &writer{cluster: c, resource: r, prefix: prefix}
	w.put = func(ctx context.Context, name string) (object, error) { return c.create(ctx, r, name) }
	w.start(t)
	return w
}

// writePatches starts a writer that sets the value of one config map to one
// name after the other.
func (c *cluster) writePatches(t *testing.T, target, prefix string) *writer {
	t.Helper()
	w := &writer{cluster: c, resource: configMaps, prefix: prefix}
	w.put = func(ctx context.Context, name string) (object, error) { return c.patch(ctx, target, name) }
	w.start(t)
	return w
}

func (w *writer) start(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	w.stop, w.done, w.versions = cancel, make(chan struct{}), map[string]string{}
	go func() {
		defer close(w.done)
		w.run(ctx)
	}()
	t.Cleanup(w.finish)
}

// finish ends the writer after the write under way.
func (w *writer) finish() {
	w.stop()
	<-w.done
}

func (w *writer) run(ctx context.Context) {
	ticker := time.NewTicker(writeInterval)
	defer ticker.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		w.writeOne(fmt.Sprintf("%s-%05d", w.prefix, i))
	}
}

// writeOne is not bound to the context of run: a write that was begun is always
// known to have been acknowledged or not.
func (w *writer) writeOne(name string) {
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	out, err := w.put(ctx, name)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.failed++
		return
	}
	w.versions[name] = out.Metadata.ResourceVersion
	w.times = append(w.times, time.Now())
}

// pause returns the longest time between two instants in which nothing was
// acknowledged.
func (w *writer) pause(from, to time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	last, longest := from, time.Duration(0)
	for _, at := range w.times {
		if at.After(from) && at.Before(to) {
			longest, last = max(longest, at.Sub(last)), at
		}
	}
	return max(longest, to.Sub(last))
}

func (w *writer) acknowledged() (versions map[string]string, failed int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.versions), w.failed
}

// awaitMore waits until n more writes have been acknowledged.
func (w *writer) awaitMore(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), settleTimeout)
	defer cancel()
	before, _ := w.acknowledged()
	err := process.Until(ctx, pollInterval, func(context.Context) error {
		now, failed := w.acknowledged()
		if len(now) < len(before)+n {
			return fmt.Errorf("%w: %d acknowledged, %d failed", errTooFew, len(now), failed)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("write %s: %v", w.prefix, err)
	}
}

// checkOrder checks that each write was acknowledged with a higher version than
// those before it.
func (w *writer) checkOrder(t *testing.T) {
	t.Helper()
	versions, _ := w.acknowledged()
	last := int64(0)
	for _, name := range slices.Sorted(maps.Keys(versions)) {
		version := parseVersion(t, versions[name])
		if version <= last {
			t.Errorf("%s: acknowledged with version %d after %d", name, version, last)
		}
		last = version
	}
}

// checkStored checks that every acknowledged object is there, in the version
// that was acknowledged.
func (w *writer) checkStored(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	var all list
	if err := w.cluster.do(ctx, http.MethodGet, w.resource.path, nil, &all); err != nil {
		t.Fatal(err)
	}
	stored := map[string]string{}
	for _, item := range all.Items {
		stored[item.Metadata.Name] = item.Metadata.ResourceVersion
	}
	versions, failed := w.acknowledged()
	for name, version := range versions {
		if stored[name] != version {
			t.Errorf("%s: acknowledged with version %s, stored with %q", name, version, stored[name])
		}
	}
	t.Logf("%s: %d acknowledged, %d failed", w.prefix, len(versions), failed)
}

// checkWatched checks that the watcher got every acknowledged object in its
// version.
func (w *writer) checkWatched(t *testing.T, on *watcher) {
	t.Helper()
	versions, _ := w.acknowledged()
	for name, version := range versions {
		if event := on.await(t, "ADDED", name, settleTimeout); event.Object.Metadata.ResourceVersion != version {
			t.Errorf("%s: acknowledged with version %s, watched with %s", name, version, event.Object.Metadata.ResourceVersion)
		}
	}
}
