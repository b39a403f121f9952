package sqllog

import (
	"cmp"
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"time"
)

// Values gives the values of the rows with these ids, in the order of ids, which
// may repeat; an empty value is not nil. A row that is not there is ErrMissing.
// ctx is looked at between lookups of 64.
func (l *Log) Values(ctx context.Context, ids []ID) ([][]byte, error) {
	lookup := lookup{ids: ids, out: make([][]byte, len(ids))}
	if len(ids) == 0 {
		return lookup.out, nil
	}
	lookup.sort()
	start := time.Now()
	for left := lookup.sorted; len(left) > 0; {
		i, n := idStatement(len(left))
		if err := l.readValues(ctx, i, left[:n], &lookup); err != nil {
			return nil, fmt.Errorf("look up values: %w", err)
		}
		left = left[n:]
	}
	l.slow(start, "slow lookup of values")
	if missing := lookup.sorted[lookup.next:]; len(missing) > 0 {
		return nil, fmt.Errorf("look up value of row %d: %w", missing[0], ErrMissing)
	}
	return lookup.out, nil
}

func (l *Log) readValues(ctx context.Context, statement int, ids []ID, to *lookup) error {
	r, err := l.readers.take(ctx)
	if err != nil {
		return err
	}
	defer l.readers.put(r)
	return r.values[statement].bindIDs(ids).
		each(context.Background(), func(v []driver.Value) (bool, error) { return true, to.add(v) })
}

// lookup puts values, which the database gives in order of id and each once,
// where they were asked for.
type lookup struct {
	ids    []ID
	order  []int // indexes into ids, ascending by id
	sorted []ID  // ids in that order
	next   int   // how many of them are found
	out    [][]byte
}

func (k *lookup) sort() {
	k.order, k.sorted = make([]int, len(k.ids)), make([]ID, len(k.ids))
	for i := range k.order {
		k.order[i] = i
	}
	slices.SortFunc(k.order, func(a, b int) int { return cmp.Compare(k.ids[a], k.ids[b]) })
	for i, at := range k.order {
		k.sorted[i] = k.ids[at]
	}
}

// add takes a row of (id, value).
func (k *lookup) add(v []driver.Value) error {
	d := decoder{v: v}
	id := ID(d.integer(0))
	value := d.bytes(1)
	if d.err != nil {
		return fmt.Errorf("%w: value of row %d is a %T", ErrCorrupt, id, v[1])
	}
	if k.next < len(k.sorted) && id > k.sorted[k.next] {
		return fmt.Errorf("row %d: %w", k.sorted[k.next], ErrMissing)
	}
	for k.next < len(k.sorted) && k.sorted[k.next] == id {
		k.out[k.order[k.next]] = value
		k.next++
	}
	return nil
}
