// Package transfer moves histories between kinsy and etcd 3.7 and compares what both say of them.
//
// A random history (puts, deletes of keys and ranges, Txns of many keys, leases granted, revoked and moved, compactions)
// is given to one server, and carried to the other by every way there is:
//
//	etcd   snapshot of a running member, or its database file   pkg/transfer        kinsy
//	etcd   Client.Fetch, by Snapshot and key by key             pkg/transfer        kinsy
//	kinsy  pkg/transfer, or `etcdctl snapshot save`             etcdutl restore     etcd
//	kinsy  JSON lines                                           pkg/transfer        kinsy
//
// Then both must give the same HashKV at every revision that is kept, the same leases and the same events of a watch
// from the compacted revision on. Revisions are those of the source; leases keep id and granted TTL.
//
// etcd is the embedded server; etcdctl and etcdutl are built from their modules; kinsy runs in the test's process on the
// packages themselves. Flags, given after the package or `-args`:
//
//	-histories N   random histories in each direction (6)
//	-changes N     changes in each (300)
//	-seed N        seed of the first; later ones count up from it (1)
package transfer
