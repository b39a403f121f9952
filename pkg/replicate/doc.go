// Package replicate brings Txns, leases and compactions into one order, makes them
// durable in groups, and publishes them: that is the Primary. In a cluster it also
// brings the rows to the other nodes and decides by their receipts what is committed:
// that is the Member, which is a Replica, a Candidate or the Primary, as package
// elect has it.
//
// # A write on a single node
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
// # A write in a cluster
//
//	client   any node: checked, then forwarded to the Primary (once: a write that was
//	         sent is never sent again), which evaluates it as above
//	Primary  the group's leader adds it to the streams, then appends it to the log in
//	         the epoch (AppendIn); the next group is closed meanwhile
//	Replica  appends the frames that have come, as one group, then sends a receipt
//	Primary  Tracker: own log and receipts, or a chunk, commit -> publish, in order,
//	         -> answer; every frame tells what is committed, and where none comes within
//	         a millisecond, or a Replica waits to hear it, one without rows does
//	Replica  applies committed rows to its index, and answers a forwarded write once
//	         it has applied it
//
// The index of a Replica holds committed rows only; those above are in its log. So a
// log that is cut off never takes back what was shown. What is committed is recorded
// in the log with an append every 50 ms: a start shows no more than that until it hears
// more.
//
// Rows that wait longer than the receipts' patience, or for which too few members are
// there, go up as a chunk at once: a created chunk commits them. If an append fails, but
// for want of room, or a higher epoch is promised, the node is no Primary any more: Replicas may have
// the rows, so no others may get their ids in this epoch. What is pending fails with
// ErrDeposed (its outcome is unknown), and goes out of the index.
//
// # A full disk in a cluster, and one that hangs
//
// A write that finds no room has written nothing: the Primary need not stop for it. It
// keeps the group, since Replicas may have it, and appends just these rows once there is
// room (stall.go).
//
//	state     event                                       next
//	serving   append finds no room                        stalled: who waits for the group hears that nobody knows
//	stalled   write arrives                               refused with ErrNoSpace; reads, and the groups before, go on
//	stalled   enough other voters hold the group          hand-over: it is their proof that they have room
//	stalled   one does, and its vote is needed with this  the same, if this log takes a small write: a promise
//	          node's
//	stalled   the append finds room (tried each second)   serving, in the same epoch
//	serving   a write of the disk gives no answer for     hand-over, likewise; it is a Replica until the disk
//	          twice the suspicion time                    answers, which may be late
//
// A node whose disk takes no rows tells everybody (room.go, and package elect): it is
// not counted on for commits, nor made a voter or Primary, keeps its vote, and is
// degraded. A Replica tries again when its stream is opened again, each second at least;
// who has nothing to append tries a small write, so that it elects again.
//
// # Follow
//
//	Replica  Open{promised epoch, last row}            the epoch was promised before
//	Primary  Opened{epoch, last common row}            by its History of epochs, in one round
//	Replica  cuts its log to it, never below what is committed
//	Primary  frames from memory, else from the log; a hole that compaction has left
//	         there ends the stream: the Replica gets the rows from the chain
//	Replica  receipts, cumulative, after each fsync
//
// A Replica believes Committed only on the stream, after its log was cut, and up to
// what it holds durably. The Primary waits for nobody: a stream that is behind reads
// from its own position. A stream ends with the role of either side.
//
// # Roles
//
//	idle      no Primary is heard of
//	follow    one stream after the other, from the log's own end
//	reign     Archive.Lead (read the chain, upload, write the epoch row as a chunk, then
//	          locally), then Primary, until a StepDown
//
// One role runs at a time; the next one begins when everything of the one before is
// undone. A StepDown takes effect before that: it ends commits by receipts at once,
// and the log refuses the epoch.
//
// # Reads in a cluster
//
// The Primary confirms a linearizable read by a round of heartbeats that began after
// it arrived, or, where too few answer, by a look at the chain. A Replica asks the
// Primary up to where it has acknowledged rows, confirmed likewise, and answers when
// it has applied that, and when the Primary's word covers all that its index shows.
// Reads that wait together share a question.
//
// # Membership
//
// membership.go has its table. A node that follows and has caught up becomes a voter;
// one whose disk is lost, or that is gone for long, is taken away if the others can do
// without. One change at a time: in cluster.json, at the Primary's epoch, then a member
// row that the new voters' receipts commit.
//
// # Locks
//
// control.mu, then quorum.mu. Primary.appendMu, then quorum.publishMu, then Primary.mu,
// then quorum.mu, which has nothing under it. followers.mu, leader.mu, the applier's and the
// threshold's are leaves, but that the applier's is held while rows are applied.
//
// # Background work
//
// The reaper revokes leases that are due. The compactor compacts history that
// is older than the retention and, in the netsy profile, up to the revision that
// compact_rev_key names. The scrubber removes compacted rows in short steps and
// gives the space back.
package replicate
