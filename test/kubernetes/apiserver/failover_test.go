package apiserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"

	"github.com/kinsy/kinsy/test/kubernetes/process"
)

// killsVariable is how often TestCluster kills the Primary.
const killsVariable = "KINSY_APISERVER_KILLS"

const (
	defaultKills = 3
	killInterval = 20 * time.Second
	downTime     = 4 * time.Second // of the node that was killed
	// pauseLimit is how long no write may be acknowledged after a kill. Package
	// test/cluster measures it; here it shows that nothing is stuck.
	pauseLimit = 5 * time.Second
	// referenceLimit is the same for etcd, which lets what was under way time out: 7 s.
	referenceLimit = 12 * time.Second
	// clusterCompactionInterval leaves time for a watch of a node that was away.
	clusterCompactionInterval = 15 * time.Second
	// clusterEventTTL is less than killInterval: a new Primary gives every lease its
	// TTL again.
	clusterEventTTL = 10 * time.Second
	listsAtOnce     = 8
)

var errNotFresh = errors.New("watch cache is behind")

// leases are renewed by leader election. They are in a watch cache.
var leases = resource{path: "/apis/coordination.k8s.io/v1/namespaces/" + namespace + "/leases"}

// failover is kube-apiserver on a cluster whose Primary is killed again and again.
type failover struct {
	*nodes
	client     *kubernetes.Clientset
	begun      int64 // revision of before
	raw        []*nodeWatch
	informers  []informer
	stop       func() // of the informers
	loads      []*load
	watchers   []*watcher
	reader     *reader
	candidates []*candidate
	kinds      []string // paths of all that has a watch cache
}

// TestCluster kills the Primary of three nodes every 20 s while kube-apiserver
// works on them.
func TestCluster(t *testing.T) {
	f := &failover{nodes: startNodes(t)}
	f.client = f.clientSet(t)
	f.kinds = cachedKinds(t, f.client.Discovery())
	t.Run("ready", f.testReady)
	t.Run("watch caches of all nodes", func(t *testing.T) {
		f.testConsistentReads(t)
		f.testCaches(t)
		f.checkStreams(t)
	})
	f.start(t)
	if !t.Run("kills", f.testKills) {
		return
	}
	t.Run("versions", f.testVersions)
	t.Run("informers", f.testInformers)
	t.Run("watch caches", f.testCaches)
	t.Run("compaction", f.testCompacted)
	t.Run("requests", f.failures.check)
	f.finish(t)
	t.Run("shutdown", func(t *testing.T) {
		f.stopServer(t)
		f.terminate(t)
		if f.kind != process.Reference {
			f.checkStoreLogs(t)
		}
	})
}

// start starts all that goes on during the kills.
func (f *failover) start(t *testing.T) {
	t.Helper()
	f.begun = f.revision(t, f.clients[0])
	for _, client := range f.clients {
		f.raw = append(f.raw, watchNode(t, client, f.begun))
	}
	f.candidates = runCandidates(t, f.client)
	f.informers, f.stop = startInformers(t, f.client)
	f.watchers = append(f.watchers, f.watch(t, leases, f.listAll(t, leases.path).Metadata.ResourceVersion))
	for _, prefix := range []string{"one", "two"} {
		l := f.startLoad(t, prefix)
		f.loads = append(f.loads, l)
		f.watchers = append(f.watchers, l.watchers...)
	}
	f.reader = f.read(t)
	f.awaitWrites(t)
}

func (f *failover) awaitWrites(t *testing.T) {
	t.Helper()
	for _, l := range f.loads {
		l.awaitMore(t)
	}
}

// finish ends what start has started, so that kube-apiserver can end.
func (f *failover) finish(t *testing.T) {
	t.Helper()
	f.reader.finish(t)
	checkElection(t, f.candidates)
	for _, c := range f.candidates {
		c.stop()
	}
	f.stop()
	for _, w := range f.watchers {
		w.close()
	}
}

// revision is the newest revision, by a linearizable read at a node.
func (f *failover) revision(t *testing.T, at *clientv3.Client) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	resp, err := at.Get(ctx, compactKey)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

func (f *failover) testKills(t *testing.T) {
	kills := defaultKills
	if text := os.Getenv(killsVariable); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	ticker := time.NewTicker(killInterval)
	defer ticker.Stop()
	for i := range kills {
		if i > 0 {
			<-ticker.C
		} else {
			ticker.Reset(killInterval)
		}
		k := f.killPrimary(t)
		fresh := f.awaitFresh(t)
		f.awaitWrites(t)
		t.Logf("kill %d, of %s: another primary after %s, back after %s, watch caches fresh after %s, pauses of writes %s", i, nodeName(k.node),
			k.elected.Round(time.Millisecond), k.joined.Round(time.Millisecond), fresh.Sub(k.at).Round(time.Millisecond), f.pauses(t, k.at))
	}
}

