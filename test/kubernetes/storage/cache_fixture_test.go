package storage

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/apiserver/pkg/storage/etcd3"
	"k8s.io/apiserver/pkg/storage/value/encrypt/identity"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"github.com/kinsy/kinsy/test/kubernetes/process"
)

var errNotThere = errors.New("not there yet")

// cacheFixture is a fixture with the watch cache of kube-apiserver on its
// store.
type cacheFixture struct {
	*fixture
	cacher *cacher.Cacher
	cached *cacher.CacheDelegator
	clock  *shiftedClock
}

// cacheSetup is what the tests of the watch cache start from.
func cacheSetup() setup {
	proto := protobuf.NewSerializer(scheme, scheme)
	return setup{
		pathPrefix:  "/registry",
		codec:       codecs.CodecForVersions(proto, proto, schema.GroupVersions{examplev1.SchemeGroupVersion}, nil),
		transformer: identity.NewEncryptCheckTransformer(),
		lease:       etcd3.NewDefaultLeaseManagerConfig(),
	}
}

// newCacheFixture starts a server, a store and a watch cache on it, and returns
// when the cache is filled.
func newCacheFixture(t *testing.T, s setup, change ...func(*cacher.Config)) *cacheFixture {
	t.Helper()
	f := &cacheFixture{fixture: newFixture(t, s), clock: &shiftedClock{}}
	wrapped := untimed{f.store}
	config := cacher.Config{
		Storage:             wrapped,
		Versioner:           storage.APIObjectVersioner{},
		GroupResource:       pods,
		EventsHistoryWindow: cacher.DefaultEventFreshDuration,
		ResourcePrefix:      resourcePrefix,
		KeyFunc:             func(obj runtime.Object) (string, error) { return storage.NamespaceKeyFunc(resourcePrefix, obj) },
		GetAttrsFunc:        podAttributes,
		NewFunc:             newPod,
		NewListFunc:         newPodList,
		Indexers:            &cache.Indexers{},
		Codec:               s.codec,
		Clock:               f.clock,
	}
	for _, c := range change {
		c(&config)
	}
	var err error
	if f.cacher, err = cacher.NewCacherFromConfig(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.cacher.Stop)
	f.cached = cacher.NewCacheDelegator(f.cacher, wrapped)
	t.Cleanup(f.cached.Stop)
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	if err := f.cacher.Wait(ctx); err != nil {
		t.Fatalf("wait for the watch cache: %v", err)
	}
	return f
}

// clusterScoped gives the cache keys without a namespace.
func clusterScoped(c *cacher.Config) {
	c.KeyFunc = func(obj runtime.Object) (string, error) { return storage.NoNamespaceKeyFunc(resourcePrefix, obj) }
}

// indexed gives the cache the indexes that kube-apiserver has for pods.
func indexed(c *cacher.Config) {
	node := func(obj any) string { return obj.(*example.Pod).Spec.NodeName }
	c.IndexerFuncs = storage.IndexerFuncs{
		"spec.nodeName": func(obj runtime.Object) string { return node(obj) },
	}
	c.Indexers = &cache.Indexers{
		storage.FieldIndex("spec.nodeName"):      func(obj any) ([]string, error) { return []string{node(obj)}, nil },
		storage.FieldIndex("metadata.namespace"): func(obj any) ([]string, error) { return []string{obj.(*example.Pod).Namespace}, nil },
	}
}

func podAttributes(obj runtime.Object) (labels.Set, fields.Set, error) {
	pod, ok := obj.(*example.Pod)
	if !ok {
		return nil, nil, fmt.Errorf("%T is not a pod", obj)
	}
	return labels.Set(pod.Labels), fields.Set{
		"metadata.name":      pod.Name,
		"metadata.namespace": pod.Namespace,
		"spec.nodeName":      pod.Spec.NodeName,
		"spec.restartPolicy": string(pod.Spec.RestartPolicy),
		"status.phase":       string(pod.Status.Phase),
	}, nil
}

// untimed keeps the store from stamping events with the time, so that the cache
// takes it from its own clock.
type untimed struct{ storage.Interface }

func (u untimed) Watch(ctx context.Context, key string, opts storage.ListOptions) (watch.Interface, error) {
	opts.RecordTimestamps = false
	return u.Interface.Watch(ctx, key, opts)
}

// longTimer is the shortest timer that shiftedClock shortens. The cache looks
// for a new compact revision every 15 s; no other timer of it is that long.
const (
	longTimer  = 10 * time.Second
	shortTimer = 50 * time.Millisecond
)

// shiftedClock is the real clock, ahead by a time that can grow, with timers of
// 10 s and more cut short.
type shiftedClock struct {
	clock.RealClock
	ahead atomic.Int64
}

func (c *shiftedClock) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *shiftedClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

func (c *shiftedClock) NewTimer(d time.Duration) clock.Timer {
	return shortened{c.RealClock.NewTimer(shorten(d))}
}

type shortened struct{ clock.Timer }

func (s shortened) Reset(d time.Duration) bool { return s.Timer.Reset(shorten(d)) }

func shorten(d time.Duration) time.Duration {
	if d >= longTimer {
		return shortTimer
	}
	return d
}

// compactCached compacts the server and waits until the cache has followed.
func (f *cacheFixture) compactCached(ctx context.Context, t *testing.T, resourceVersion string) {
	f.compact(ctx, t, resourceVersion)
	ctx, cancel := context.WithTimeout(ctx, hookTimeout)
	defer cancel()
	rev := parseRevision(t, resourceVersion)
	err := process.Until(ctx, pollInterval, func(context.Context) error {
		if got := f.cached.CompactRevision(); got != rev {
			return fmt.Errorf("%w: the cache knows %d", errNotCompacted, got)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("wait for compaction of the cache to %d: %v", rev, err)
	}
}

// historySize is more than the events that the cache keeps when they are older
// than its window.
const historySize = 110

// compactHistory compacts the server and lets the cache forget the events so
// far: it makes them old and writes enough new ones.
func (f *cacheFixture) compactHistory(ctx context.Context, t *testing.T, resourceVersion string) {
	f.compactCached(ctx, t, resourceVersion)
	f.clock.ahead.Add(int64(2 * cacher.DefaultEventFreshDuration))
	var last example.Pod
	for i := range historySize {
		pod := &example.Pod{}
		pod.Namespace, pod.Name = "history", fmt.Sprintf("pod-%d", i)
		if err := f.cached.Create(ctx, resourcePrefix+"history/"+pod.Name, pod, &last, 0); err != nil {
			t.Fatalf("write history: %v", err)
		}
	}
	opts := storage.ListOptions{ResourceVersion: last.ResourceVersion, Predicate: storage.Everything, Recursive: true}
	if err := f.cached.GetList(ctx, resourcePrefix, opts, &example.PodList{}); err != nil {
		t.Fatalf("wait for the cache to read the history: %v", err)
	}
}

// settled is a cached store whose Create returns when the cache has the object.
type settled struct{ *cacher.CacheDelegator }

func (s settled) Create(ctx context.Context, key string, obj, out runtime.Object, ttl uint64) error {
	if err := s.CacheDelegator.Create(ctx, key, obj, out, ttl); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, hookTimeout)
	defer cancel()
	return process.Until(ctx, pollInterval, func(ctx context.Context) error {
		got := newPod()
		if err := s.Get(ctx, key, storage.GetOptions{ResourceVersion: "0"}, got); err != nil {
			return err
		}
		if !equality.Semantic.DeepEqual(got, out) {
			return errNotThere
		}
		return nil
	})
}
