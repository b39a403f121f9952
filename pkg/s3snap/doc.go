// Package s3snap keeps a log in object storage: chunks of rows that form a chain,
// snapshots, and the ways back from them to a log on disk.
//
// # Objects
//
//	cluster.json           the cluster's id, the base of its chain, the newest epoch, who votes in it
//	floor.json             chain positions up to `floor` are closed for good
//	chunks/ID              rows from ID (20 digits) on, contiguous; created once
//	snapshots/ID-NONCE.rows   all rows kept at ID
//	snapshots/ID.json      the manifest that names a snapshot; created once
//	bootstrap.snapshot     placed by an operator: a new cluster starts from it
//	elector.json           who elects (a lock; nothing but progress depends on it)
//	members.json           ids that clients know the nodes by; none is ever changed
//	nodes/NAME.json        where a node is to be found
//
// # The chain
//
// A chunk's name is the id of its first row, its position; the next chunk's is
// the id after its last row. Chunks are created with If-None-Match, so each
// position has one owner, and the chain decides between two nodes that both
// believe to be the Primary. A Chain has one PUT in flight:
//
//	state      event                              next
//	idle       Append                             putting
//	putting    created                            idle, the end moves
//	putting    refused, the object is this PUT    idle, the end moves (its first answer was lost)
//	putting    refused, the object is another's   fenced
//	putting    created, but the floor is above    fenced (the writer slept for long; see below)
//	putting    no answer, or any other error      putting: the same bytes again, after a pause
//	any        a look finds another's chunk       fenced
//	fenced     anything                           fenced
//
// A PUT that was not answered may take effect at any later time, so it is never
// given up, and nothing follows it, until its position is known to be taken.
//
// Retention deletes old chunks and so would open their positions again to a
// writer that slept. It raises the floor first, and deletes only what is older
// than MinChunkAge by the store's own clock. A created chunk counts if less than
// a quarter of that has passed since the writer last saw the end of the chain,
// by a clock that runs during suspend, or if the floor, read after the PUT, is
// below its position.
//
// # Linearizable reads
//
// With quorum 0 a read is confirmed by a look, begun after the read arrived, at
// the position after the last one this node has written or is writing. If it is
// empty, and the PUT in flight (if any) turns out to be created, nobody else had
// committed anything when the look was made. Reads that arrive together share a
// look.
//
// # Start
//
//	local log    chain                                  what happens
//	none         none                                   a new log, a new chain with base 0
//	none         none, bootstrap.snapshot               the log is loaded from it, the chain begins after it
//	none         some                                   newest snapshot and the chunks after it are loaded
//	some         none                                   the chain begins: with the log's rows as chunks if it has all of them, else with a snapshot of it as base
//	some         of another cluster                     refused
//	some         ends in it                             goes on
//	some         goes on beyond it                      the missing rows are downloaded
//	some         ends before it                         the rows are uploaded
//	some         another row at the same id             the rows from there on are set aside in a file, then as above
//	some         begins after it, or cannot be cut      the file is set aside, then as for none
//
// Then, with quorum 0, and wherever rows were taken from the chain (a file beside
// the log notes that, for a start that is cut off), the node becomes Primary of the
// next epoch: it uploads what is not there yet, then writes its epoch row as a
// chunk at the chain's next position, and appends that row locally when the chunk
// exists. If the position was taken by rows of a lower epoch it reads them and
// tries the next; an epoch that is not lower ends the attempt. An older Primary
// finds its next position taken, and is fenced.
//
// Where the commit rule is local a store that does not answer keeps nobody from
// starting with an intact log: the node attaches to the chain when it answers,
// and stops if the chain then has rows that it does not.
//
// # Clusters
//
// cluster.json is one object, so that who raises the epoch reads the voters and the
// commit rule in the same compare-and-swap, and who changes the voters does so in
// the epoch that it believes in (Control). A raise puts a new rule in force and
// keeps the old one beside it until a Primary has written its epoch row (Settle).
// The voters change by one, and not again before that change is done. Each change
// carries a nonce of its own: it tells a change whose answer was lost from one that
// was not made, and no content comes twice, so that a request which arrives late
// finds another version. A prefix without voters is a single node's; the first node
// of a cluster that finds it votes alone. A single node stays away from a prefix on
// which others vote, since they may hold rows that count and are not in the chain.
//
// A node of a cluster is in one of these states:
//
//	state      event                                       next
//	replica    OpenReplica                                 replica
//	replica    CatchUp: the chain's rows are taken over    replica
//	replica    Lead(e): the epoch row's chunk is created   primary of e
//	replica    Lead(e): rows of e or above are met         replica (ErrFenced)
//	replica    the log cannot be brought to the chain      closed (ErrReplaced; the next start replaces it)
//	primary    the position is taken, or an epoch above e  primary that is deposed (OnDeposed): it writes nothing
//	           is asked for while chunks commit
//	primary    Resign                                      replica; a PUT in flight may still be told
//
// Lead promises e in the log first, then does what the table of starts says, and
// then writes the epoch row; rows come into the log under that promise only. All
// chunks of a term are written by one uploader, in the order of the log: committed
// rows when they are due, and rows up to an id at once where UploadNow or Commit
// asks for them, so there is one PUT in flight. A PUT that was in flight at Resign is
// sent until its position is known to be taken, and given up by the next Lead,
// CatchUp or Close: from then on it is as the PUT of a process that has died.
//
// Rows that the chain does not have yet must not be removed from any log of the
// cluster: each of them may have to upload them. A Replica is told by its Primary
// what is uploaded (UploadedElsewhere).
//
// A log without rows is kept, for its disk may be the only voter. A log that is
// replaced gets another disk's identity, since what the old one has promised and
// received is forgotten. Where it was the only voter the new one takes its place, in
// a higher epoch. A log that has seen an epoch above 1 begins no cluster on an empty
// prefix: it has been given the wrong one.
//
// # What a takeover asks of object storage
//
// All clients wait for a new Primary, so what does not depend on an answer does not
// wait for it. One after the other there are, as a rule:
//
//	election      elector.json is read, and cluster.json beside it; the lock is
//	              taken; the epoch is raised
//	hand-over     the epoch is raised
//	then, Lead    1 cluster.json, bootstrap.snapshot, floor.json, the names of
//	                snapshots and of chunks near the log's head
//	              2 the newest snapshot's manifest, the newest chunk
//	              3 each chunk of rows that the chain lacks, if any
//	              4 the epoch row's chunk
//
// What goes together, and why it may:
//
//   - The lock and the epoch are changed from what is known of their objects, be it
//     by a read or by a write of this node. A compare-and-swap says whether that is
//     what is there; if not, it is read.
//   - cluster.json beside the chain: the epoch was raised before Lead was called,
//     and that is the order that matters. Here the file only says whether the prefix
//     is this cluster's, and the chain's base, which never changes. It is judged
//     first, and if it is refused nothing is done with the rest.
//   - The names of chunks beside the rest: what is read of the chain's end may be old
//     when it is used, in whatever order. The epoch row's chunk is created after what
//     was read or not at all, and if the position is taken all is read again [15, 16].
//   - The floor beside the names of chunks: a chunk above a floor that was read later
//     was created while its position was open. One that was read earlier, as a start
//     used to, leaves MinChunkAge between the two.
//   - The floor beside the names of snapshots: names that were read later have a
//     snapshot at the floor or above. If they were read earlier and have none, floor
//     and names are read again in this order.
//   - The newest chunk beside the manifest: it counts only if it turns out to be above
//     the snapshot, or above the chain's start where there is none.
//   - The clock that says since when the end was in sight is read before all of it
//     [12].
//
// These stay in order: the promise, under which the log stands still, before
// anything is read; the names of chunks before a chunk; what the chain lacks, one
// PUT at a time [9], before the epoch row [16]; its chunk before its row in the log
// [17]. TestTripsOfATakeover and TestTripsOfAnElection count.
//
// # Snapshots
//
// A snapshot at ID is made from the log while removal is held, at the end of the
// chain, so that it is at a chunk boundary and above every compact row whose
// garbage was removed (removal waits until that row is uploaded). It is streamed
// up, read back and verified, and only then named by its manifest. Retention
// keeps the newest ones, those inside the retention time and one before it;
// chunks go when the oldest kept snapshot covers them.
//
// A node takes a snapshot at a pace: after each step of a few milliseconds, of the
// scan and of the reading back, it rests three times as long as the step took. So
// writes have the machine and the disk, and a snapshot takes four times as long as
// it could. No lock is held in a rest, a stop ends it, and removal alone waits.
// What somebody waits for goes at full speed: restores, commands, and what a start
// does before it serves.
package s3snap