// pauses describes how long each writer got nothing acknowledged since a kill.
func (f *failover) pauses(t *testing.T, from time.Time) string {
	t.Helper()
	var out []string
	limit, to := pauseLimit, time.Now()
	if f.kind == process.Reference {
		limit = referenceLimit
	}
	for _, l := range f.loads {
		for _, w := range l.writers() {
			pause := w.pause(from, to)
			out = append(out, pause.Round(time.Millisecond).String())
			if pause > limit {
				t.Errorf("%s %s: nothing acknowledged for %s", w.resource.path, w.prefix, pause)
			}
		}
	}
	return strings.Join(out, " ")
}

// newest returns the highest version that was acknowledged.
func (f *failover) newest(t *testing.T) int64 {
	t.Helper()
	newest := int64(0)
	for _, l := range f.loads {
		newest = max(newest, l.newest(t))
	}
	return newest
}

// testVersions ends the writers and checks that nothing acknowledged is lost, and
// that every watch, of a node or of kube-apiserver, has shown the same changes.
func (f *failover) testVersions(t *testing.T) {
	for _, l := range f.loads {
		for _, w := range l.writers() {
			w.finish()
			w.checkOrder(t)
		}
		l.ended = time.Now()
	}
	revision := f.revision(t, f.clients[0])
	truth := f.truth(t, revision)
	f.checkAcknowledged(t, truth)
	for _, w := range f.watchers {
		f.checkWatch(t, w, truth, revision)
	}
	for _, r := range []resource{configMaps, events} {
		f.checkListed(t, r, truth, revision)
	}
	for _, l := range f.loads {
		l.checkPatched(t)
		l.checkPatchesWatched(t)
	}
}

// truth returns all changes up to a revision, as each node has shown them.
func (f *failover) truth(t *testing.T, revision int64) []change {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), settleTimeout)
	defer cancel()
	var truth []change
	for i, w := range f.raw {
		if at := f.revision(t, f.clients[i]); at < revision {
			t.Errorf("%s reads revision %d after %d", nodeName(i), at, revision)
		}
		seen, err := w.await(ctx, revision)
		if err != nil {
			t.Fatalf("watch of %s: %v", nodeName(i), err)
		}
		if i == 0 {
			truth = seen
		}
		if err := compare(seen, truth); err != nil {
			t.Errorf("watches of %s and %s: %v", nodeName(i), nodeName(0), err)
		}
	}
	t.Logf("%d changes up to revision %d, the same on every node", len(truth), revision)
	return truth
}

// checkAcknowledged checks that every acknowledged write is among the changes.
func (f *failover) checkAcknowledged(t *testing.T, truth []change) {
	t.Helper()
	at := map[change]bool{}
	for _, c := range truth {
		at[c] = true
	}
	for _, l := range f.loads {
		for _, w := range l.writers() {
			versions, failed := w.acknowledged()
			for name, version := range versions {
				want := change{"ADDED", path.Join(w.resource.folder(), name), parseVersion(t, version)}
				if w == l.patcher {
					want.kind, want.key = "MODIFIED", path.Join(w.resource.folder(), l.target)
				}
				if !at[want] {
					t.Errorf("acknowledged and lost: %+v", want)
				}
			}
			t.Logf("%s in %s: %d acknowledged, %d failed", w.prefix, w.resource.path, len(versions), failed)
		}
	}
}

// checkWatch waits until a watch of kube-apiserver has shown exactly the changes.
func (f *failover) checkWatch(t *testing.T, w *watcher, truth []change, revision int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), settleTimeout)
	defer cancel()
	want := of(truth, w.resource, parseVersion(t, w.start))
	err := process.Until(ctx, pollInterval, func(context.Context) error {
		got, err := w.changes(t, revision)
		if err != nil {
			return err
		}
		return compare(got, want)
	})
	if err != nil {
		t.Errorf("watch on %s: %v", w.resource.path, err)
	}
	w.checkOrder(t)
}

