// Package harness is the module of what the tests with real processes share. Its packages:
//
//	build       the binaries: kinsy of this repository, versitygw
//	client      etcd clients, and limits of time
//	process     kinsy processes, and nodes: a data folder, addresses, and one process after the other
//	load        clients at work until they are told to stop
//	history     what a store tells of its keys: events, watches (Follower), content (State)
//	registers   clients that read and write a few keys; their histories are checked by porcupine
//	ledger      writers, and what they did, compared with the history
//	gateway     a real S3 server
//	faultproxy  what may happen between kinsy and that server
//
// Each imports only such as are above it, and nothing of kinsy itself: they see it as its clients do. What versitygw needs is in a
// module of its own, build/versitygw.
//
// # Method
//
// Every write that the tests send is unlike all others: its keys and values name the writer and count up. So each revision
// of the store's history belongs to one write, and the history, which a watch from the beginning tells, can be compared with
// what clients were told (ledger.Ledger), with what watchers saw before and after a fault (history.Follower), and with the keys
// that a Range shows (history.State). For a write without an answer both outcomes are right, half of it is not. Registers may
// be read and written beside that: their keys have a prefix that the ledger leaves out.
//
// A test may have several nodes (process.Node), and clients with one endpoint or several (client.Dial, client.DialEach). The
// clients of one ledger.Squad or registers.Crowd may go to different nodes; what several of them did is judged together
// (Ledger.Merge, registers.Judge). Ledger.Verify compares what several nodes tell.
package harness
