package apiserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/kinsy/kinsy/test/kubernetes/process"
)

// Leader election as controllers do it, but for the interval, which makes more
// writes.
const (
	electionLease    = "election"
	leaseDuration    = 15 * time.Second
	renewDeadline    = 10 * time.Second
	electionInterval = 200 * time.Millisecond
)

var (
	errStale     = errors.New("informer's cache differs from the list")
	errNotLeader = errors.New("nobody leads")
)

// clientSet returns a client-go client without a limit of its own.
func (c *cluster) clientSet(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	client, err := kubernetes.NewForConfig(&rest.Config{
		Host:            c.url,
		BearerToken:     token,
		TLSClientConfig: rest.TLSClientConfig{CAFile: c.certs.cert},
		QPS:             -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// informer is a client-go informer on a resource.
type informer struct {
	resource resource
	cache    cache.SharedIndexInformer
}

// startInformers starts informers on the resources. They end with the test, or by
// stop.
func startInformers(t *testing.T, client kubernetes.Interface) (all []informer, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace))
	all = []informer{
		{configMaps, factory.Core().V1().ConfigMaps().Informer()},
		{events, factory.Core().V1().Events().Informer()},
		{leases, factory.Coordination().V1().Leases().Informer()},
	}
	factory.Start(ctx.Done())
	stop = sync.OnceFunc(func() {
		cancel()
		factory.Shutdown()
	})
	t.Cleanup(stop)
	for _, in := range all {
		if !cache.WaitForCacheSync(t.Context().Done(), in.cache.HasSynced) {
			t.Fatal("informers have not synced")
		}
	}
	return all, stop
}

// contents returns what the informer's cache holds: key to revision.
func (in informer) contents() (map[string]int64, error) {
	out := map[string]int64{}
	for _, item := range in.cache.GetStore().List() {
		object, err := meta.Accessor(item)
		if err != nil {
			return nil, err
		}
		version, err := strconv.ParseInt(object.GetResourceVersion(), 10, 64)
		if err != nil {
			return nil, err
		}
		out[path.Join(in.resource.folder(), object.GetName())] = version
	}
	return out, nil
}

// checkFresh waits until the informer's cache is as a fresh list. Leases are
// renewed and events expire meanwhile, so it may take more than one look.
func (in informer) checkFresh(t *testing.T, c *cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), settleTimeout)
	defer cancel()
	count := 0
	err := process.Until(ctx, pollInterval, func(ctx context.Context) error {
		want := listState(c.listAll(t, in.resource.path), t, in.resource)
		got, err := in.contents()
		if err == nil && !maps.Equal(got, want) {
			err = fmt.Errorf("%w: %d and %d objects", errStale, len(got), len(want))
		}
		count = len(got)
		return err
	})
	if err != nil {
		t.Errorf("informer on %s: %v", in.resource.path, err)
	}
	t.Logf("informer on %s: %d objects, as in a fresh list", in.resource.path, count)
}

// listState returns what a list holds: key to revision.
func listState(l list, t *testing.T, r resource) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	for _, item := range l.Items {
		out[path.Join(r.folder(), item.Metadata.Name)] = parseVersion(t, item.Metadata.ResourceVersion)
	}
	return out
}

// candidate takes part in a leader election, and keeps it once it has won.
type candidate struct {
	name     string
	leads    atomic.Bool
	lost     atomic.Int64
	elector  *leaderelection.LeaderElector
	shutdown context.CancelFunc
	done     chan struct{}
}

// runCandidates starts two candidates of one election. They end with the test, or
// by stop.
func runCandidates(t *testing.T, client kubernetes.Interface) []*candidate {
	t.Helper()
	var out []*candidate
	for i := range 2 {
		out = append(out, runCandidate(t, client, fmt.Sprintf("candidate-%d", i)))
	}
	ctx, cancel := context.WithTimeout(t.Context(), settleTimeout)
	defer cancel()
	err := process.Until(ctx, pollInterval, func(context.Context) error {
		if !out[0].leads.Load() && !out[1].leads.Load() {
			return errNotLeader
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func runCandidate(t *testing.T, client kubernetes.Interface, name string) *candidate {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &candidate{name: name, shutdown: cancel, done: make(chan struct{})}
	var err error
	c.elector, err = leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: namespace, Name: electionLease},
			Client:     client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: name},
		},
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: electionInterval,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { c.leads.Store(true) },
			OnStoppedLeading: func() {
				if ctx.Err() == nil {
					c.lost.Add(1)
				}
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.done)
		c.elector.Run(ctx)
	}()
	t.Cleanup(c.stop)
	return c
}

func (c *candidate) stop() {
	c.shutdown()
	<-c.done
}

// checkElection checks that the first leader has never lost its lease, and the
// other has never won it.
func checkElection(t *testing.T, all []*candidate) {
	t.Helper()
	won := 0
	for _, c := range all {
		if c.leads.Load() {
			won++
		}
		if lost := c.lost.Load(); lost > 0 {
			t.Errorf("%s has lost its lease", c.name)
		}
	}
	if won != 1 {
		t.Errorf("%d candidates have led", won)
	}
}
