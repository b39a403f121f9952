package apiserver

import (
	"context"
	"errors"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kinsy/kinsy/test/kubernetes/process"
)

// Arguments of the store beside the place of its objects.
var (
	commitInObjects = []string{"--quorum", "0"}
	manySnapshots   = []string{"--quorum", "0", "--snapshot-rows", "100", "--snapshot-retention", "2", "--snapshot-retention-time", "1s"}
	uploadAtEnd     = []string{"--quorum", "-1", "--upload-interval", "1h"}
)

// disposable is a cluster whose store keeps its data in object storage and
// loses its data folder again and again.
type disposable struct {
	*cluster
	objects  objectFolder
	reader   *reader
	watchers []*watcher // from the beginning to the end
	loads    []*load
}

// TestEmptyDisk takes the data folder of the store away while kube-apiserver
// works on it: what was acknowledged comes back from object storage, and nobody
// sees more than an outage.
func TestEmptyDisk(t *testing.T) {
	if process.Kind(os.Getenv(storeVariable)) == process.Reference {
		t.Skip("needs the object storage of kinsy")
	}
	objects := objectFolder(t.TempDir())
	d := &disposable{objects: objects, cluster: newCluster(t, objects.arguments(commitInObjects)...)}
	for _, r := range []resource{configMaps, events} {
		d.watchers = append(d.watchers, d.watch(t, r, d.listAll(t, r.path).Metadata.ResourceVersion))
	}
	d.reader = d.read(t)
	t.Run("kill -9", d.testKill)
	t.Run("objects", d.testObjects)
	t.Run("kill -9 after snapshots and retention", d.testSnapshots)
	t.Run("pages", d.testPages)
	t.Run("kill -9 twice", d.testKillTwice)
	expiring := d.startExpiry(t)
	t.Run("SIGTERM with uploads to come", d.testUploadAtEnd)
	t.Run("compaction goes on", d.testCompaction)
	t.Run("event expires", expiring.test)
	t.Run("whole history", d.testWhole)
	t.Run("requests", d.testRequests)
	t.Run("shutdown", d.testShutdown)
	d.checkStoreLog(t)
}

// storeLine matches a line of kinsy's log that tells of something other than the
// ordinary course.
var storeLine = regexp.MustCompile(`level=(warning|error|fatal|panic)|^(panic|fatal error|goroutine)`)

func (d *disposable) checkStoreLog(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(d.store.Log())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if storeLine.MatchString(line) {
			t.Errorf("kinsy: %s", line)
		}
	}
}

func (d *disposable) testKill(t *testing.T) {
	got := d.round(t, "kill", manySnapshots, d.kill)
	if got.snapshotRows != 0 {
		t.Errorf("restored from a snapshot of %v rows, want none", got.snapshotRows)
	}
}

// testSnapshots lets snapshots and retention pass before the disk is lost. The
// store runs with manySnapshots.
func (d *disposable) testSnapshots(t *testing.T) {
	l := d.load(t, "snapshots")
	d.objects.awaitSnapshots(t, 2)
	l.finish(t)
	oldest := d.objects.age(t)
	l = d.load(t, "retention")
	d.objects.awaitDeleted(t, oldest)
	l.finish(t)
	got := d.round(t, "chain", commitInObjects, d.kill)
	if got.snapshotRows == 0 {
		t.Error("restored without a snapshot")
	}
}

// testKillTwice keeps the store away until kube-apiserver has noticed, and kills
// it again when it has just come back.
func (d *disposable) testKillTwice(t *testing.T) {
	d.round(t, "twice", uploadAtEnd, func(t *testing.T) {
		d.loseDisk(t, d.killUntilNoticed)
		ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
		defer cancel()
		if err := d.store.Start(ctx); err != nil {
			t.Fatal(err)
		}
		d.kill(t)
	})
}

// testUploadAtEnd ends a store that has not uploaded anything of the load: it
// does so before it ends. The store runs with uploadAtEnd.
func (d *disposable) testUploadAtEnd(t *testing.T) {
	d.round(t, "end", commitInObjects, func(t *testing.T) {
		before := d.objects.newestChunk(t)
		if pending, err := gauge(d.storeMetrics(t), "kinsy_pending_upload_bytes"); err != nil || pending == 0 {
			t.Errorf("%v bytes wait for their upload, %v", pending, err)
		}
		d.terminateStore(t)
		if after := d.objects.newestChunk(t); after == before {
			t.Errorf("no chunk came after %s", before)
		}
	})
}

