package sqllog

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Report says what is still readable of a damaged log. Salvage makes it; String
// puts it into a few lines for an operator.
type Report struct {
	Path      string
	FileBytes int64
	WALBytes  int64 // the write-ahead log beside the file; -1 where there is none
	// Damage is the first thing that could not be read, nil if all could.
	Damage error
	// FromStart are the rows before the first damage, and FromEnd those after the
	// last one. What lies between them is not readable row by row.
	FromStart, FromEnd Span
	// Meta says which entries of the table meta are readable.
	Meta []MetaState
}

// Span is a run of readable rows, with holes where compaction removed rows. Its
// Rows are 0 if there are none.
type Span struct {
	First, Last                 ID
	FirstRevision, LastRevision Revision
	Rows                        int64
}

// MetaState is an entry of meta that the log needs, and whether it is readable.
type MetaState struct {
	Name    string
	Present bool
	Err     error
}

// Salvage reads a damaged log from the start up to the first damage and from the
// end back to it, and reports what it found. It changes neither the file nor its
// write-ahead log, and is for a file that no Log has open. It reads all rows:
// seconds for each million. The error is ctx's, or says that there is no file;
// damage is in the report only.
func Salvage(ctx context.Context, path string) (Report, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Report{}, fmt.Errorf("find log file: %w", err)
	}
	rep := Report{Path: path, FileBytes: fileSize(path), WALBytes: fileSize(path + "-wal")}
	if rep.FileBytes < 0 {
		return rep, fmt.Errorf("salvage: there is no file %s", path)
	}
	if err := ctx.Err(); err != nil {
		return rep, err
	}
	d, err := newSQLiteDialect()
	if err != nil {
		return rep, err
	}
	c, err := openConn(sqliteSalvageDSN(Config{Path: path}), d.classify)
	if err != nil {
		rep.Damage = err
		return rep, nil
	}
	s := salvager{conn: c, d: d, rep: &rep}
	s.meta()
	s.rows(ctx)
	return rep, errors.Join(ctx.Err(), c.Close())
}

// sqliteSalvageDSN allows what a damaged file needs: without writable_schema
// SQLite reads nothing of a file that is shorter than its header says.
func sqliteSalvageDSN(cfg Config) string {
	return sqliteLookDSN(cfg, "_pragma", "writable_schema(1)", "_pragma", "cell_size_check(1)")
}

type salvager struct {
	conn *conn
	d    *dialect
	rep  *Report
}

func (s *salvager) damaged(err error) {
	if s.rep.Damage == nil {
		s.rep.Damage = err
	}
}

// meta reads each entry by itself: one may be damaged and another not.
func (s *salvager) meta() {
	for _, m := range []struct {
		name  string
		check func([]byte) error
	}{
		{metaSchemaVersion, func(b []byte) error { _, err := parseVersion(b); return err }},
		{metaHead, func(b []byte) error { _, err := decodeHead(b); return err }},
		{metaRemovedHead, func(b []byte) error { _, err := decodeHead(b); return err }},
		{metaCompaction, func(b []byte) error { _, err := decodeCompaction(b); return err }},
		{metaClusterID, checkID},
		{metaNodeID, checkID},
		{metaPromise, func(b []byte) error { _, err := decodePromise(b); return err }},
	} {
		value, err := s.readMeta(m.name)
		if err == nil && value != nil {
			err = m.check(value)
		}
		if err != nil {
			s.damaged(fmt.Errorf("meta entry %s: %w", m.name, err))
		}
		s.rep.Meta = append(s.rep.Meta, MetaState{Name: m.name, Present: value != nil, Err: err})
	}
}

func (s *salvager) readMeta(name string) (_ []byte, err error) {
	st, err := s.conn.prepare(s.d.getMeta.text, s.d.getMeta.params)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	return metaValue(st.bind(name).first())
}

