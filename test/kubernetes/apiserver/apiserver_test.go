package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kinsy/kinsy/test/kubernetes/process"
)

const (
	drainTimeout = 5 * time.Second // what SIGTERM gives kinsy
	// recoveryTime is how long after an outage kube-apiserver may still
	// complain about it: requests that it gave up, and its clients' back-off.
	recoveryTime = 10 * time.Second
	// expiryMargin is how much later than its TTL an event may go:
	// kube-apiserver asks for a lease of 31 s, and looks when it is asked.
	expiryMargin = 6 * time.Second
)

// TestAPIServer works on one cluster from its first object to its shutdown.
func TestAPIServer(t *testing.T) {
	c := newCluster(t)
	t.Run("ready", c.testReady)
	expiring := c.startExpiry(t)
	t.Run("objects", c.testObjects)
	t.Run("pages", c.testPages)
	t.Run("consistent reads from the cache", c.testConsistentReads)
	t.Run("compaction", c.testCompaction)
	t.Run("event expires", expiring.test)
	t.Run("restart after SIGTERM", func(t *testing.T) { c.testRestart(t, "term", c.terminateStore) })
	t.Run("restart after kill -9", func(t *testing.T) { c.testRestart(t, "kill", func(*testing.T) { c.store.Kill() }) })
	t.Run("long outage", func(t *testing.T) { c.testRestart(t, "long", c.killUntilNoticed) })
	t.Run("compaction goes on", c.testCompaction)
	t.Run("requests", c.testRequests)
	t.Run("shutdown", c.testShutdown)
}

func (c *cluster) testReady(t *testing.T) {
	answer := c.kubectl(t, "get", "--raw", "/readyz?verbose")
	for _, check := range []string{"[+]etcd ok", "[+]etcd-readiness ok", "readyz check passed"} {
		if !strings.Contains(answer, check) {
			t.Errorf("no %q in %s", check, answer)
		}
	}
}

func (c *cluster) testObjects(t *testing.T) {
	start := c.listAll(t, configMaps.path).Metadata.ResourceVersion
	w := c.watch(t, configMaps, start)
	shown := c.follow(t, "configmap", "demo")
	c.kubectl(t, "create", "configmap", "demo", "--from-literal=color=red")
	c.kubectl(t, "patch", "configmap", "demo", "--type=merge", "--patch", `{"data":{"color":"blue"}}`)
	if got := c.kubectl(t, "get", "configmap", "demo", "--output", "jsonpath={.data.color}"); got != "blue" {
		t.Errorf("color is %q after the patch", got)
	}
	c.kubectl(t, "delete", "configmap", "demo")
	deleted := w.await(t, "DELETED", "demo", settleTimeout)
	created := w.await(t, "ADDED", "demo", settleTimeout)
	changed := w.await(t, "MODIFIED", "demo", settleTimeout)
	if created.Object.Data["color"] != "red" || changed.Object.Data["color"] != "blue" || deleted.Object.Data["color"] != "blue" {
		t.Errorf("watched %v, %v, %v", created.Object, changed.Object, deleted.Object)
	}
	if parseVersion(t, deleted.Object.Metadata.ResourceVersion) <= parseVersion(t, changed.Object.Metadata.ResourceVersion) {
		t.Errorf("deleted in version %s, changed in %s", deleted.Object.Metadata.ResourceVersion, changed.Object.Metadata.ResourceVersion)
	}
	awaitOutput(t, shown, "ADDED red", "MODIFIED blue", "DELETED blue")
}