// testWhole checks that the watches from the beginning have missed nothing, that
// every event has expired, and that versions never went back.
func (d *disposable) testWhole(t *testing.T) {
	for _, l := range d.loads {
		for i, w := range l.creators {
			w.checkWatched(t, d.watchers[i])
		}
	}
	for _, w := range d.watchers {
		w.checkOrder(t)
	}
	d.checkEventsGone(t)
	for _, w := range d.watchers {
		w.close() // kube-apiserver does not end before its watches
	}
	d.reader.finish(t)
}

// checkEventsGone waits until the events of the loads, which are all older than
// their TTL, are deleted, and checks that each of them was watched.
func (d *disposable) checkEventsGone(t *testing.T) {
	t.Helper()
	for _, l := range d.loads {
		versions, _ := l.creators[1].acknowledged()
		for name := range versions {
			d.watchers[1].await(t, "DELETED", name, time.Until(l.ended.Add(eventTTL+expiryMargin)))
		}
	}
}

func (d *disposable) load(t *testing.T, prefix string) *load {
	t.Helper()
	l := d.startLoad(t, prefix)
	l.awaitMore(t)
	d.loads = append(d.loads, l)
	return l
}

func (d *disposable) kill(*testing.T) { d.store.Kill() }

// round ends the store under load, deletes its data folder and starts it again
// with other arguments.
func (d *disposable) round(t *testing.T, prefix string, args []string, end func(*testing.T)) restored {
	t.Helper()
	l := d.load(t, prefix)
	lists := []unfinished{d.beginPages(t, configMaps), d.beginPages(t, events)}
	var known int64
	var result <-chan restored
	d.interrupt(t, func(t *testing.T) {
		d.loseDisk(t, end)
		known = max(l.newest(t), d.reader.newest())
		d.store.SetArgs(d.objects.arguments(args)...)
		result = d.awaitRestored(t)
	})
	got := <-result
	switch {
	case got.err != nil:
		t.Error(got.err)
	case got.revision < known:
		t.Errorf("the first answer is of revision %d, %d was known before", got.revision, known)
	}
	for _, u := range lists {
		u.finish(t)
	}
	l.awaitMore(t)
	l.finish(t)
	t.Logf("%+v, known %d", got, known)
	return got
}

// loseDisk ends the store and deletes its data folder.
func (d *disposable) loseDisk(t *testing.T, end func(*testing.T)) {
	t.Helper()
	end(t)
	if err := d.store.RemoveData(); err != nil {
		t.Fatal(err)
	}
}

// restored is how a store came back.
type restored struct {
	rows, snapshotRows float64
	revision           int64 // of the first answer
	err                error
}

var errNotRestored = errors.New("listens before it is restored")

// awaitRestored waits in the background until the store, which is about to be
// started, can be connected to, and sends what its metrics say at that moment
// and which revision it answers with.
func (d *disposable) awaitRestored(t *testing.T) <-chan restored {
	t.Helper()
	client, address, metricsURL := d.etcdClient(t), d.store.Endpoint(), d.store.MetricsURL()+"/metrics"
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	out := make(chan restored, 1)
	go func() {
		defer cancel()
		var got restored
		got.err = process.Until(ctx, time.Millisecond, func(ctx context.Context) error { return connect(ctx, address) })
		if got.err == nil {
			got.err = got.read(ctx, client, metricsURL)
		}
		out <- got
	}()
	return out
}

func connect(ctx context.Context, address string) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// read asks for the metrics, and then for a revision. It is an error if the
// restore is not through.
func (r *restored) read(ctx context.Context, client *clientv3.Client, metricsURL string) error {
	metrics, err := fetch(ctx, metricsURL)
	if err != nil {
		return err
	}
	if done, err := gauge(metrics, "kinsy_restore_done"); err != nil || done != 1 {
		return errors.Join(errNotRestored, err)
	}
	if r.rows, err = gauge(metrics, "kinsy_restore_rows"); err != nil {
		return err
	}
	if r.snapshotRows, err = gauge(metrics, "kinsy_restore_snapshot_rows"); err != nil {
		return err
	}
	resp, err := client.Get(ctx, compactKey)
	if err != nil {
		return err
	}
	r.revision = resp.Header.Revision
	return nil
}
