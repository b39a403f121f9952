// Package differential compares kinsy in the etcd profile with etcd itself.
//
// Random sequences of requests are generated from a seed and sent, one after another, to an etcd 3.7 server
// and to a kinsy server. Every response field, every error code and text, and every watch event must be equal.
// Normalised are only: cluster and member ids, the raft term, the remaining TTL of a lease (within two seconds),
// lease ids which the server chose, and the order where etcd itself answers in map order.
//
// Both servers are processes of their own, so that either may be killed and restarted in the middle of a
// sequence: etcd is the embedded server of go.etcd.io/etcd/server/v3, run by this test binary started a second
// time; kinsy is built from the repository.
//
// The sequences are split into rounds, each on two fresh servers, and rounds into batches, each on an empty key
// space. A round is the unit of replay: a difference names the seed of its round and the index of the operation,
//
//	go test -run TestSequences -seed=SEED -ops=INDEX+1
//
// runs the same operations again. The failing sequence is then cut down to a small one (-shrink=0 turns this
// off). Requests are concrete once generated; while shrinking, revisions keep their distance to the head.
//
// Flags, given after the package or `-args`:
//
//	-ops N         operations in all (16000)
//	-seed N        seed of the first round; later rounds count up from it (1)
//	-subject NAME  kinsy, or etcd to compare etcd with itself and so test the test (kinsy)
//	-hash WHICH    hashes of HashKV to compare: all, none, or computed, which leaves out those that etcd kept from
//	               its last compactions (computed)
//	-shrink DUR    how long to spend on shrinking (90s)
//
// KINSY_TEST_BINARY names a kinsy binary to use instead of building one.
//
// Not generated is what etcd 3.7 itself dies of; TestDeadlyTxns and TestDeadlyCompaction send it to kinsy alone. It is a
// put with ignore_value or ignore_lease on a key that the same Txn deleted before, and a Compact to exactly a revision
// whose Txn deleted a key and put it again: etcd then loses the key and dies when it is read.
package differential
