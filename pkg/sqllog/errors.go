package sqllog

import "errors"

// The errors of this package. All are matched with errors.Is.
var (
	// ErrGap: the rows do not follow the head; nothing was written.
	ErrGap = errors.New("rows do not follow the log's head")
	// ErrInvalidRow: a row breaks an invariant; nothing was written.
	ErrInvalidRow = errors.New("invalid row")
	// ErrCorrupt: the file, or a row in it, is not what was written.
	ErrCorrupt = errors.New("log is corrupt")
	// ErrFull: the disk, or a quota on it, is full; nothing was written.
	ErrFull = errors.New("disk is full")
	// ErrIO: the operating system reported an I/O error. Whether a group that
	// failed so is on disk is known only after Recover.
	ErrIO = errors.New("disk I/O error")
	// ErrNewer: the log was written by a newer version; it was not touched.
	ErrNewer = errors.New("log was written by a newer version of kinsy")
	// ErrForeign: the file is a database of something else; it was not touched.
	ErrForeign = errors.New("database does not belong to kinsy")
	// ErrOtherCluster: the log belongs to another cluster than Config says; it was
	// not touched.
	ErrOtherCluster = errors.New("log belongs to another cluster")
	// ErrPromised: a higher epoch is promised; nothing was written.
	ErrPromised = errors.New("a higher epoch is promised")
	// ErrMissing: a row that was asked for by id is not in the log.
	ErrMissing = errors.New("row is not in the log")
	// ErrClosed: the log was closed.
	ErrClosed = errors.New("log is closed")
)
