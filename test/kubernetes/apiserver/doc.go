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
// TestCluster runs three nodes, all named to kube-apiserver, and kills the Primary
// every 20 s by SIGKILL: three times, or as often as KINSY_APISERVER_KILLS says.
// Writers, watches of each node and of kube-apiserver, client-go informers and a
// leader election go on meanwhile. No acknowledged write is lost, every watch shows
// every change once and in order, informers and watch caches are as the store is, the
// leader keeps its lease, and requests fail only with codes that let a client try
// again (see retryable).
//
// kube-apiserver and kubectl are built from k8s.io/kubernetes, by the module in
// ../build, into the user's cache folder. The first build takes minutes; every
// later run starts at once.
//
// The tests run on the default profile of kinsy. KINSY_APISERVER_STORE=etcd
// takes the etcd profile and KINSY_APISERVER_STORE=reference the etcd server,
// to see what kube-apiserver does there; that one has no object storage, so
// TestEmptyDisk is skipped. TestCluster then runs on three of them.
package apiserver
