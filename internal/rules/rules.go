// Package rules numbers the rules of the replication protocol, and lets the
// simulator break them one at a time to prove that it would find out.
//
// A shipped binary cannot break any: only the build tag kinsysim compiles the
// switch in.
package rules

// Rule is one of the numbered rules. Their numbers are those of the model's traces.
type Rule int

// The rules. Each name says what holds.
const (
	PromiseBeforeAnswer    Rule = 1  // a promise is durable before an audit is answered
	PromiseCoversRows      Rule = 2  // a promise is never below the epoch of a row held
	PromiseCheckedInAppend Rule = 3  // the promise is checked in the transaction that appends
	DeposedStops           Rule = 4  // a Primary that promised a higher epoch stops at once
	OldEpochsRefused       Rule = 5  // frames and receipts of older epochs are refused
	ReceiptAfterSync       Rule = 6  // receipts follow the fsync
	CommittedFromStream    Rule = 7  // Committed is believed only when heard on the stream
	CommittedWithinLog     Rule = 8  // Committed never exceeds the node's own durable rows
	OnePutInFlight         Rule = 9  // a chunk is created only when the one before is known to exist
	RefusedPutIsRead       Rule = 10 // a refused PUT is answered by reading the object
	SnapshotWithinChain    Rule = 11 // no snapshot beyond the chain's end
	FloorBeforeDeletion    Rule = 12 // retention raises the floor before it deletes
	EnoughAnswers          Rule = 13 // enough members answer the audit
	NewestLogLeads         Rule = 14 // the highest (epoch, id) is appointed
	ChainReadToEnd         Rule = 15 // a candidate reads the chain to its end
	FenceAfterBacklog      Rule = 16 // the rest is uploaded, then the epoch row is a chunk
	EpochRowAfterChunk     Rule = 17 // the epoch row is local only after its chunk exists
	HigherEpochEnds        Rule = 18 // an epoch >= its own in the chain ends a candidacy
	NothingBeforeFence     Rule = 19 // no writes, reads, streams or receipts before the fence
	PingAfterArrival       Rule = 20 // a read is confirmed by a ping sent after it arrived
	OneChangeAtATime       Rule = 21 // one change of membership at a time
	ChangeDoneWhenUsed     Rule = 22 // a change is done when a row is committed under it
	DiskIdentity           Rule = 23 // an empty disk is a new voter
)

// Count is how many rules there are.
const Count = 23
