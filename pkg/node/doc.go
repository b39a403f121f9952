// Package node is one kinsy node built from a Config: the embedding API, and what the command line runs.
//
// Start brings the parts up in this order, and Close takes them down in the reverse of it:
//
//  1. the lock of the data folder, so that no second process opens the same log;
//  2. the metrics listener: /livez answers, /readyz says that the node is loading;
//  3. the engine: the log is opened and the index is built from it;
//  4. the client listeners: gRPC and REST are served, and /readyz turns to 200.
//
// A node that fails by itself (the engine stopped, a listener broke) closes Done and keeps the reason in Err; it goes on
// answering /livez and /readyz until it is closed.
//
// # Data folder
//
//	kinsy.db     the log (SQLite), with its -wal and -shm files beside it
//	kinsy.lock   held by flock(2) while a process uses the folder; its text names that process
//
// With Endpoint sqlite://PATH the log is PATH and the data folder is the folder of PATH.
//
// # TLS
//
// One certificate serves every listener. The files are looked at again at a handshake, at most once a second, and read
// when they have changed; files that do not load leave the certificate in force as it was.
package node
