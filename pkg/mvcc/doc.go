// Package mvcc is the index over the log: every key's revisions since the last
// compaction, in memory, and what the etcd API does with them: Range, Txn
// evaluation, leases, watchers, compaction. It holds no value that the bounded
// cache does not want; others are fetched from the log by id.
//
// # Shape
//
//	tree      ordered map: key -> entry
//	entry     one key: its newest record
//	record    one change of one key, linked to the change before it
//	history   all committed records since the compacted revision, in order
//
// # Pending and committed
//
// Evaluate changes the index at once, before the rows are durable: records are
// put in front of their entries, at revisions above the committed one. Readers
// always read at a revision, at most the committed one, and walk past what is
// newer. So to publish a group is to store one number, and to roll one back is
// to unlink its records, newest first. The order of calls for each group is
//
//	Evaluate... (under Store.mu)  ->  log.Append  ->  Publish | Rollback
//
// Groups are published in the order they were evaluated; a rollback takes all
// that were evaluated after the last published one.
//
// # Replicas
//
// The index of a Replica takes the committed rows of its Primary by Apply, which
// does to the index what evaluating them did there, and publishes them:
//
//	log.Append  ->  (committed)  ->  Apply
//
// So what a Replica shows follows from the rows alone; but for when its leases end
// and how far its Scrub is, it is what the Primary shows. Each row is compared with
// what it replaces: an index that has come to differ says so (ErrDiverged) rather
// than differ further. Rows of the log that may not be committed are not in the
// index (Config.Head). A Replica becomes Primary by Lead, once it has applied the
// last row of its log; a Primary becomes Replica by Rollback of what is pending.
// Nothing is pending while Apply or Lead is called. Epochs tells which Primary
// wrote which rows.
//
// # Compaction
//
// A published compact row raises the compacted revision; readers below it are
// refused from then on. Scrub then waits until readers that began before have
// left (see pins), unlinks what no revision can see any more, in short steps
// under Store.mu, and yields the ids of the rows to remove from the log. What
// is garbage follows from the history alone: the record before each record up
// to the compacted revision, and each delete among them. Nothing else is looked
// at, so that the cost depends on the changes since the last compaction, not on
// the number of keys.
//
// # Watches
//
// A watcher is in step (its events come from the dispatcher, which matches each
// committed record against an index of key ranges, once) or behind (its stream
// reads the history from the watcher's next revision). The states:
//
//	created, start > committed or 0    -> in step
//	created, start <= committed        -> behind
//	in step, its queue is full         -> behind, from the first record left out
//	behind, next > dispatched          -> in step (checked under hub.mu)
//	behind, next < compacted           -> canceled with compact_revision
//	any, client cancels                -> canceled
//
// Every step keeps the invariant that all events below next, and none from next
// on, were handed to the stream, so that nothing is lost or repeated.
//
// # Locks
//
// Store.mu, then treeMu, then lessor.mu; hub.mu, then WatchStream.mu. No lock of
// one list is taken while one of the other is held. Under history.mu,
// scrubState.mu and cache.mu no other lock is taken.
package mvcc
