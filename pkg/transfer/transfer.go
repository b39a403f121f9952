package transfer

import (
	"context"
	"crypto/sha256"
	"errors"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// The errors of this package. All are matched with errors.Is.
var (
	// ErrForeign: the file is not of the format it was read as.
	ErrForeign = errors.New("not a file of this format")
	// ErrDamaged: the file, or what a server sent, contradicts itself or its
	// checksum.
	ErrDamaged = errors.New("data is damaged")
	// ErrNewer: the file was written in a format that this version does not know.
	ErrNewer = errors.New("written in a newer format")
	// ErrAuth: the etcd database has authentication turned on, and kinsy has none.
	ErrAuth = errors.New("authentication is enabled in the etcd database")
	// ErrExists: the file to write is there already; it was not touched.
	ErrExists = errors.New("file exists")
	// ErrNotEmpty: the server to import into has keys; nothing was written.
	ErrNotEmpty = errors.New("the target has keys")
	// ErrLeaseTTL: the server does not tell the TTLs of its leases, and none was
	// given.
	ErrLeaseTTL = errors.New("the TTL of a lease is not known")
)

// Source is a history to export. Methods may block and are called from one
// goroutine. No row up to the head may be removed while an export runs.
type Source interface {
	// Scan calls fn with every row in (after, upTo], in order of id. The row and
	// its bytes are valid only during the call; fn's error ends the scan.
	Scan(ctx context.Context, after, upTo sqllog.ID, fn func(*sqllog.Row) error) error
	// Head names the newest row to export.
	Head() sqllog.Head
	// Compaction is what compact rows that are no longer there have said.
	Compaction() sqllog.Compaction
}

// Sink takes a history. Methods are called from one goroutine and may block.
type Sink interface {
	// Add takes rows in order of id. The rows and their bytes are valid only
	// during the call.
	Add(rows []sqllog.Row) error
	// Finish ends the history; head is at or above the last row. Only what was
	// finished counts.
	Finish(head sqllog.Head, c sqllog.Compaction) error
}

// keyScanner is a Source that can leave the values out.
type keyScanner interface {
	ScanKeys(ctx context.Context, after, upTo sqllog.ID, fn func(*sqllog.Row) error) error
}

var (
	_ Source     = (*sqllog.Log)(nil)
	_ keyScanner = (*sqllog.Log)(nil)
	_ Source     = View{}
	_ keyScanner = View{}
)

// View is a log that is in use, up to a committed row. To make one, hold removal
// first, then take the compaction, then the head: so no row is missing that the
// compaction does not account for.
type View struct {
	Log       *sqllog.Log
	At        sqllog.Head
	Compacted sqllog.Compaction
}

// Scan gives the rows of the log; see Source.
func (v View) Scan(ctx context.Context, after, upTo sqllog.ID, fn func(*sqllog.Row) error) error {
	return v.Log.Scan(ctx, after, upTo, fn)
}

// ScanKeys is Scan without the values.
func (v View) ScanKeys(ctx context.Context, after, upTo sqllog.ID, fn func(*sqllog.Row) error) error {
	return v.Log.ScanKeys(ctx, after, upTo, fn)
}

// Head is the committed row that the view ends with.
func (v View) Head() sqllog.Head { return v.At }

// Compaction is the compaction in force, or the last that was before the rows
// that are still in the log.
func (v View) Compaction() sqllog.Compaction { return v.Compacted }

// Summary says what was moved.
type Summary struct {
	// Revision is the newest revision of the history, CompactRevision the one
	// below which it is gone; 0: nothing is.
	Revision, CompactRevision sqllog.Revision
	// Keys is how many keys exist at Revision, Changes how many puts and deletes
	// were moved, Leases how many leases.
	Keys, Changes, Leases int64
	// Warnings are plain sentences about what was left out.
	Warnings []string
}

// keySum stands for a key where the key itself would take too much memory.
type keySum [16]byte

func sumKey(key []byte) keySum {
	sum := sha256.Sum256(key)
	return keySum(sum[:16])
}
