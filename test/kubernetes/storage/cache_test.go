package storage

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/api/apitesting"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/apiserver/pkg/storage/etcd3"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
)

// cacheOptions are the changes to the cache that a plain test needs.
var cacheOptions = map[string][]func(*cacher.Config){
	"NamespaceScopedList":  {indexed},
	"ClusterScopedWatch":   {indexed, clusterScoped},
	"NamespaceScopedWatch": {indexed},
}

// settling are the plain tests that need objects to be in the cache as soon as
// they are created.
var settling = map[string]bool{
	"WatchSemantics":                     true,
	"WatchSemanticInitialEventsExtended": true,
	"WatchListMatchSingle":               true,
}

// TestCache runs the storage tests with the watch cache of kube-apiserver
// before the store.
func TestCache(t *testing.T) {
	target(t)
	for _, name := range slices.Sorted(maps.Keys(plain)) {
		t.Run(name, func(t *testing.T) {
			f := newCacheFixture(t, cacheSetup(), cacheOptions[name]...)
			var store storage.Interface = f.cached
			if settling[name] {
				store = settled{f.cached}
			}
			plain[name](t.Context(), t, store)
		})
	}
	for _, c := range append(cacheCases, snapshotCases()...) {
		t.Run(c.name, func(t *testing.T) {
			c.gates.set(t)
			c.run(t)
		})
	}
}

// uncheckedKey and uncheckedCalls stand in for checks that the store tests
// make; the cache hands objects and pages through to the store.
func uncheckedKey(context.Context, *testing.T, string) {}

func uncheckedCalls(*testing.T, uint64, uint64) {}

// cacheCases are the tests that need more than a cached store.
var cacheCases = []storeCase{
	{name: "Create", run: func(t *testing.T) {
		f := newCacheFixture(t, cacheSetup())
		storagetesting.RunTestCreate(t.Context(), t, f.cached, uncheckedKey)
	}},
	{name: "ListContinuation", run: func(t *testing.T) {
		f := newCacheFixture(t, cacheSetup())
		storagetesting.RunTestListContinuation(t.Context(), t, f.cached, uncheckedCalls)
	}},
	{name: "ListPaginationRareObject", run: func(t *testing.T) {
		f := newCacheFixture(t, cacheSetup())
		storagetesting.RunTestListPaginationRareObject(t.Context(), t, f.cached, uncheckedCalls)
	}},
	{name: "ListContinuationWithFilter", run: func(t *testing.T) {
		f := newCacheFixture(t, cacheSetup())
		storagetesting.RunTestListContinuationWithFilter(t.Context(), t, f.cached, uncheckedCalls)
	}},
	{name: "WatchFromZero", run: func(t *testing.T) {
		f := newCacheFixture(t, cacheSetup())
		storagetesting.RunTestWatchFromZero(t.Context(), t, f.cached, f.compactHistory)
	}},
	{name: "WatchDispatchBookmarkEvents", run: func(t *testing.T) {
		f := newCacheFixture(t, cacheSetup())
		storagetesting.RunTestWatchDispatchBookmarkEvents(t.Context(), t, f.cached, true)
	}},
	{name: "WatchBookmarksWithCorrectResourceVersion", run: func(t *testing.T) {
		f := newCacheFixture(t, cacheSetup())
		storagetesting.RunTestOptionalWatchBookmarksWithCorrectResourceVersion(t.Context(), t, f.cached)
	}},
	{name: "DeleteWithConflictAndMissingExpectedTransformError", gates: unsafeDelete, run: func(t *testing.T) {
		f, fail := newBrittleCache(t)
		storagetesting.RunTestDeleteWithConflictAndMissingExpectedTransformOrDecodeError(t.Context(), t, f.cached, fail)
	}},
	{name: "DeleteExpectedTransformError", gates: unsafeDelete, run: func(t *testing.T) {
		f, fail := newBrittleCache(t)
		storagetesting.RunTestDeleteExpectedTransformOrDecodeError(t.Context(), t, f.cached, fail)
	}},
	{name: "DeleteExpectedDecodeError", gates: unsafeDelete, run: func(t *testing.T) {
		etcd3.TestOnlySetFatalOnDecodeError(t, false)
		s := cacheSetup()
		brittle := &brittleCodec{Codec: apitesting.TestCodec(codecs, examplev1.SchemeGroupVersion)}
		s.codec = brittle
		f := newCacheFixture(t, s)
		storagetesting.RunTestDeleteExpectedTransformOrDecodeError(t.Context(), t, f.cached, brittle.fail.Store)
	}},
	{name: "DeleteWithSuggestionAndMissingExpectedError", gates: unsafeDelete, run: func(t *testing.T) {
		f := newCacheFixture(t, cacheSetup())
		storagetesting.RunTestDeleteWithSuggestionAndMissingExpectedTransformOrDecodeError(t.Context(), t, f.cached)
	}},
}

// snapshotCases are the tests of lists and sizes, which depend on a feature
// gate of the cache.
func snapshotCases() []storeCase {
	cases := []storeCase{
		{name: "CompactRevision", gates: gates{features.ListFromCacheSnapshot: true}, run: func(t *testing.T) {
			f := newCacheFixture(t, cacheSetup())
			storagetesting.RunTestCompactRevision(t.Context(), t, f.cached, f.increaseRevision, f.compactCached)
		}},
	}
	for _, on := range []bool{false, true} {
		cases = append(cases, cachedListCases(on)...)
		cases = append(cases, storeCase{
			name:  fmt.Sprintf("Stats/Sizes=%v", on),
			gates: gates{features.SizeBasedListCostEstimate: on},
			run: func(t *testing.T) {
				s := cacheSetup()
				f := newCacheFixture(t, s)
				storagetesting.RunTestStats(t.Context(), t, f.cached, s.codec, s.transformer, on)
			},
		})
	}
	return cases
}

func cachedListCases(snapshots bool) []storeCase {
	g := gates{features.ListFromCacheSnapshot: snapshots}
	named := func(name string) string { return fmt.Sprintf("%s/Snapshots=%v", name, snapshots) }
	return []storeCase{
		{name: named("List"), gates: g, run: func(t *testing.T) {
			f := newCacheFixture(t, cacheSetup())
			compact := f.compact
			if snapshots {
				compact = f.compactCached
			}
			storagetesting.RunTestList(t.Context(), t, f.cached, compact, true, f.lists)
		}},
		{name: named("ConsistentList"), gates: g, run: func(t *testing.T) {
			f := newCacheFixture(t, cacheSetup())
			storagetesting.RunTestConsistentList(t.Context(), t, f.cached, f.increaseRevision, true, true, snapshots)
		}},
		{name: named("GetListNonRecursive"), gates: g, run: func(t *testing.T) {
			f := newCacheFixture(t, cacheSetup())
			storagetesting.RunTestGetListNonRecursive(t.Context(), t, f.increaseRevision, f.cached)
		}},
	}
}

// newBrittleCache is a cached store that fails to read objects while the
// returned function was last called with true.
func newBrittleCache(t *testing.T) (*cacheFixture, func(bool)) {
	t.Helper()
	s := cacheSetup()
	brittle := &brittleTransformer{Transformer: s.transformer}
	s.transformer = brittle
	return newCacheFixture(t, s), brittle.fail.Store
}
