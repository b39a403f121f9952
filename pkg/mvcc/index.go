package mvcc

import (
	"bytes"
	"context"
)

// span is a range of keys as etcd's requests name it.
type span struct {
	key, end []byte
	single   bool // end is not used: key alone
	toLast   bool // end is not used: from key on
}

// newSpan reads key and range_end: an empty range_end means one key, a single
// zero byte every key from key on.
func newSpan(key, end []byte) span {
	switch {
	case len(end) == 0:
		return span{key: key, single: true}
	case len(end) == 1 && end[0] == 0:
		return span{key: key, toLast: true}
	}
	return span{key: key, end: end}
}

func (p span) contains(key []byte) bool {
	if p.single {
		return bytes.Equal(key, p.key)
	}
	return bytes.Compare(key, p.key) >= 0 && (p.toLast || bytes.Compare(key, p.end) < 0)
}

// collect finds the live records of a span at a revision, in order of key: up
// to limit of them (0: all), and, unless count is nil, how many there are in
// all. The caller has entered the pins, or holds Store.mu.
func (s *Store) collect(ctx context.Context, p span, rev, limit int64, count *int64) ([]*record, error) {
	if p.single {
		r := s.find(p.key, rev)
		if r == nil {
			return nil, nil
		}
		if count != nil {
			*count = 1
		}
		return []*record{r}, nil
	}
	c := collector{span: p, rev: rev, limit: limit, count: count}
	pivot := treeKey(p.key)
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		pivot, more = s.collectSome(&c, pivot)
	}
	return c.found, nil
}

type collector struct {
	span  span
	rev   int64
	limit int64
	count *int64
	found []*record
}

// collectSome visits up to limits.collectEntries entries from pivot on, and returns where
// to go on. Between two calls the tree may change: that alters nothing that is
// visible at the collector's revision.
func (s *Store) collectSome(c *collector, pivot string) (next string, more bool) {
	end := treeKey(c.span.end)
	s.treeMu.RLock()
	defer s.treeMu.RUnlock()
	visited := 0
	s.tree.Ascend(pivot, func(key string, e *entry) bool {
		if !c.span.toLast && key >= end {
			return false
		}
		if visited == s.cfg.limits.collectEntries {
			next, more = key, true
			return false
		}
		visited++
		return c.visit(e)
	})
	return next, more
}

// visit takes the entry's record and reports whether to go on.
func (c *collector) visit(e *entry) bool {
	r := e.live(c.rev)
	if r == nil {
		return true
	}
	if c.count != nil {
		*c.count++
	}
	if c.limit <= 0 || int64(len(c.found)) < c.limit {
		c.found = append(c.found, r)
	}
	return c.count != nil || c.limit <= 0 || int64(len(c.found)) < c.limit
}

// countLive is collect for those who want the number alone.
func (s *Store) countLive(ctx context.Context, p span, rev int64) (n int64, err error) {
	_, err = s.collect(ctx, p, rev, 1, &n)
	return n, err
}

// find gives the live record of one key at a revision, nil if there is none.
func (s *Store) find(key []byte, rev int64) *record {
	e := s.entry(key)
	if e == nil {
		return nil
	}
	return e.live(rev)
}

func (s *Store) entry(key []byte) *entry {
	s.treeMu.RLock()
	defer s.treeMu.RUnlock()
	e, _ := s.tree.Get(treeKey(key))
	return e
}
