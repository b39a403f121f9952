package sqllog

import (
	"context"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

//go:embed migrations
var migrationFiles embed.FS

type migration struct {
	version int
	text    string
}

// migrations lists the numbered files of one dialect in order. Their numbers
// are contiguous from 1.
func migrations(dialect string) ([]migration, error) {
	files, err := fs.Glob(migrationFiles, "migrations/"+dialect+"/*.sql")
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	var list []migration
	for i, file := range files {
		text, err := migrationFiles.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read migration: %w", err)
		}
		number, _, _ := strings.Cut(path.Base(file), "_")
		version, err := strconv.Atoi(number)
		if err != nil || version != i+1 {
			return nil, fmt.Errorf("migration %s is out of sequence", path.Base(file))
		}
		list = append(list, migration{version: version, text: string(text)})
	}
	return list, nil
}

// migrate brings the database up to date, each step in a transaction that also
// records it.
func (w *writer) migrate(d *dialect, steps []migration) error {
	for _, m := range steps {
		if err := w.applyMigration(d, m); err != nil {
			return fmt.Errorf("migrate log to version %d: %w", m.version, err)
		}
	}
	return nil
}

func (w *writer) applyMigration(d *dialect, m migration) error {
	return w.tx(func() error {
		ex, ok := w.Conn.(driver.ExecerContext)
		if !ok {
			return errors.New("driver cannot run scripts")
		}
		if _, err := ex.ExecContext(context.Background(), m.text, nil); err != nil {
			return w.classify(err)
		}
		args := []driver.NamedValue{
			{Ordinal: 1, Value: metaSchemaVersion},
			{Ordinal: 2, Value: []byte(strconv.Itoa(m.version))},
		}
		if _, err := ex.ExecContext(context.Background(), d.setMeta.text, args); err != nil {
			return w.classify(err)
		}
		return nil
	})
}