// checkListed checks that a list at a revision is what the changes leave. Objects
// of before the first change are not of the test.
func (f *failover) checkListed(t *testing.T, r resource, truth []change, revision int64) {
	t.Helper()
	all := f.listAll(t, fmt.Sprintf("%s?resourceVersionMatch=Exact&resourceVersion=%d", r.path, revision))
	got, want := listState(all, t, r), state(of(truth, r, 0))
	maps.DeleteFunc(got, func(_ string, revision int64) bool { return revision <= f.begun })
	if !maps.Equal(got, want) {
		t.Errorf("list of %s: %d objects, the changes leave %d", r.path, len(got), len(want))
	}
}

func (f *failover) testInformers(t *testing.T) {
	for _, in := range f.informers {
		in.checkFresh(t, f.cluster)
	}
}

// cachedKinds returns the paths of all kinds that have a watch cache.
func cachedKinds(t *testing.T, client discovery.DiscoveryInterface) []string {
	t.Helper()
	lists, err := discovery.ServerPreferredResources(client)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list", "watch", "create"}}, lists) {
		root := "/apis/"
		if !strings.Contains(l.GroupVersion, "/") {
			root = "/api/"
		}
		for _, kind := range l.APIResources {
			if kind.Name != "events" {
				out = append(out, root+l.GroupVersion+"/"+kind.Name)
			}
		}
	}
	slices.Sort(out)
	return out
}

// awaitFresh waits until a consistent list of every kind succeeds and shows what
// was acknowledged before, and returns when that was.
func (f *failover) awaitFresh(t *testing.T) time.Time {
	t.Helper()
	newest := f.newest(t)
	ctx, cancel := context.WithTimeout(t.Context(), settleTimeout)
	defer cancel()
	if err := process.Until(ctx, pollInterval, func(ctx context.Context) error { return f.listKinds(ctx, newest) }); err != nil {
		t.Fatal(err)
	}
	return time.Now()
}

// listKinds lists every kind. Each list must be of the version or a newer one.
func (f *failover) listKinds(ctx context.Context, newest int64) error {
	var wg sync.WaitGroup
	errs := make([]error, len(f.kinds))
	slots := make(chan struct{}, listsAtOnce)
	for i, kind := range f.kinds {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = f.listKind(ctx, kind, newest)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (f *failover) listKind(ctx context.Context, kind string, newest int64) error {
	var all metav1.PartialObjectMetadataList
	if err := f.do(ctx, http.MethodGet, kind, nil, &all); err != nil {
		return fmt.Errorf("list %s: %w", kind, err)
	}
	if version, err := strconv.ParseInt(all.ResourceVersion, 10, 64); err != nil || version < newest {
		return fmt.Errorf("%w: list %s: version %s, %d was acknowledged", errNotFresh, kind, all.ResourceVersion, newest)
	}
	return nil
}

// testCaches checks that consistent lists of every kind come from the watch cache,
// which is filled by whatever node its watch is on now.
func (f *failover) testCaches(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	before := f.consistentReads(t)
	if err := f.listKinds(ctx, f.newest(t)); err != nil {
		t.Fatal(err)
	}
	served := 0
	for line, count := range f.consistentReads(t) {
		switch more := count - before[line]; {
		case more == 0:
		case fromCache(line):
			served++
		default:
			t.Errorf("%d times not served from the cache: %s", more, line)
		}
	}
	if served < len(f.kinds) {
		t.Errorf("lists of %d kinds came from the cache, want %d", served, len(f.kinds))
	}
	t.Logf("consistent lists of %d kinds came from the cache", served)
}

// checkStreams checks that some of the watches that fill the caches are on
// Replicas, so that these have answered requests for progress, too: no other watches
// may be open.
func (f *failover) checkStreams(t *testing.T) {
	t.Helper()
	if f.kind == process.Reference {
		return
	}
	primary, onReplicas := f.awaitPrimary(t), 0.0
	for i := range f.stores {
		streams := f.watchStreams(t, i)
		if i != primary {
			onReplicas += streams
		}
		t.Logf("%s, primary %v: %v watch streams", nodeName(i), i == primary, streams)
	}
	if onReplicas == 0 {
		t.Error("kube-apiserver watches nothing on a Replica")
	}
}

// testCompacted waits until every node is compacted to what kube-apiserver asked
// for, beyond the first change.
func (f *failover) testCompacted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*clusterCompactionInterval)
	defer cancel()
	for i, client := range f.clients {
		err := process.Until(ctx, pollInterval, func(ctx context.Context) error { return compactedBeyond(ctx, client, f.begun) })
		if err != nil {
			t.Errorf("%s: %v", nodeName(i), err)
		}
	}
}
