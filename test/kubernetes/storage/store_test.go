package storage

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
)

// progressInterval is what the cases that wait for a bookmark ask of the
// server; the default would be longer than they wait.
const progressInterval = time.Second

// plain are the functions of the storage tests that need a store and nothing
// else.
var plain = map[string]func(context.Context, *testing.T, storage.Interface){
	"CreateWithTTL":                             storagetesting.RunTestCreateWithTTL,
	"CreateWithKeyExist":                        storagetesting.RunTestCreateWithKeyExist,
	"Get":                                       storagetesting.RunTestGet,
	"UnconditionalDelete":                       storagetesting.RunTestUnconditionalDelete,
	"ConditionalDelete":                         storagetesting.RunTestConditionalDelete,
	"DeleteWithSuggestion":                      storagetesting.RunTestDeleteWithSuggestion,
	"DeleteWithSuggestionAndConflict":           storagetesting.RunTestDeleteWithSuggestionAndConflict,
	"DeleteWithConflict":                        storagetesting.RunTestDeleteWithConflict,
	"DeleteWithSuggestionOfDeletedObject":       storagetesting.RunTestDeleteWithSuggestionOfDeletedObject,
	"ValidateDeletionWithSuggestion":            storagetesting.RunTestValidateDeletionWithSuggestion,
	"ValidateDeletionWithOnlySuggestionValid":   storagetesting.RunTestValidateDeletionWithOnlySuggestionValid,
	"PreconditionalDeleteWithSuggestion":        storagetesting.RunTestPreconditionalDeleteWithSuggestion,
	"PreconditionalDeleteWithOnlySuggestion":    storagetesting.RunTestPreconditionalDeleteWithOnlySuggestionPass,
	"GetListRecursivePrefix":                    storagetesting.RunTestGetListRecursivePrefix,
	"GuaranteedUpdateWithTTL":                   storagetesting.RunTestGuaranteedUpdateWithTTL,
	"GuaranteedUpdateWithConflict":              storagetesting.RunTestGuaranteedUpdateWithConflict,
	"GuaranteedUpdateWithSuggestionAndConflict": storagetesting.RunTestGuaranteedUpdateWithSuggestionAndConflict,
	"ListPaging":                                storagetesting.RunTestListPaging,
	"NamespaceScopedList":                       storagetesting.RunTestNamespaceScopedList,
	"KeySchema":                                 storagetesting.RunTestKeySchema,
	"Watch":                                     storagetesting.RunTestWatch,
	"ClusterScopedWatch":                        storagetesting.RunTestClusterScopedWatch,
	"NamespaceScopedWatch":                      storagetesting.RunTestNamespaceScopedWatch,
	"DeleteTriggerWatch":                        storagetesting.RunTestDeleteTriggerWatch,
	"WatchFromNonZero":                          storagetesting.RunTestWatchFromNonZero,
	"DelayedWatchDelivery":                      storagetesting.RunTestDelayedWatchDelivery,
	"WatcherTimeout":                            storagetesting.RunTestWatcherTimeout,
	"WatchDeleteEventObjectHaveLatestRV":        storagetesting.RunTestWatchDeleteEventObjectHaveLatestRV,
	"WatchInitializationSignal":                 storagetesting.RunTestWatchInitializationSignal,
	"SendInitialEventsBackwardCompatibility":    storagetesting.RunSendInitialEventsBackwardCompatibility,
	"WatchSemantics":                            storagetesting.RunWatchSemantics,
	"WatchSemanticInitialEventsExtended":        storagetesting.RunWatchSemanticInitialEventsExtended,
	"WatchListMatchSingle":                      storagetesting.RunWatchListMatchSingle,
}

// storeCase is a storage test with its feature gates.
type storeCase struct {
	name  string
	gates gates
	run   func(*testing.T)
}

// TestStore runs the storage tests on the store of kube-apiserver, without the
// watch cache.
func TestStore(t *testing.T) {
	target(t)
	for _, name := range slices.Sorted(maps.Keys(plain)) {
		t.Run(name, func(t *testing.T) {
			f, _ := newStoreFixture(t)
			plain[name](t.Context(), t, f.store)
		})
	}
	groups := [][]storeCase{objectCases, listCases(), watchCases()}
	for _, group := range groups {
		for _, c := range group {
			t.Run(c.name, func(t *testing.T) {
				c.gates.set(t)
				c.run(t)
			})
		}
	}
}

func newStoreFixture(t *testing.T) (*fixture, transformable) {
	t.Helper()
	s, tr := storeSetup()
	f := newFixture(t, s)
	tr.Interface = f.store
	return f, tr
}

// onTransformable is a case for the functions that replace the transformer.
func onTransformable(name string, run func(context.Context, *testing.T, storagetesting.InterfaceWithPrefixTransformer)) storeCase {
	return storeCase{name: name, run: func(t *testing.T) {
		_, tr := newStoreFixture(t)
		run(t.Context(), t, tr)
	}}
}

var unsafeDelete = gates{features.AllowUnsafeMalformedObjectDeletion: true}

// objectCases are the tests of single objects that need more than a store.
var objectCases = []storeCase{
	{name: "Create", run: func(t *testing.T) {
		f, _ := newStoreFixture(t)
		storagetesting.RunTestCreate(t.Context(), t, f.store, f.checkStored)
	}},
	{name: "GuaranteedUpdate", run: func(t *testing.T) {
		f, tr := newStoreFixture(t)
		storagetesting.RunTestGuaranteedUpdate(t.Context(), t, tr, f.checkStored)
	}},
	onTransformable("GuaranteedUpdateChecksStoredData", storagetesting.RunTestGuaranteedUpdateChecksStoredData),
	onTransformable("TransformationFailure", storagetesting.RunTestTransformationFailure),
	{name: "DeleteWithConflictAndMissingExpectedDecodeError", gates: unsafeDelete, run: func(t *testing.T) {
		f, fail := newBrittleCodecFixture(t)
		storagetesting.RunTestDeleteWithConflictAndMissingExpectedTransformOrDecodeError(t.Context(), t, f.store, fail)
	}},
	{name: "DeleteExpectedTransformError", gates: unsafeDelete, run: func(t *testing.T) {
		s, tr := storeSetup()
		brittle := &brittleTransformer{Transformer: tr.original}
		s.transformer = brittle
		f := newFixture(t, s)
		storagetesting.RunTestDeleteExpectedTransformOrDecodeError(t.Context(), t, f.store, brittle.fail.Store)
	}},
	{name: "DeleteExpectedDecodeError", gates: unsafeDelete, run: func(t *testing.T) {
		f, fail := newBrittleCodecFixture(t)
		storagetesting.RunTestDeleteExpectedTransformOrDecodeError(t.Context(), t, f.store, fail)
	}},
	{name: "DeleteWithSuggestionAndMissingExpectedError", gates: unsafeDelete, run: func(t *testing.T) {
		f, _ := newStoreFixture(t)
		storagetesting.RunTestDeleteWithSuggestionAndMissingExpectedTransformOrDecodeError(t.Context(), t, f.store)
	}},
}

// newBrittleCodecFixture is a fixture whose codec fails while the returned
// function was last called with true.
func newBrittleCodecFixture(t *testing.T) (*fixture, func(bool)) {
	t.Helper()
	etcd3.TestOnlySetFatalOnDecodeError(t, false)
	s, _ := storeSetup()
	brittle := &brittleCodec{Codec: s.codec}
	s.codec = brittle
	return newFixture(t, s), brittle.fail.Store
}
