// Package apiserver runs a real kube-apiserver on kinsy and works on it with
// kubectl and plain HTTP, as a cluster would: objects, pages, watches, events
// that expire, compaction, and restarts of kinsy while writers and watches go
// on.
//
// kube-apiserver and kubectl are built from k8s.io/kubernetes, by the module in
// ../build, into the user's cache folder. The first build takes minutes; every
// later run starts at once.
//
// The test runs on the default profile of kinsy. KINSY_APISERVER_STORE=etcd
// takes the etcd profile and KINSY_APISERVER_STORE=reference the etcd server,
// to see what kube-apiserver does there.
package apiserver
