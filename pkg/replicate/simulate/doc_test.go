// Package simulate drives the cores of a cluster (elect.Core, and Tracker, Follower
// and History of pkg/replicate, with a Candidacy that stands for s3snap's Lead) through random schedules, in virtual time
// and without goroutines: a seed is a schedule, and replays.
//
//	world      time, events, what is random          profile   what a schedule is like
//	node       a disk, and a process on it or none   faults    what goes wrong, and what operators do
//	disk       promise and rows; transactions        hasty     elections that nobody needs
//	store      object storage, the chain             truth     what is committed, acknowledged, read
//	net        messages and streams
//
// A process does what the runtime of pkg/replicate does, with the same calls:
// candidate, reign (the Primary) and session (a Replica's stream) are its roles, read
// and house what goes on beside them.
//
// truth complains when a committed row is contradicted or missing from a later
// Primary, when two processes acknowledge rows of one epoch, when a node shows what is
// not committed, when a log is cut below what it shows, when a stream begins at a row
// that is not common, when a linearizable read misses what was acknowledged or read
// before it began, and when a cluster in which nothing fails any more does not accept
// a write and bring it to all nodes within ten seconds.
//
// With the build tag kinsysim TestSimulationFindsBrokenRules breaks each rule of
// internal/rules alone, and the simulation must complain.
package simulate
