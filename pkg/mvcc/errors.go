package mvcc

import "errors"

// The errors of this package, matched with errors.Is. Their texts are the inner
// texts of etcd's, since clients see them as cancel reasons.
var (
	// ErrCompacted: the revision asked for is below the compacted one.
	ErrCompacted = errors.New("mvcc: required revision has been compacted")
	// ErrFutureRevision: the revision asked for is above the current one.
	ErrFutureRevision = errors.New("mvcc: required revision is a future revision")
	// ErrKeyNotFound: ignore_value or ignore_lease on a key that does not exist.
	ErrKeyNotFound = errors.New("etcdserver: key not found")
	// ErrLeaseNotFound: the lease does not exist, or no longer.
	ErrLeaseNotFound = errors.New("lease not found")
	// ErrLeaseExists: a lease of the id asked for exists.
	ErrLeaseExists = errors.New("lease already exists")
	// ErrLeaseTTLTooLarge: the TTL is above MaxLeaseTTL.
	ErrLeaseTTLTooLarge = errors.New("too large lease TTL")
	// ErrWatchIDInUse: the client chose the id of another watch of the stream.
	ErrWatchIDInUse = errors.New("mvcc: duplicate watch ID provided on the WatchStream")
	// ErrEmptyWatchRange: the end of a watched range is not above its key.
	ErrEmptyWatchRange = errors.New("mvcc: watcher range is empty")
	// ErrWatchNotFound: no watch of this id is on the stream.
	ErrWatchNotFound = errors.New("mvcc: watcher does not exist")
	// ErrDiverged: rows of another node contradict the index; nothing has changed.
	ErrDiverged = errors.New("mvcc: rows contradict the index")
	// ErrPending: rows were evaluated and neither published nor rolled back.
	ErrPending = errors.New("mvcc: evaluated rows are pending")
	// ErrClosed: the store or the watch stream was closed.
	ErrClosed = errors.New("mvcc: closed")
)
