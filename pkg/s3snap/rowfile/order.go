package rowfile

import (
	"fmt"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// order checks the rows of a file against its header and each other. Writer and
// Reader use the same one, so that nothing is written that is not read back.
type order struct {
	header *Header
	last   sqllog.Head // the newest row; before the first one what precedes the file
	change sqllog.Row  // revision and sub of the newest change
	rows   uint64
}

func newOrder(h *Header) order {
	return order{header: h, last: sqllog.Head{ID: h.First - 1, Epoch: h.Before}}
}

// add takes the next row.
func (o *order) add(r *sqllog.Row) error {
	if err := validate(r); err != nil {
		return err
	}
	head := &o.header.Head
	switch {
	case o.header.Kind == KindChunk && r.ID != o.last.ID+1, r.ID <= o.last.ID:
		return fmt.Errorf("row %d follows %d", r.ID, o.last.ID)
	case r.Epoch < o.last.Epoch || r.Revision < o.last.Revision:
		return fmt.Errorf("row %d has epoch %d and revision %d after epoch %d and revision %d",
			r.ID, r.Epoch, r.Revision, o.last.Epoch, o.last.Revision)
	case r.ID > head.ID || r.Epoch > head.Epoch || r.Revision > head.Revision:
		return fmt.Errorf("row %d of epoch %d and revision %d is beyond the head: row %d of epoch %d and revision %d",
			r.ID, r.Epoch, r.Revision, head.ID, head.Epoch, head.Revision)
	}
	if r.Kind.Changes() {
		if r.Revision == o.change.Revision && r.Sub <= o.change.Sub {
			return fmt.Errorf("row %d is change %d of revision %d, after change %d", r.ID, r.Sub, r.Revision, o.change.Sub)
		}
		o.change.Revision, o.change.Sub = r.Revision, r.Sub
	}
	o.last = sqllog.Head{ID: r.ID, Epoch: r.Epoch, Revision: r.Revision}
	if r.ID == head.ID && o.last != *head {
		return fmt.Errorf("row %d has epoch %d and revision %d, but is the head of epoch %d and revision %d",
			r.ID, r.Epoch, r.Revision, head.Epoch, head.Revision)
	}
	o.rows++
	return nil
}

// done says whether the rows may end here.
func (o *order) done() error {
	if o.header.Kind == KindChunk && o.last.ID != o.header.Head.ID {
		return fmt.Errorf("the rows end at %d, the chunk at %d", o.last.ID, o.header.Head.ID)
	}
	return nil
}

// validate checks a row by itself.
func validate(r *sqllog.Row) error {
	if err := r.Validate(); err != nil {
		return err
	}
	if len(r.Key) > maxRow || len(r.Value) > maxRow-len(r.Key) {
		return fmt.Errorf("row %d has a key of %d and a value of %d bytes", r.ID, len(r.Key), len(r.Value))
	}
	return nil
}