// follow starts a kubectl that prints the events of objects of one kind.
func (c *cluster) follow(t *testing.T, kind, name string) *process.Process {
	t.Helper()
	p, err := process.Run(process.Command{
		Path: filepath.Join(c.bin, "kubectl"),
		Args: append(c.kubectlFlags(), "get", kind, "--field-selector=metadata.name="+name,
			"--watch", "--output-watch-events", "--output", `jsonpath={.type} {.object.data.color}{"\n"}`),
		Env: []string{"HOME=" + c.dir},
		Log: filepath.Join(c.dir, "kubectl-watch.log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func awaitOutput(t *testing.T, p *process.Process, lines ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), settleTimeout)
	defer cancel()
	want := strings.Join(lines, "\n")
	err := process.Until(ctx, pollInterval, func(context.Context) error {
		if out := strings.TrimSpace(p.Output()); out != want {
			return fmt.Errorf("kubectl printed %q, want %q", out, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// listAll lists a path in one page.
func (c *cluster) listAll(t *testing.T, path string) list {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	var out list
	if err := c.do(ctx, http.MethodGet, path, nil, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

const (
	pageObjects = 60
	pageSize    = 25
)

// testPages reads objects in pages while others are written: the pages show one
// revision.
func (c *cluster) testPages(t *testing.T) {
	for _, r := range []resource{configMaps, events} {
		t.Run(filepath.Base(r.path), func(t *testing.T) { c.testPagesOf(t, r) })
	}
	names := strings.Fields(c.kubectl(t, "get", "configmaps", "--chunk-size=20", "--output", "name"))
	if all := c.listAll(t, configMaps.path); len(names) != len(all.Items) {
		t.Errorf("kubectl lists %d in chunks, want %d", len(names), len(all.Items))
	}
}

func (c *cluster) testPagesOf(t *testing.T, r resource) {
	for i := range pageObjects {
		c.mustCreate(t, r, fmt.Sprintf("page-%03d", i))
	}
	before := c.listAll(t, r.path)
	var read []object
	page, pages := list{}, 0
	for more := true; more; more = page.Metadata.Continue != "" {
		page = c.listAll(t, fmt.Sprintf("%s?limit=%d&continue=%s", r.path, pageSize, page.Metadata.Continue))
		read = append(read, page.Items...)
		if left := len(before.Items) - len(read); page.Metadata.RemainingItemCount != max(left, 0) {
			t.Errorf("page %d says %d remain, want %d", pages, page.Metadata.RemainingItemCount, left)
		}
		pages++
		c.mustCreate(t, r, fmt.Sprintf("page-between-%03d", pages))
	}
	if want := (len(before.Items) + pageSize - 1) / pageSize; pages != want {
		t.Errorf("%d pages, want %d", pages, want)
	}
	if got, want := describe(t, read), describe(t, before.Items); got != want {
		t.Errorf("pages differ from the list before them:\n%s\n%s", got, want)
	}
}

func describe(t *testing.T, items []object) string {
	t.Helper()
	text, err := json.Marshal(items)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (c *cluster) mustCreate(t *testing.T, r resource, name string) object {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	out, err := c.create(ctx, r, name)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func parseVersion(t *testing.T, version string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(version, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// expiry is an event on its way to its end.
type expiry struct {
	cluster *cluster
	watcher *watcher
	created time.Time
}

const expiringName = "expiring"

func (c *cluster) startExpiry(t *testing.T) *expiry {
	t.Helper()
	w := c.watch(t, events, c.listAll(t, events.path).Metadata.ResourceVersion)
	e := &expiry{cluster: c, watcher: w, created: time.Now()}
	c.mustCreate(t, events, expiringName)
	return e
}

// test checks that the event is there until its TTL is over and goes soon
// after, with an event of its own. A restart of the store gives it its TTL again.
func (e *expiry) test(t *testing.T) {
	defer e.watcher.close()
	from := e.created
	if e.cluster.restarted.After(from) {
		from = e.cluster.restarted
	}
	e.watcher.await(t, "DELETED", expiringName, time.Until(from.Add(eventTTL+expiryMargin)))
	age := time.Since(e.created)
	if age < eventTTL {
		t.Errorf("the event is gone after %s", age)
	}
	t.Logf("the event was gone after %s", age.Round(100*time.Millisecond))
	if got := e.cluster.kubectl(t, "get", "events", "--output", "name"); strings.Contains(got, expiringName+"\n") {
		t.Error("the event is still listed")
	}
}

// testShutdown ends kube-apiserver, reads its log and ends the store.
func (c *cluster) testShutdown(t *testing.T) {
	c.stopServer(t)
	c.terminateStore(t)
}

// stopServer ends kube-apiserver and reads its log.
func (c *cluster) stopServer(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	c.outages = append(c.outages, [2]time.Time{time.Now(), time.Now().Add(startTimeout)}) // it says so when it ends its watch caches
	if code, err := c.server.Terminate(ctx); err != nil || code != 0 {
		t.Errorf("kube-apiserver ended with %d, %v", code, err)
	}
	c.checkLog(t)
}
