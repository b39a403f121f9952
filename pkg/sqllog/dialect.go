package sqllog

import (
	"fmt"
	"math"

	sq "github.com/Masterminds/squirrel"
)

// Sizes of the statements that are built once, when the log is opened.
var (
	// insertSizes in rows: a group is written with as few statements as these
	// allow.
	insertSizes = [...]int{32, 8, 1}
	// idSizes in ids of a lookup or a delete: a list takes the smallest that
	// holds it.
	idSizes = [...]int{1, 8, 64}
)

const maxIDs = 64 // the largest of idSizes

var logColumns = []string{"id", "epoch", "revision", "sub", "kind", "key", "value",
	"create_revision", "prev_revision", "version", "lease", "written_at"}

// keyColumns are logColumns with the length of the value in place of it.
var keyColumns = []string{"id", "epoch", "revision", "sub", "kind", "key", "length(value)",
	"create_revision", "prev_revision", "version", "lease", "written_at"}

// statement is the text of a statement and how many arguments it takes.
type statement struct {
	text   string
	params int
}

// dialect is what differs between databases: the text of the statements, and
// the meaning of the driver's errors.
type dialect struct {
	name     string
	insert   [len(insertSizes)]statement
	scan     statement // after id, up to id, limit -> logColumns
	scanKeys statement // the same -> keyColumns
	scanBack statement // before id, after id, limit -> logColumns, from the end
	values   [len(idSizes)]statement
	remove   [len(idSizes)]statement
	truncate statement // after id
	lastUpTo statement // up to id -> id, epoch, revision of the last row
	count    statement
	getMeta  statement // name -> value
	setMeta  statement // name, value
	classify func(error) error
}

// newDialect builds the statements with the given placeholder format.
func newDialect(name string, ph sq.PlaceholderFormat, classify func(error) error) (*dialect, error) {
	b := sq.StatementBuilder.PlaceholderFormat(ph)
	d := &dialect{name: name, classify: classify}
	type built struct {
		into *statement
		stmt sq.Sqlizer
	}
	list := []built{
		{&d.scan, scanStatement(b, logColumns)},
		{&d.scanKeys, scanStatement(b, keyColumns)},
		{&d.scanBack, b.Select(logColumns...).From("log").Where("id < ? AND id > ?", 0, 0).
			OrderBy("id DESC").Suffix("LIMIT ?", 0)},
		{&d.truncate, b.Delete("log").Where("id > ?", 0)},
		{&d.lastUpTo, b.Select("id", "epoch", "revision").From("log").
			Where("id <= ?", 0).OrderBy("id DESC").Limit(1)},
		{&d.count, b.Select("count(*)").From("log")},
		{&d.getMeta, b.Select("value").From("meta").Where("name = ?", "")},
		{&d.setMeta, b.Insert("meta").Columns("name", "value").Values("", "").
			Suffix("ON CONFLICT (name) DO UPDATE SET value = excluded.value")},
	}
	for i, n := range insertSizes {
		list = append(list, built{&d.insert[i], insertStatement(b, n)})
	}
	for i, n := range idSizes {
		in := sq.Eq{"id": make([]int64, n)}
		list = append(list,
			built{&d.values[i], b.Select("id", "value").From("log").Where(in).OrderBy("id")},
			built{&d.remove[i], b.Delete("log").Where(in)})
	}
	for _, s := range list {
		text, args, err := s.stmt.ToSql()
		if err != nil {
			return nil, fmt.Errorf("build statements for %s: %w", name, err)
		}
		*s.into = statement{text: text, params: len(args)}
	}
	return d, nil
}

func scanStatement(b sq.StatementBuilderType, columns []string) sq.Sqlizer {
	return b.Select(columns...).From("log").Where("id > ? AND id <= ?", 0, 0).OrderBy("id").Suffix("LIMIT ?", 0)
}

func insertStatement(b sq.StatementBuilderType, rows int) sq.Sqlizer {
	ins := b.Insert("log").Columns(logColumns...)
	for range rows {
		ins = ins.Values(make([]any, len(logColumns))...)
	}
	return ins
}

// idStatement chooses the statement for the next ids of a list: the index into
// idSizes, and how many ids it takes.
func idStatement(ids int) (index, n int) {
	for i, size := range idSizes {
		if ids <= size {
			return i, ids
		}
	}
	return len(idSizes) - 1, maxIDs
}

// maxID bounds ids, epochs and revisions: what is above it was never written.
const maxID = math.MaxInt64 / 2
