package sqllog

import (
	"context"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"

	sqlite3 "modernc.org/sqlite/lib"
)

const (
	smallestPage = 512 // bytes
	// newFilePages is more than a file has whose creation was cut short.
	newFilePages = 16
)

// probeSQLite looks at an existing file without changing it: is it a log, of a
// version this program knows and of the cluster that cfg names? It returns
// version 0 where there is no log yet: the file is absent or empty, or its
// creation was cut short.
func probeSQLite(cfg Config, newest int) (version int, err error) {
	size, wal := fileSize(cfg.Path), fileSize(cfg.Path+"-wal")
	switch {
	case size <= 0 && wal > 0:
		return 0, fmt.Errorf("%w: the file is absent or empty, but its write-ahead log has %d bytes", ErrCorrupt, wal)
	case size <= 0:
		return 0, nil
	case size < smallestPage: // SQLite takes it for empty
		return 0, fmt.Errorf("%w: the file has only %d bytes", ErrCorrupt, size)
	}
	c, err := openConn(sqliteLookDSN(cfg), classifySQLite)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	tables, err := tableNames(c)
	switch {
	case err != nil:
		return 0, err
	case len(tables) == 0 && size > newFilePages*pageSize:
		return 0, fmt.Errorf("%w: the file has %d bytes and no table", ErrCorrupt, size)
	case len(tables) == 0:
		return 0, nil
	case tables["kine"]:
		return 0, fmt.Errorf("%w: it is a kine database; it was not touched", ErrForeign)
	case !tables["log"] || !tables["meta"]:
		return 0, fmt.Errorf("%w: it has other tables; it was not touched", ErrForeign)
	}
	if version, err = readVersion(c); err != nil {
		return 0, err
	}
	if version > newest {
		return 0, fmt.Errorf("%w: its version is %d, this program knows up to %d", ErrNewer, version, newest)
	}
	return version, checkCluster(c, cfg.Cluster)
}

func tableNames(c *conn) (_ map[string]bool, err error) {
	s, err := c.prepare("SELECT name FROM sqlite_master WHERE type = 'table'", 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	names := map[string]bool{}
	err = s.each(context.Background(), func(row []driver.Value) (bool, error) {
		name, ok := row[0].(string)
		if !ok {
			return false, fmt.Errorf("%w: a table's name is a %T", ErrCorrupt, row[0])
		}
		names[name] = true
		return true, nil
	})
	return names, err
}

// readVersion gives the schema version that the meta table records.
func readVersion(c *conn) (int, error) {
	value, err := probeMeta(c, metaSchemaVersion)
	if err != nil {
		return 0, fmt.Errorf("read schema version: %w", err)
	}
	return parseVersion(value)
}

// checkCluster refuses a log of another cluster. One whose identity was not yet
// written belongs to none.
func checkCluster(c *conn, want uint64) error {
	if want == 0 {
		return nil
	}
	value, err := probeMeta(c, metaClusterID)
	if err != nil {
		return fmt.Errorf("read cluster id: %w", err)
	}
	if value == nil {
		return nil
	}
	if err := checkID(value); err != nil {
		return fmt.Errorf("meta entry %s: %w", metaClusterID, err)
	}
	if is := binary.BigEndian.Uint64(value); is != want {
		return fmt.Errorf("%w: %016x, not %016x; it was not touched", ErrOtherCluster, is, want)
	}
	return nil
}

// probeMeta gives an entry of meta, nil if there is none.
func probeMeta(c *conn, name string) (_ []byte, err error) {
	s, err := c.prepare("SELECT value FROM meta WHERE name = ?", 1)
	if sqliteCode(err) == sqlite3.SQLITE_ERROR {
		return nil, fmt.Errorf("%w: its table meta has other columns; it was not touched", ErrForeign)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return metaValue(s.bind(name).first())
}
