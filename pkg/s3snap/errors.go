package s3snap

import "errors"

// The errors of this package, matched with errors.Is.
var (
	// ErrFenced: another node has written where this one was to write, or is to; this
	// node is not the Primary any more, a single node never again in this process.
	ErrFenced = errors.New("fenced: another node writes to this prefix")
	// ErrOtherCluster: the log and the prefix belong to different clusters.
	ErrOtherCluster = errors.New("object storage belongs to another cluster")
	// ErrCorruptChain: an object under the prefix is damaged, or does not follow
	// the one before it.
	ErrCorruptChain = errors.New("object storage is corrupt")
	// ErrMissingRows: the log has let rows go that object storage does not have.
	ErrMissingRows = errors.New("rows are in neither the log nor object storage")
	// ErrNewerFormat: an object was written by a newer version of kinsy.
	ErrNewerFormat = errors.New("object was written by a newer version of kinsy")
	// ErrEncrypted: an object is encrypted, and there is no key file.
	ErrEncrypted = errors.New("object is encrypted")
	// ErrBootstrap: bootstrap.snapshot lies on a prefix that has a history already.
	ErrBootstrap = errors.New("prefix has a history already, bootstrap.snapshot is refused")
	// ErrNoHistory: the prefix holds no cluster, or nothing at the point asked for.
	ErrNoHistory = errors.New("no such history in object storage")
	// ErrExists: what is to be made exists already.
	ErrExists = errors.New("exists already")
	// ErrUnavailable: object storage does not answer.
	ErrUnavailable = errors.New("object storage does not answer")
	// ErrConflict: somebody else has changed an object first.
	ErrConflict = errors.New("somebody else was first")
	// ErrChanging: the last change of the voters is not done.
	ErrChanging = errors.New("another change of the voters is under way")
	// ErrCluster: the prefix belongs to the nodes of a cluster, one of which alone
	// must not go on with it.
	ErrCluster = errors.New("object storage belongs to a cluster of several nodes")
	// ErrReplaced: the log must be replaced by what object storage holds, which the
	// next OpenReplica does.
	ErrReplaced = errors.New("log must be replaced")
	// ErrResigned: this node is not the Primary, or not any more. Of rows that were
	// to be committed the outcome is unknown.
	ErrResigned = errors.New("this node is not the primary")
	// ErrStopped: the node is shutting down.
	ErrStopped = errors.New("stopped")

	// errMoved: retention deleted what was being read.
	errMoved = errors.New("chunk is gone")
)
