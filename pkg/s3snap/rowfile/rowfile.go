package rowfile

import (
	"bytes"
	"errors"
	"io"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Encode gives the file of h and rows; for a chunk the rows are exactly First to
// Head. ErrInvalid otherwise. The same input gives the same bytes. It may be
// called concurrently.
func Encode(h Header, rows []sqllog.Row) ([]byte, error) {
	var out bytes.Buffer
	w, err := NewWriter(&out, h)
	if err != nil {
		return nil, err
	}
	for i := range rows {
		if err := w.Add(&rows[i]); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Decode verifies a file and gives its rows. Each key and each value has memory
// of its own, so that keeping one keeps nothing else; an empty one is nil.
// ErrCorrupt, ErrNewer, ErrEncrypted. It may be called concurrently.
func Decode(b []byte) (Header, []sqllog.Row, error) {
	r, err := NewReader(bytes.NewReader(b))
	if err != nil {
		return Header{}, nil, err
	}
	var rows []sqllog.Row
	for {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r.Header(), rows, nil
		}
		if err != nil {
			return Header{}, nil, err
		}
		rows = append(rows, *row)
		last := &rows[len(rows)-1]
		last.Key, last.Value = bytes.Clone(row.Key), bytes.Clone(row.Value)
	}
}
