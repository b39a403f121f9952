package faults

import (
	"database/sql"
	"fmt"
	"io"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // registers the "sqlite" driver
)

// checkDatabase runs SQLite's integrity check on a copy of a database and the files beside it: opening the database itself
// would change what the store finds after a crash.
func checkDatabase(path, dir string) error {
	for _, suffix := range []string{"", "-wal"} {
		if err := copyFile(path+suffix, filepath.Join(dir, "copy.db"+suffix)); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("copy database: %w", err)
		}
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "copy.db"))
	if err != nil {
		return err
	}
	defer db.Close()
	var result string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&result); err != nil {
		return fmt.Errorf("check database: %w", err)
	}
	if result != "ok" {
		return fmt.Errorf("database is damaged: %s", result)
	}
	return nil
}

// countRows counts the puts and deletes in the database of a store that does not run.
func countRows(path string) (n int, err error) {
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		return 0, err
	}
	defer db.Close()
	return n, db.QueryRow("SELECT count(*) FROM log").Scan(&n)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}
