// Package s3 runs kinsy as a process of its own on a real S3 server, takes its disk away, and lets the network and the store
// misbehave, and checks what kinsy has promised.
//
// # Method
//
// A world is versitygw (test/harness/gateway) behind a proxy that makes faults (test/harness/faultproxy), and a prefix of its
// own in the bucket. The clients, the processes and the checks are those of module test/harness too, which also says how they
// work: what clients and watchers were told is compared with the store's history. At the end the chain itself is read, without
// kinsy: its chunks must follow each other.
//
// # Tests
//
//	conformance_test.go  the suite of pkg/s3snap/object on the server, plain and encrypted; a store that ignores conditions
//	faults_test.go       minutes of faults, outages, kill -9 and lost disks under load
//	crash_test.go        rounds of kill -9 or SIGTERM, each with an empty disk
//	twonodes_test.go     two processes on one prefix
//	speed_test.go        throughput and latency with 25 ms a request; writers_test.go has its clients
//	outage_test.go       starts while the store is down
//	upload_test.go       upload beside the local commit rule; a local log that disagrees with the chain
//	retention_test.go    snapshots, and what may be deleted then
//	snapshot_test.go     writes beside snapshots of a large log
//	restore_test.go      a million rows
//	encryption_test.go   client-side encryption and the rotation of keys
//	checks_test.go       the checks of /readyz and of the chain themselves: they find faults when there are some
//
// Variables:
//
//	KINSY_TEST_BINARY  a kinsy binary to use instead of building one
//	KINSY_S3_MINUTES   minutes of TestFaultsForMinutes (1)
//	KINSY_S3_ROUNDS    rounds of TestEmptyDiskCrashes (50)
//	KINSY_S3_HELD_ROWS rows of TestSnapshotHoldsUpNoWrite (200000); its time is in proportion, so that the writes in a snapshot are too
//	KINSY_S3_SLOW      a machine that is slow or busy: throughput and the times of writes beside snapshots are only logged, and the
//	                   restore may take longer
//
// Tests that wait for faults and processes most of the time run beside each other; those that measure speed run alone before.
//
// The flag -seed gives the random choices (else the time); a failure names it. The moments of kills depend on the machine too.
package s3