func (s *salvager) rows(ctx context.Context) {
	end, err := s.last()
	if err != nil {
		s.damaged(err)
		end = maxID
	}
	up := func(st *stmt, last ID) { st.bind(int64(last), int64(end), int64(scanRows)) }
	s.rep.FromStart = s.span(ctx, s.d.scan, up, 0, 1)
	floor := s.rep.FromStart.Last
	if floor < end && ctx.Err() == nil {
		s.damaged(fmt.Errorf("%w: row %d is not reached", ErrCorrupt, end))
	}
	if s.rep.Damage == nil {
		return
	}
	down := func(st *stmt, last ID) { st.bind(int64(last), int64(floor), int64(scanRows)) }
	s.rep.FromEnd = s.span(ctx, s.d.scanBack, down, maxID, -1)
}

// last finds the last row from the end, 0 if there is none.
func (s *salvager) last() (_ ID, err error) {
	st, err := s.conn.prepare(s.d.lastUpTo.text, s.d.lastUpTo.params)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	h, err := lastRow(st, maxID)
	return h.ID, err
}

// span reads rows from one end of the log, page by page, until a damage or the
// other end. sign is 1 to go up the ids and -1 to go down.
func (s *salvager) span(ctx context.Context, text statement, bind func(*stmt, ID), from ID, sign ID) Span {
	st, err := s.conn.prepare(text.text, text.params)
	if err != nil {
		s.damaged(err)
		return Span{}
	}
	out, last := Span{}, Row{ID: from}
	for ctx.Err() == nil {
		n := 0
		bind(st, last.ID)
		err := st.each(context.Background(), func(v []driver.Value) (bool, error) {
			var r Row
			if err := decodeRow(v, false, &r); err != nil {
				return false, err
			}
			if (r.ID-last.ID)*sign <= 0 || out.Rows > 0 && (r.Revision-last.Revision)*Revision(sign) < 0 {
				return false, fmt.Errorf("%w: row %d of revision %d is out of order", ErrCorrupt, r.ID, r.Revision)
			}
			r.Key, r.Value = nil, nil
			n, last = n+1, r
			out.add(&r)
			return true, nil
		})
		if err != nil {
			s.damaged(fmt.Errorf("after row %d: %w", last.ID, err))
		}
		if err != nil || n < scanRows {
			break
		}
	}
	// A failed statement gives its failure again when it is closed.
	_ = st.Close()
	return out
}

func (s *Span) add(r *Row) {
	if s.Rows == 0 {
		s.First, s.FirstRevision, s.Last, s.LastRevision = r.ID, r.Revision, r.ID, r.Revision
	}
	if r.ID > s.Last {
		s.Last, s.LastRevision = r.ID, r.Revision
	}
	if r.ID < s.First {
		s.First, s.FirstRevision = r.ID, r.Revision
	}
	s.Rows++
}

func (s Span) String() string {
	if s.Rows == 0 {
		return "none"
	}
	return fmt.Sprintf("%d to %d (%d rows, revisions %d to %d)", s.First, s.Last, s.Rows, s.FirstRevision, s.LastRevision)
}

// String is the report in a few lines, the last of which says what to do.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "log %s, %d bytes", r.Path, r.FileBytes)
	if r.WALBytes >= 0 {
		fmt.Fprintf(&b, ", write-ahead log %d bytes", r.WALBytes)
	}
	if r.Damage == nil {
		fmt.Fprintf(&b, ": no damage found\nreadable rows: %s\n", r.FromStart)
		return b.String()
	}
	fmt.Fprintf(&b, ": damaged, %v\n", r.Damage)
	fmt.Fprintf(&b, "readable rows from the start: %s\n", r.FromStart)
	fmt.Fprintf(&b, "readable rows from the end: %s\n", r.FromEnd)
	if r.FromEnd.Rows > 0 {
		fmt.Fprintf(&b, "not readable: what was between row %d and row %d\n", r.FromStart.Last, r.FromEnd.First)
	}
	var entries []string
	for _, m := range r.Meta {
		if m.Err != nil {
			entries = append(entries, m.Name)
		}
	}
	if len(entries) > 0 {
		fmt.Fprintf(&b, "not readable in table meta: %s\n", strings.Join(entries, ", "))
	}
	b.WriteString("what to do: copy the file and its -wal aside; then restore the newest backup of the data folder, or start with an " +
		"empty one; `sqlite3 FILE .recover` on the copy may find more rows\n")
	return b.String()
}
