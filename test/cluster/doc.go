// Package cluster runs clusters of three kinsy processes, takes nodes, disks, the network and object storage away from them, and
// checks what kinsy has promised.
//
// # Method
//
// The test runs itself again in network namespaces of its own, which end with it: one for itself, the S3 server and the proxy in
// front of that (10 ms a request), and one for each node. The first routes between the others, and a cut is a rule of it that drops
// what goes from one address to another without a word: in one direction only, if it is to. Nodes use mutual TLS. Where the system
// gives no namespaces all is on loopback, and there are no cuts.
//
// In the namespaces each node of some tests has a file system of its own too, of 512 MiB on a sparse image, so that its disk can hang (fsfreeze)
// and be full (a file that takes all room). Whoever waits for a frozen file system cannot be killed: each freeze has a process
// that ends it when the tests do. Where nothing can be mounted, what needs a disk is left out.
//
// Clients, processes and checks are those of module test/harness, which says how they work. Every client and watcher knows one node
// only. What all of them were told, at whichever node, is compared with one history, and the nodes with each other.
//
// # Tests
//
//	start_test.go      three nodes start at once, join while others serve, lose power together; reads, watches, members at each
//	faults_test.go     minutes of everything that may happen (hardships_test.go) under load, with each rule of commits
//	                   disks_test.go: those of the nodes' disks
//	fulldisks_test.go  the disks of all nodes are full
//	failover_test.go   how long no write is acknowledged when the Primary is killed, stopped, cut off, or hands over;
//	                   writes while a Replica is frozen
//	deregister_test.go a node that is gone for longer than --deregister-after, and comes back
//	copies_test.go     copies of a disk: two at once, and an old one
//	elections_test.go  nobody is elected on a busy machine; the check of registers finds stale reads
//	network_test.go    the network; certs_test.go the certificates
//
// Variables:
//
//	KINSY_TEST_BINARY      a kinsy binary to use instead of building one
//	KINSY_CLUSTER_MINUTES  minutes of TestFaultsForMinutes, of all rules together, and at most 60 of TestFalseElections (1 and 0.5)
//	KINSY_CLUSTER_ROUNDS   how often TestFailover lets each thing happen (3); of fewer than 10 the median is judged, not p95
//	KINSY_CLUSTER_ONLY     only what has this in its name happens in TestFailover and TestFaultsForMinutes
//	KINSY_CLUSTER_SLOW     a machine that is slow or busy: times are only logged
//	KINSY_CLUSTER_KEEP     a folder to which the nodes' output goes, a file for each
//
// The flag -seed gives the random choices (else the time); a failure names it. What happens when depends on the machine too.
package cluster
