// Package sqllog is kinsy's log: a contiguous sequence of rows in a SQL
// database, the only durable state of a Node.
//
// # Tables
//
//	log(id PRIMARY KEY, epoch, revision, sub, kind, key, value,
//	    create_revision, prev_revision, version, lease, written_at)
//	meta(name PRIMARY KEY, value)
//
// A row is never changed once it is written. What the columns hold depends on
// the kind:
//
//	put      revision, sub (position among the changes of its revision), key,
//	         value, create_revision, prev_revision (the modification revision
//	         of the value it replaces, 0 for none), version, lease
//	delete   revision, sub, key, prev_revision
//	lease    lease; version is the granted TTL in seconds, 0 when the lease is
//	         gone
//	compact  create_revision is the revision compacted to; value names the keys
//	         deleted at exactly that revision (see Compaction)
//
// meta holds the schema version, the cluster and node ids, the newest
// compaction, the promise and the head (see below). A log of another cluster than Config says
// is refused.
//
// # Order of calls
//
// Append is durable when it returns: journal_mode=WAL with synchronous=FULL,
// set on every connection through the data source name, since a PRAGMA run on a
// pool reaches one connection only; Open refuses where SQLite does not obey. One
// connection writes; a small pool reads and never blocks it. Rows are appended
// in groups, one transaction and one fsync each. A third kind of connection
// moves the write-ahead log into the file, outside the commit path.
//
// The driver's connections are used directly: database/sql took longer over a
// row than SQLite. A scan reads a page of rows into memory, ends its transaction
// and only then calls its function, so that no reader, however slow, keeps the
// write-ahead log from being started over.
//
// # Promise
//
// A promise of an epoch is the word of this log that it takes nothing of a lower
// one any more: meta entry `promise`, 8 bytes, big endian; absent until the first.
// Promise gives it, AppendIn and TruncateIn check it in the transaction in which
// they write, and raise it there: it is never below the epoch of a row that the
// log holds, nor of one that it held once. Append and Truncate, for a log that has
// one writer only, do not look at it, and keep it that high all the same. States
// of a log with promise p, in the order of its writes:
//
//	Promise(e), e > p            p = e, durable before the head is told
//	AppendIn(e), TruncateIn(e)   e >= p: p = e in the same transaction
//	any, e < p                   ErrPromised, nothing written
//
// So the head that Promise(e) tells is the last that a Primary below e has reached
// here, whatever of its rows is still on the way. In SQLite one connection
// writes, under one lock, and the promise is kept in memory beside it, so that the
// check costs nothing and the entry is written only when it changes. In a database
// that others write to as well the check must be part of the transaction's SQL.
//
// # Failures
//
//	ErrFull     nothing was written; the log goes on once there is space
//	ErrIO       the outcome is unknown; of Append, Truncate and Promise so are the
//	            head and the promise, and no write is taken until Recover has
//	            settled it by a durable write of its own
//	ErrCorrupt  the file is damaged; Salvage says what is readable
//
// # Head
//
// The head is the (id, epoch, revision) of the newest row ever appended. It is
// the last row of the table, or, where compaction has removed that row, the
// entry `removed_head` of meta, or, after a truncation to a row that compaction
// had removed, the entry `head`. `removed_head` names the newest row that
// compaction has removed, and is written in the transaction that removes it: the
// log cannot be truncated below it. So no id and no revision is used twice, even
// when the table is empty. An epoch of 0 in `removed_head` says that the row is
// known by its id only.
//
// # Compaction
//
// Remove deletes committed rows that no reader needs any more, the compact row
// itself among them: what that row said is recorded as meta entry `compaction`
// in the same transaction. So the compaction in force is the newest compact row,
// or the meta entry where there is none. Remove is called with ids in ascending
// order: then a delete row outlives the put rows before it, and a crash between
// two calls never resurrects a key.
//
// A reader that needs two scans to agree, such as one that takes a snapshot,
// keeps Remove waiting by HoldRemoval; under a hold the rows up to a head, that
// head and Compaction are one state.
//
// # Loading
//
// A Loader makes a log of rows that were made elsewhere, with holes where rows
// were removed. It is in one of these states:
//
//	loading    PATH.loading is being written; nothing in it is durable
//	synced     it is whole and durable
//	finished   it was renamed to PATH
//
// A process or machine that stops leaves PATH.loading, which the next Loader
// removes, or the log. Loaded rows are as appended ones, and those that are
// missing as removed ones: the log cannot be truncated below the newest of them,
// and goes on from the head that Finish was given.
//
// # Invariants
//
//  1. ids are contiguous from 1: Append refuses anything but head+1.
//  2. epoch and revision never decrease along the ids.
//  3. the changes of one revision are appended by one call, in order of sub: all
//     or none.
//  4. what Append has acknowledged survives a crash of process and machine.
//  5. the promise never goes back, and is at least the epoch of every row.
package sqllog
