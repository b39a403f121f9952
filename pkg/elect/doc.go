// Package elect decides who is the Primary. Core is its pure part: promises,
// appointments, heartbeats, suspicion, elections and the confirmation of reads, as
// a state machine without goroutine, clock, disk or socket. Package replicate runs
// it, and moves the rows.
//
// Numbers in brackets are the rules of the design, which were model-checked;
// internal/rules lists them, and the simulator (pkg/replicate/simulate) breaks each
// to prove that it matters.
//
// # What safety rests on
//
// Nothing here depends on a clock, or on there being one Elector. An epoch is safe
// because of three things only:
//
//  1. A node that has promised an epoch takes no row of a lower one: the log checks
//     the promise in the transaction that appends [1, 2, 3].
//  2. The members that were audited for an epoch share one with every set of
//     members that could commit a row of an older one [13], and the one with the
//     newest log becomes Primary [14].
//  3. The chunk chain has one owner for each position. A Primary's epoch row is a
//     chunk in it, written after it was read to its end, before anything else is
//     done in the epoch [15 to 19].
//
// Time-outs, the Elector's lock and the questions before an election decide only
// how soon there is a Primary.
//
// # Objects
//
//	cluster.json   epoch, nonce, commit rule, voters. The epoch is raised, and the
//	               voters are read, by one compare-and-swap; only the Primary of the
//	               epoch in it changes the voters. So an election never audits
//	               members that are more than one change away from those who
//	               committed: the older Primary's next change is refused [21, 22].
//	elector.json   who elects. It keeps two from getting into each other's way.
//
// # Messages
//
//	Heartbeat, HeartbeatAck   Primary (or Candidate) to all; carries rounds of reads
//	Ask, Answer               a node that suspects: do you hear the Primary?
//	Audit, AuditAnswer        Elector to all members: promise this epoch, where does
//	                          your log end?
//	Appoint, AppointAnswer    Elector to one member: become Primary
//
// They may be lost, repeated, delayed and reordered. Those of an epoch are sent
// again every heartbeat until they are answered. One below the receiver's promise
// is refused by an answer that names it [5]: a Primary that is refused for longer
// than the suspicion time has an election held, since that node cannot follow it.
//
// A node that asks, and is told of a Primary that it does not hear, sends that one a
// HeartbeatAck. It says which epoch the node has promised, and that it is there: the
// Primary may not have heard of a change of members that the node has read of, since
// its answer was lost and it took effect late. It answers such a one, which is of no
// round, with a Heartbeat, once.
//
// # Roles
//
//	state      event                                     next
//	Replica    start of the process                      Replica: it was whatever it was [18]
//	Replica    Appoint of an epoch not below its promise, never tried before: promise, then   Candidate: Lead
//	Candidate  Led, ok                                   Primary: heartbeats
//	Candidate  Led, not ok                               Replica
//	any        a promise of a higher epoch is asked for  Replica: StepDown before the promise [4]
//	any        heartbeat of a higher epoch               Replica: StepDown, promise, Follow
//	any        the chain holds another's row             Replica: StepDown
//
// # Promises
//
// One Promise effect is under way at a time. What waits for it, audits, an
// appointment, the beginning of Follow, waits in the Core and is done when Promised
// says that it is durable; an audit is answered with the end of the log as it was
// read after that. If it fails nobody is answered.
//
// # An election
//
//	watching    the Primary was silent for longer than the suspicion time -> ask all
//	asking      a majority hears none -> take the lock (at once: nobody waits for it to expire)
//	            one hears a Primary, or is the Elector -> wait a little, then watch
//	            too few answer, and nobody has to agree (quorum 0) -> take the lock if it has expired
//	locking     taken -> raise the epoch; else back off at random
//	raising     raised by this very process (nonce) -> audit
//	auditing    enough members have promised, and the others had half a heartbeat's
//	            time -> appoint the one with the newest log; a refusal -> back off
//	appointing  accepted -> watch; the Candidate's heartbeats are heard
//
// # A full disk
//
// A node whose log has no room for rows, or whose disk gives no answer (SetFull), says
// so in HeartbeatAck and AuditAnswer.
//
//	event                             what it changes
//	no Primary is heard               it holds no election: whoever has room does, or nobody could write
//	an Audit                          it promises and answers, if there is room for that
//	its promise found no room         its Ask answers stop until there is room: an election would wait for it in vain
//	enough others have answered       one of them is appointed, as if it had not answered
//	too few others have               the newest log is appointed, whosever it is [14]; of equal ones one with room
//	it is the Primary                 it remains, or hands over (package replicate)
//
// Whom an Elector leaves out might as well have been cut off from it, so that this
// changes who is Primary, and nothing that safety rests on. Nor is the word believed
// for longer than a message: a node that has room again says so in the next one.
//
// A Candidate is waited for ten times the suspicion time. A Primary that hands over
// begins at locking. Of an epoch one node is appointed, once; an Elector that fails
// raises it again.
//
// A node that did not run for a while (SIGSTOP, a suspended machine) counts that
// time as silence of its own, not of the Primary.
//
// # Reads
//
// A linearizable read waits for a round of heartbeats that began after it arrived
// [20]: enough members, this one included, have answered it without a promise
// above its epoch. Reads that arrive together share a round, and the next round
// begins when the one before is confirmed.
package elect
