// Package s3snap keeps a log in object storage: chunks of rows that form a chain,
// snapshots, and the ways back from them to a log on disk.
//
// # Objects
//
//	cluster.json           the cluster's id and the base of its chain; created once
//	floor.json             chain positions up to `floor` are closed for good
//	chunks/ID              rows from ID (20 digits) on, contiguous; created once
//	snapshots/ID-NONCE.rows   all rows kept at ID
//	snapshots/ID.json      the manifest that names a snapshot; created once
//	bootstrap.snapshot     placed by an operator: a new cluster starts from it
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
