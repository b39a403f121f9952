package sqllog

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	sq "github.com/Masterminds/squirrel"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	busyTimeout  = 10 * time.Second
	cacheKiB     = 8 << 10   // page cache of one connection
	walSizeLimit = 128 << 20 // bytes the WAL file may keep after it was reset
	pageSize     = 4096      // SQLite's default, in bytes
)

// sqliteSize gives the pages of the file, those of them that are free, and their
// size in bytes.
const sqliteSize = "SELECT c.page_count, f.freelist_count, s.page_size " +
	"FROM pragma_page_count() c, pragma_freelist_count() f, pragma_page_size() s"

// sqliteDSN names the database file with the settings that every connection
// must have. The settings stand in the data source name, so that no connection
// can be without them.
func sqliteDSN(cfg Config, mode string, params ...string) string {
	q := url.Values{}
	q.Set("mode", mode)
	if layer := cmp.Or(cfg.vfs, fileLayer()); layer != "" {
		q.Set("vfs", layer)
	}
	for i := 0; i+1 < len(params); i += 2 {
		q.Add(params[i], params[i+1])
	}
	u := url.URL{Scheme: "file", Path: cfg.Path, RawQuery: q.Encode()}
	return u.String()
}

// sqliteWriterDSN is for a connection that writes. Only one that creates the file
// may: a file that has vanished must not come back empty.
func sqliteWriterDSN(cfg Config, create bool) string {
	params := writerParams(busyTimeout)
	if !create {
		return sqliteDSN(cfg, "rw", params...)
	}
	// Before the first page is written is the one time at which this takes effect.
	return sqliteDSN(cfg, "rwc", append(params, "_auto_vacuum", "incremental")...)
}

// sqliteLoaderDSN is for a file that a Loader makes: nobody else looks at it, and
// it is thrown away unless it is finished, so that nothing has to be undone and
// nothing is durable before the end.
func sqliteLoaderDSN(cfg Config) string {
	return sqliteDSN(cfg, "rw", "_auto_vacuum", "incremental",
		"_pragma", "journal_mode(OFF)",
		"_pragma", "synchronous(OFF)",
		"_pragma", "locking_mode(EXCLUSIVE)",
		"_pragma", fmt.Sprintf("cache_size(-%d)", cacheKiB))
}

// sqliteCheckpointDSN is for the checkpointer, which waits no longer than wait
// for readers.
func sqliteCheckpointDSN(cfg Config, wait time.Duration) string {
	return sqliteDSN(cfg, "rw", writerParams(wait)...)
}

func writerParams(busy time.Duration) []string {
	return []string{
		"_busy_timeout", fmt.Sprint(busy.Milliseconds()),
		"_pragma", "journal_mode(WAL)",
		"_pragma", "synchronous(FULL)",
		"_pragma", "wal_autocheckpoint(0)", // the checkpointer does it, outside the commit path
		"_pragma", fmt.Sprintf("journal_size_limit(%d)", walSizeLimit),
		"_pragma", fmt.Sprintf("cache_size(-%d)", cacheKiB),
		"_pragma", "cell_size_check(1)", // finds more of a damaged page
	}
}

func sqliteReaderDSN(cfg Config) string {
	return sqliteDSN(cfg, "rw",
		"_busy_timeout", fmt.Sprint(busyTimeout.Milliseconds()),
		"_pragma", "synchronous(FULL)",
		"_pragma", "wal_autocheckpoint(0)",
		"_pragma", fmt.Sprintf("cache_size(-%d)", cacheKiB),
		"_pragma", "cell_size_check(1)", // finds more of a damaged page
		"_query_only", "1")
}

// sqliteLookDSN is for a file that must not change. SQLite makes a shared-memory
// file beside a database in WAL mode even to read it, unless it is told that
// nobody writes: that is so where there is no journal to read.
func sqliteLookDSN(cfg Config, params ...string) string {
	params = append(params, "_busy_timeout", fmt.Sprint(busyTimeout.Milliseconds()), "_query_only", "1")
	if fileSize(cfg.Path+"-wal") <= 0 && fileSize(cfg.Path+"-journal") <= 0 {
		params = append(params, "immutable", "1")
	}
	return sqliteDSN(cfg, "ro", params...)
}

// fileSize is the size of a file in bytes, -1 where there is none.
func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return -1
	}
	return info.Size()
}

func newSQLiteDialect() (*dialect, error) {
	return newDialect("sqlite", sq.Question, classifySQLite)
}

// classifySQLite puts the sentinel of this package in front of the driver's
// error.
func classifySQLite(err error) error {
	switch sqliteCode(err) {
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w: %w", ErrFull, err)
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY:
		return fmt.Errorf("%w: %w", ErrIO, err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// sqliteCode is the primary result code of a driver's error, SQLITE_OK for any
// other.
func sqliteCode(err error) int {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return sqlite3.SQLITE_OK
	}
	return e.Code() & 0xff
}

// openConn opens one connection outside any pool.
func openConn(dsn string, classify func(error) error) (*conn, error) {
	c, err := (&sqlite.Driver{}).Open(dsn)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", classify(err))
	}
	return &conn{Conn: c, classify: classify}, nil
}

// openSQLite opens a connection of the log and proves that it has the settings
// that make a commit durable: SQLite passes over a PRAGMA that it cannot obey.
func openSQLite(dsn string, classify func(error) error) (*conn, error) {
	c, err := openConn(dsn, classify)
	if err != nil {
		return nil, err
	}
	for _, s := range []struct{ name, want string }{{"journal_mode", "wal"}, {"synchronous", "2"}} {
		row, err := c.pragma(s.name)
		if err == nil && (len(row) != 1 || fmt.Sprint(row[0]) != s.want) {
			err = fmt.Errorf("%s is %v, not %s: the file system may not support it", s.name, row, s.want)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("set up connection: %w", err), c.Close())
		}
	}
	return c, nil
}

// syncDir makes the creation of a file in its folder durable.
func syncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("open data folder: %w", err)
	}
	if err := dir.Sync(); err != nil {
		return errors.Join(fmt.Errorf("sync data folder: %w", err), dir.Close())
	}
	return dir.Close()
}
