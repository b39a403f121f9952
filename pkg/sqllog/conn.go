package sqllog

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
)

// conn is one connection of the driver, used directly and by one goroutine at a
// time. A pool of database/sql would take longer over a row than SQLite does.
type conn struct {
	driver.Conn
	classify func(error) error
}

// stmt is a prepared statement with the memory for its arguments and for a row
// of its result.
type stmt struct {
	driver.Stmt
	classify func(error) error
	args     []driver.NamedValue
	row      []driver.Value
}

func (c *conn) prepare(text string, params int) (*stmt, error) {
	s, err := c.Prepare(text)
	if err != nil {
		return nil, fmt.Errorf("prepare statement: %w", c.classify(err))
	}
	args := make([]driver.NamedValue, params)
	for i := range args {
		args[i].Ordinal = i + 1
	}
	return &stmt{Stmt: s, classify: c.classify, args: args}, nil
}

// bind sets the arguments. They stay set until release.
func (s *stmt) bind(values ...any) *stmt {
	for i, v := range values {
		s.args[i].Value = v
	}
	return s
}

// bindIDs sets the arguments of a list of ids, repeating the last one where the
// list is longer: in an IN it makes no difference.
func (s *stmt) bindIDs(ids []ID) *stmt {
	for i := range s.args {
		s.args[i].Value = int64(ids[min(i, len(ids)-1)])
	}
	return s
}

// release lets go of the arguments, which may be large.
func (s *stmt) release() {
	for i := range s.args {
		s.args[i].Value = nil
	}
}

// exec runs the statement to its end. The context is the background one on
// purpose: a commit is never abandoned half-way because a client went away.
func (s *stmt) exec() error {
	ex, ok := s.Stmt.(driver.StmtExecContext)
	if !ok {
		return errors.New("driver has no StmtExecContext")
	}
	if _, err := ex.ExecContext(context.Background(), s.args); err != nil {
		return s.classify(err)
	}
	return nil
}

// each runs the statement and calls fn with every row of the result until fn
// says that it wants no more. The row is reused, its byte slices are not.
func (s *stmt) each(ctx context.Context, fn func(row []driver.Value) (more bool, err error)) (err error) {
	q, ok := s.Stmt.(driver.StmtQueryContext)
	if !ok {
		return errors.New("driver has no StmtQueryContext")
	}
	rows, err := q.QueryContext(ctx, s.args)
	if err != nil {
		return s.classify(err)
	}
	defer func() {
		if e := rows.Close(); e != nil && err == nil {
			err = s.classify(e)
		}
	}()
	if s.row == nil {
		s.row = make([]driver.Value, len(rows.Columns()))
	}
	for {
		switch err := rows.Next(s.row); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return s.classify(err)
		}
		if more, err := fn(s.row); err != nil || !more {
			return err
		}
	}
}

// first gives the first row of the result, nil if there is none. The row is
// valid until the statement runs again.
func (s *stmt) first() (row []driver.Value, err error) {
	err = s.each(context.Background(), func(r []driver.Value) (bool, error) {
		row = r
		return false, nil
	})
	return row, err
}

// integers reads a row of n integers, such as a PRAGMA or count(*) gives.
func integers(row []driver.Value, n int) ([]int64, error) {
	if len(row) < n {
		return nil, fmt.Errorf("result has %d columns, not %d", len(row), n)
	}
	out := make([]int64, n)
	for i := range out {
		v, ok := row[i].(int64)
		if !ok {
			return nil, fmt.Errorf("column %d of the result is a %T", i, row[i])
		}
		out[i] = v
	}
	return out, nil
}

// pragma runs a PRAGMA to its end, which some need to take effect, and gives its
// first row.
func (c *conn) pragma(text string) (row []driver.Value, err error) {
	s, err := c.prepare("PRAGMA "+text, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	err = s.each(context.Background(), func(r []driver.Value) (bool, error) {
		if row == nil {
			row = append(row, r...)
		}
		return true, nil
	})
	return row, err
}

// closeAll closes statements, those that were never prepared left out, and then
// their connection.
func (c *conn) closeAll(stmts ...*stmt) error {
	var errs []error
	for _, s := range stmts {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(append(errs, c.Close())...)
}

// prepared names a statement to prepare and where to keep it.
type prepared struct {
	into   **stmt
	text   string
	params int
}

func (c *conn) prepareAll(list []prepared) error {
	for _, p := range list {
		s, err := c.prepare(p.text, p.params)
		if err != nil {
			return err
		}
		*p.into = s
	}
	return nil
}
