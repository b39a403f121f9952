// Package transfer moves a history of keys into and out of kinsy: etcd database
// files, JSON lines, a running etcd by its API.
//
// # History
//
// What is moved is a stream of sqllog rows in order of id, the head and the
// compaction. A Source gives it (a log, or a View of one that is in use); a Sink
// takes it (a sqllog loader for a new log, or a Pusher for a running server).
//
//	Source -> WriteEtcdDB, WriteJSON
//	ReadEtcdDB, ReadJSON, Client.Fetch -> Sink
//
// Rows that a reader makes have ids from 1 without holes and epoch 1: first one
// lease row per lease, then the changes in order of revision and position. They
// are stamped with the time of the import. PrevRevision is exact where the
// change before is in the input or follows from the version; it is 0 where
// compaction has taken it. Where compaction has taken the newest change of all,
// the head is one id above the last row.
//
// What a writer leaves out: lease rows of leases that are gone, compact, epoch
// and member rows, and what the compaction in force has made unreachable,
// whether or not it was removed already. Deletes at the compacted revision are
// written even where their rows are gone, since a watch may start there.
//
// # etcd database file
//
// A bbolt file with etcd's buckets; key, lease and meta carry data:
//
//	key    8 bytes revision, '_', 8 bytes sub (big endian), 't' for a delete
//	       -> mvccpb.KeyValue
//	lease  8 bytes id (big endian) -> leasepb.Lease
//	meta   scheduledCompactRev, finishedCompactRev, consistent_index, term,
//	       storageVersion
//
// followed, in what `etcdctl snapshot save` and WriteEtcdDB make, by the SHA-256
// of all before it: the size is then 32 modulo 512. A file is read without bbolt,
// page by page with every bound checked, because bbolt maps a file into memory
// and trusts it: a damaged one can end the process. Keys, revisions, positions,
// values, versions and leases go through unchanged, so that HashKV is the same
// on both sides. The time that a lease has left does not: it starts anew, as it
// does when kinsy restarts. Alarms are dropped with a warning. Users and roles
// are dropped with a warning where authentication is off; where it is on, the
// file is refused with ErrAuth unless ReadOptions.DropAuth is set, because every
// client could then read what was protected.
//
// # JSON lines
//
// One object a line, none nested, in this order: the header, leases, changes in
// order of revision.
//
//	{"format":"kinsy-json-1","revision":9,"compact_revision":5,"history":true,"lines":3}
//	{"lease":"694d77aa9e2c2701","ttl":60}
//	{"key":"a","value":"1","create_revision":3,"mod_revision":7,"version":2,"lease":"694d77aa9e2c2701"}
//	{"key":"b","deleted":true,"mod_revision":8,"sub":1}
//
// Without history there is one line per key that exists, and compact_revision is
// the revision. Keys and values that are not UTF-8 are in key_base64 and
// value_base64 instead. lease is the id in hexadecimal, ttl is in seconds. sub,
// the position among the changes of a revision, is left out where it is 0. lines
// is the number of lines after the header; WriteJSON writes it, ReadJSON checks
// it if it is there. The reader is strict: unknown or repeated fields, numbers
// that are not integers, text that is not UTF-8, a line above MaxLine and
// anything out of order are errors that name the line.
//
// # A running server
//
// Client.Fetch takes the server's own database file (Maintenance Snapshot) where
// it may. Else it reads every key at one revision: the values and revisions of
// that moment, compacted at it. Positions within a revision are then not known,
// and are given in order of key.
//
// Pusher writes through the API: keys get new revisions there.
//
// # Bounds
//
// Rows are streamed. What stays in memory is one entry of about 50 bytes per key
// (16 bytes of its SHA-256 and a number) and the leases.
package transfer
