package storage

import (
	"fmt"
	"testing"

	"k8s.io/apiserver/pkg/features"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
)

// watchCases are the watch tests that need more than a store.
func watchCases() []storeCase {
	cases := []storeCase{
		{name: "WatchFromZero", run: func(t *testing.T) {
			f, _ := newStoreFixture(t)
			storagetesting.RunTestWatchFromZero(t.Context(), t, f.store, f.compact)
		}},
		{name: "WatchContextCancel", run: func(t *testing.T) {
			f, _ := newStoreFixture(t)
			storagetesting.RunTestWatchContextCancel(t.Context(), t, f.store)
		}},
		{name: "ProgressNotify", run: func(t *testing.T) {
			f := newProgressFixture(t)
			storagetesting.RunOptionalTestProgressNotify(t.Context(), t, f.store, f.increaseRevision)
		}},
		{name: "WatchDispatchBookmarkEvents", run: func(t *testing.T) {
			f := newProgressFixture(t)
			storagetesting.RunTestWatchDispatchBookmarkEvents(t.Context(), t, f.store, false)
		}},
		{name: "WatchWithUnsafeDelete", gates: unsafeDelete, run: func(t *testing.T) {
			_, tr := newStoreFixture(t)
			storagetesting.RunTestWatchWithUnsafeDelete(t.Context(), t, tr, corruptObject(t))
		}},
		onTransformable("WatchError", storagetesting.RunTestWatchError),
		onTransformable("WatchErrorIsBlockingFurtherEvents", storagetesting.RunWatchErrorIsBlockingFurtherEvents),
	}
	for _, stream := range []bool{false, true} {
		for _, concurrent := range []bool{false, true} {
			cases = append(cases, semanticsCases(stream, concurrent)...)
		}
	}
	return cases
}

// semanticsCases are the tests of watches that begin with a list, with
// RangeStream and with concurrent decoding of objects, or without.
func semanticsCases(stream, concurrent bool) []storeCase {
	g := gates{features.EtcdRangeStream: stream, features.ConcurrentWatchObjectDecode: concurrent}
	var cases []storeCase
	for _, name := range []string{"WatchSemantics", "WatchSemanticInitialEventsExtended", "WatchListMatchSingle"} {
		cases = append(cases, storeCase{
			name:  fmt.Sprintf("%s/RangeStream=%v,ConcurrentDecode=%v", name, stream, concurrent),
			gates: g,
			run: func(t *testing.T) {
				f, _ := newStoreFixture(t)
				plain[name](t.Context(), t, f.store)
			},
		})
	}
	return cases
}

func newProgressFixture(t *testing.T) *fixture {
	t.Helper()
	s, _ := storeSetup()
	s.progressInterval = progressInterval
	return newFixture(t, s)
}
