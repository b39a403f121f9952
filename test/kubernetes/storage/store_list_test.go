package storage

import (
	"fmt"
	"testing"

	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage/etcd3"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
)

// listCases are the list tests that need more than a store.
func listCases() []storeCase {
	cases := []storeCase{
		{name: "GetListNonRecursive", run: func(t *testing.T) {
			f, _ := newStoreFixture(t)
			storagetesting.RunTestGetListNonRecursive(t.Context(), t, f.increaseRevision, f.store)
		}},
		{name: "GetListWithErrorAggregation", gates: unsafeDelete, run: func(t *testing.T) {
			f, tr := newStoreFixture(t)
			tr.Interface = etcd3.NewStoreWithUnsafeCorruptObjectDeletion(f.store, pods)
			storagetesting.RunTestGetListWithErrorAggregation(t.Context(), t, tr, corruptObject(t))
		}},
		{name: "GetListWithoutErrorAggregation", gates: gates{features.AllowUnsafeMalformedObjectDeletion: false}, run: func(t *testing.T) {
			_, tr := newStoreFixture(t)
			storagetesting.RunTestGetListWithoutErrorAggregation(t.Context(), t, tr, corruptObject(t))
		}},
		{name: "CompactRevision", gates: gates{features.ListFromCacheSnapshot: true}, run: func(t *testing.T) {
			f, _ := newStoreFixture(t)
			storagetesting.RunTestCompactRevision(t.Context(), t, f.store, f.increaseRevision, f.compact)
		}},
		{name: "ListContinuation", gates: quietCompactor, run: func(t *testing.T) {
			f, tr := newStoreFixture(t)
			storagetesting.RunTestListContinuation(t.Context(), t, f.store, f.checkCalls(tr.original))
		}},
		{name: "ListPaginationRareObject", gates: quietCompactor, run: func(t *testing.T) {
			f, tr := newStoreFixture(t)
			storagetesting.RunTestListPaginationRareObject(t.Context(), t, f.store, f.checkCalls(tr.original))
		}},
		{name: "ListContinuationWithFilter", gates: quietCompactor, run: func(t *testing.T) {
			f, tr := newStoreFixture(t)
			storagetesting.RunTestListContinuationWithFilter(t.Context(), t, f.store, f.checkCalls(tr.original))
		}},
		{name: "ListInconsistentContinuation", run: func(t *testing.T) {
			f, _ := newStoreFixture(t)
			storagetesting.RunTestListInconsistentContinuation(t.Context(), t, f.store, f.compact)
		}},
		onTransformable("ListResourceVersionMatch", storagetesting.RunTestListResourceVersionMatch),
	}
	for _, on := range []bool{false, true} {
		cases = append(cases, listStreamCases(on)...)
		cases = append(cases, storeCase{name: fmt.Sprintf("Stats/Sizes=%v", on), run: func(t *testing.T) { runStats(t, on) }})
	}
	return cases
}

// quietCompactor keeps the compactor of kube-apiserver from reading its key,
// where the test counts reads.
var quietCompactor = gates{features.ListFromCacheSnapshot: false}

// listStreamCases are the list tests that run with RangeStream and without.
func listStreamCases(stream bool) []storeCase {
	g := gates{features.EtcdRangeStream: stream}
	return []storeCase{
		{name: fmt.Sprintf("List/RangeStream=%v", stream), gates: g, run: func(t *testing.T) {
			f, _ := newStoreFixture(t)
			storagetesting.RunTestList(t.Context(), t, f.store, f.compact, false, f.lists)
			if used := f.kv.GetStreamReadsAndReset() > 0; used != stream {
				t.Errorf("RangeStream used: %v, want %v", used, stream)
			}
		}},
		{name: fmt.Sprintf("ConsistentList/RangeStream=%v", stream), gates: g, run: func(t *testing.T) {
			f, _ := newStoreFixture(t)
			storagetesting.RunTestConsistentList(t.Context(), t, f.store, f.increaseRevision, false, true, false)
		}},
	}
}

func runStats(t *testing.T, sizes bool) {
	f, _ := newStoreFixture(t)
	if sizes {
		if err := f.store.EnableResourceSizeEstimation(f.keys); err != nil {
			t.Fatal(err)
		}
	}
	storagetesting.RunTestStats(t.Context(), t, f.store, f.setup.codec, f.setup.transformer, sizes)
}
