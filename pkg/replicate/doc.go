// Package replicate is the write path of the Primary: it brings Txns, leases and
// compactions into one order, makes them durable in groups, and publishes them.
// On a single node the commit rule is the local fsync, or, with quorum 0, a chunk
// in object storage; there is no other node to send rows to.
//
// # A write
//
//  1. evaluate: under Primary.mu the change is evaluated against the index plus
//     all that is pending, and its rows join the forming group. The mutex is the
//     one order of writes; there is no goroutine to hand over to, so that a
//     single client pays for no switch.
//  2. lead: whoever puts the first row into a group leads it. The leader waits
//     for the append before (appendMu), closes the group, and appends it. Others
//     wait for the group. While one group is in its fsync the next one forms.
//     Where commits take long, a group waits a little for the clients that were
//     just answered (see crowd).
//  3. archive: with quorum 0 the group goes up as one chunk, after its fsync, so
//     that a disk that fails does so before the chunk exists. A chunk that was
//     sent is never given up (package s3snap): the group stays pending until its
//     position is known to be taken. After some seconds of that, new writes are
//     refused; what is pending is committed when object storage answers again.
//  4. publish: the rows are durable; the committed revision moves, watchers are
//     told, then the waiting clients are answered.
//
// A Txn that wrote nothing, and an evaluation that failed, saw pending changes
// too: it is answered once the newest pending group is published. With quorum 0 it
// is confirmed like every other linearizable read: by a look at the chain, begun
// after it arrived, that finds nobody else's chunk.
//
// # A failed append
//
//	state     event                                   next
//	serving   append fails                            failed: the group and the forming one are rolled back, their clients get ErrNoSpace or ErrUnavailable
//	failed    write arrives                           refused with the same error; reads go on
//	failed    log recovered, head as committed        serving
//	failed    log recovered, head above committed     the rows nobody was told of are truncated; serving
//	failed    log recovered, head below committed     fatal: acknowledged rows are gone
//	serving   the row's position in the chain is another node's          fatal: this node is not the Primary any more
//	any       evaluation or commit panics             fatal: the index cannot be trusted; the forming group and all later writes are refused
//
// # Background work
//
// The reaper revokes leases that are due. The compactor compacts history that
// is older than the retention and, in the netsy profile, up to the revision that
// compact_rev_key names. The scrubber removes compacted rows in short steps and
// gives the space back.
package replicate
