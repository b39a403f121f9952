// Package apiserver runs a real kube-apiserver on kinsy and works on it with
// kubectl and plain HTTP, as a cluster would: objects, pages, watches, events
// that expire, compaction, and restarts of kinsy while writers and watches go
// on.
//
// TestAPIServer restarts kinsy on its data. TestEmptyDisk runs it with object
// storage in a folder and deletes its data each time: it is killed while a write
// counts once it is in object storage (quorum 0), with and without snapshots and
// deleted chunks, and ended by SIGTERM while its uploads wait (quorum -1).
//
// kube-apiserver and kubectl are built from k8s.io/kubernetes, by the module in
// ../build, into the user's cache folder. The first build takes minutes; every
// later run starts at once.
//
// The tests run on the default profile of kinsy. KINSY_APISERVER_STORE=etcd
// takes the etcd profile and KINSY_APISERVER_STORE=reference the etcd server,
// to see what kube-apiserver does there; that one has no object storage, so
// TestEmptyDisk is skipped.
package apiserver
