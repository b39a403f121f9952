package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/kinsy/kinsy/test/kubernetes/process"
)

var errMissing = errors.New("event missing")

type watchEvent struct {
	Type   string `json:"type"`
	Object object `json:"object"`
}

// watcher keeps a watch on a resource open, as an informer does: when it ends
// it goes on from the last resource version.
type watcher struct {
	cluster  *cluster
	resource resource
	start    string // the version it began with

	stop context.CancelFunc
	done chan struct{}

	mu      sync.Mutex
	version string
	seen    []watchEvent
	expired error
	opened  int
}

// watch starts a watcher at the resource version. It ends with the test, or by
// close.
func (c *cluster) watch(t *testing.T, r resource, version string) *watcher {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{cluster: c, resource: r, start: version, version: version, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.run(ctx)
	}()
	t.Cleanup(w.close)
	return w
}

func (w *watcher) close() {
	w.stop()
	<-w.done
}

func (w *watcher) run(ctx context.Context) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := w.open(ctx)
		var status *statusError
		if errors.As(err, &status) && status.Code == http.StatusGone {
			w.fail(err)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// open watches from the last resource version until the watch ends.
func (w *watcher) open(ctx context.Context) error {
	path := w.resource.path + "?watch=1&allowWatchBookmarks=true&resourceVersion=" + w.lastVersion()
	resp, err := w.cluster.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	w.mu.Lock()
	w.opened++
	w.mu.Unlock()
	decoder := json.NewDecoder(resp.Body)
	for {
		var event watchEvent
		if err := decoder.Decode(&event); err != nil {
			return err
		}
		if event.Type == "ERROR" {
			return &statusError{Code: event.Object.Code, Body: event.Object.Reason}
		}
		w.take(event)
	}
}

func (w *watcher) take(event watchEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.version = event.Object.Metadata.ResourceVersion
	if event.Type != "BOOKMARK" {
		w.seen = append(w.seen, event)
	}
}

func (w *watcher) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expired = err
}

func (w *watcher) lastVersion() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.version
}

// events returns the events so far, and how often the watch was opened.
func (w *watcher) events() (seen []watchEvent, opened int, expired error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]watchEvent(nil), w.seen...), w.opened, w.expired
}

// await waits until an event of that type for that object came, and returns it.
func (w *watcher) await(t *testing.T, kind, name string, timeout time.Duration) watchEvent {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	var found watchEvent
	err := process.Until(ctx, pollInterval, func(context.Context) error {
		seen, _, expired := w.events()
		if expired != nil {
			return expired
		}
		for _, event := range seen {
			if event.Type == kind && event.Object.Metadata.Name == name {
				found = event
				return nil
			}
		}
		return fmt.Errorf("%w: %s of %s among %d events", errMissing, kind, name, len(seen))
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// checkOrder checks that the events came in the order of their versions, and so
// none of them twice. Only deletions may share a version: the objects of a lease
// expire together.
func (w *watcher) checkOrder(t *testing.T) {
	t.Helper()
	seen, opened, expired := w.events()
	if expired != nil {
		t.Errorf("watch on %s: %v", w.resource.path, expired)
	}
	last := int64(0)
	for _, event := range seen {
		version := parseVersion(t, event.Object.Metadata.ResourceVersion)
		if version < last || version == last && event.Type != "DELETED" {
			t.Errorf("watch on %s: version %d after %d", w.resource.path, version, last)
		}
		last = version
	}
	t.Logf("watch on %s: %d events, opened %d times", w.resource.path, len(seen), opened)
}
