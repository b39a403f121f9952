package sqllog

import (
	"errors"
	"fmt"
)

// writer is the one connection that changes the database, with its prepared
// statements. It is not safe for concurrent use: Log.mu guards it.
type writer struct {
	*conn
	begin, commit, rollback *stmt
	inserts                 [len(insertSizes)]*stmt
	removes                 [len(idSizes)]*stmt
	truncate                *stmt
	last, getMeta, setMeta  *stmt

	// The newest values of columns that often repeat from row to row.
	epoch, revision, writtenAt boxed
}

// openWriter opens the writer; create lets it create the file.
func openWriter(cfg Config, d *dialect, create bool) (*writer, error) {
	c, err := openSQLite(sqliteWriterDSN(cfg, create), d.classify)
	if err != nil {
		return nil, err
	}
	return newWriter(c)
}

// newWriter makes a writer of a connection, which it closes after an error.
func newWriter(c *conn) (*writer, error) {
	w := &writer{conn: c}
	err := w.prepareAll([]prepared{
		{&w.begin, "BEGIN IMMEDIATE", 0}, {&w.commit, "COMMIT", 0}, {&w.rollback, "ROLLBACK", 0},
	})
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

// prepareTables builds the statements that need the tables; it is called after
// the migrations.
func (w *writer) prepareTables(d *dialect) error {
	list := []prepared{
		{&w.truncate, d.truncate.text, d.truncate.params},
		{&w.last, d.lastUpTo.text, d.lastUpTo.params},
		{&w.getMeta, d.getMeta.text, d.getMeta.params},
		{&w.setMeta, d.setMeta.text, d.setMeta.params},
	}
	for i, s := range d.insert {
		list = append(list, prepared{&w.inserts[i], s.text, s.params})
	}
	for i, s := range d.remove {
		list = append(list, prepared{&w.removes[i], s.text, s.params})
	}
	return w.prepareAll(list)
}

func (w *writer) close() error {
	stmts := []*stmt{w.begin, w.commit, w.rollback, w.truncate, w.last, w.getMeta, w.setMeta}
	stmts = append(stmts, w.inserts[:]...)
	return w.closeAll(append(stmts, w.removes[:]...)...)
}

// tx runs fn in a transaction. When tx returns nil the transaction is durable;
// after an error nothing of it is visible, and unless the error is ErrIO nothing
// of it is on disk.
func (w *writer) tx(fn func() error) error {
	if err := w.begin.exec(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	err := fn()
	if err == nil {
		if err = w.commit.exec(); err == nil {
			return nil
		}
	}
	// Where SQLite has rolled back by itself (a full disk, an I/O error) there is
	// no transaction any more, and this ROLLBACK's own error says only that.
	_ = w.rollback.exec()
	return err
}

// insert writes rows with as few statements as insertSizes allow.
func (w *writer) insert(rows []Row) error {
	for i, size := range insertSizes {
		for len(rows) >= size {
			if err := w.insertSome(w.inserts[i], rows[:size]); err != nil {
				return err
			}
			rows = rows[size:]
		}
	}
	return nil
}

func (w *writer) insertSome(s *stmt, rows []Row) error {
	defer s.release()
	for i := range rows {
		w.bindRow(s, i*len(logColumns), &rows[i])
	}
	return s.exec()
}

func (w *writer) bindRow(s *stmt, at int, r *Row) {
	a := s.args[at : at+len(logColumns)]
	revision := w.revision.of(int64(r.Revision))
	a[0].Value = int64(r.ID)
	a[1].Value = w.epoch.of(int64(r.Epoch))
	a[2].Value = revision
	a[3].Value = r.Sub
	a[4].Value = int64(r.Kind)
	a[5].Value = blob(r.Key)
	a[6].Value = blob(r.Value)
	if r.CreateRevision == r.Revision {
		a[7].Value = revision
	} else {
		a[7].Value = int64(r.CreateRevision)
	}
	a[8].Value = int64(r.PrevRevision)
	a[9].Value = r.Version
	a[10].Value = r.Lease
	a[11].Value = w.writtenAt.of(r.WrittenAt)
}

// boxed keeps the last integer that was made an argument, since making one
// allocates.
type boxed struct {
	n int64
	v any
}

func (b *boxed) of(n int64) any {
	if b.n != n || b.v == nil {
		b.n, b.v = n, n
	}
	return b.v
}

var emptyBlob = []byte{}

// blob turns nil into an empty value: the columns take no NULL.
func blob(b []byte) []byte {
	if b == nil {
		return emptyBlob
	}
	return b
}

// deleteRows removes rows by id.
func (w *writer) deleteRows(ids []ID) error {
	for len(ids) > 0 {
		i, n := idStatement(len(ids))
		if err := w.removes[i].bindIDs(ids[:n]).exec(); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}
