// Package storage runs the storage tests of Kubernetes on kinsy.
//
// k8s.io/apiserver/pkg/storage/testing exports the functions that say what
// kube-apiserver expects of a store. Its own packages run them on an embedded
// etcd; here they run on a server in a process of its own, which every case
// gets fresh: TestStore drives etcd3.New directly, TestCache has the watch
// cache of kube-apiserver in between.
//
// TestProfiles runs both in a child process per API profile of kinsy and
// compares the names of all passed tests, down to the last subtest, with
// testdata/passes.txt. That list was recorded on etcd 3.7.3: a test that fails,
// is skipped or disappears breaks the run. To record it again:
//
//	go test ./storage -run TestReference -reference -rewrite
//
// One case alone, on the store named by the variable (netsy, etcd or
// reference):
//
//	KINSY_STORAGE_TARGET=netsy go test ./storage -v -run TestStore/ListPaging
package storage
