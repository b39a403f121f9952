// Package faults runs kinsy as a process of its own, does to it what machines, disks and operators do, and checks what it
// has promised.
//
// The clients, the processes and the checks are those of module test/harness, which also says how they work: what clients and
// watchers were told is compared with the store's history.
//
// # Tests
//
//	crash_test.go         kill -9 and power failure under load, in rounds on one store
//	linearizable_test.go  histories of reads and writes over kill -9, checked by porcupine
//	diskfull_test.go      a full disk
//	ioerror_test.go       writes that fail for a while, a disk that is gone, deleted files
//	corrupt_test.go       damaged database files and write-ahead logs
//	shutdown_test.go      SIGTERM under load and while loading; a second process
//	lease_test.go         leases over kill -9
//	txn_test.go           Txns that fail half-way
//
// Power failure is an ext4 file system on an image file, shut down without a flush: what kinsy had not synced is lost. It and
// the full disk need the right to mount; the tests are skipped where there is none. A kinsy with synchronous=OFF fails the
// first, and passes the rounds of kill -9, since the kernel outlives the process.
//
// Flags, given after the package:
//
//	-rounds N    rounds of the crash test (KINSY_FAULT_ROUNDS, else 10); the power failures are a quarter of that, at least 3
//	-seed N      seed of the random choices (the time); the moments of kills depend on the machine too
//	-load DUR    longest time of writing before a kill (250ms)
//
// KINSY_TEST_BINARY names a kinsy binary to use instead of building one.
package faults
