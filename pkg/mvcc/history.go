package mvcc

import (
	"math"
	"sort"
	"sync"
)

// history holds the committed records from the compacted revision on, in order
// of (revision, sub).
type history struct {
	block int // records of one block; never changed

	mu     sync.RWMutex
	blocks [][]*record // all but the last are full
	first  int         // records of blocks[0] that were dropped
	n      int
}

// append adds records, which are newer than all before.
func (h *history) append(records []*record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n += len(records)
	for len(records) > 0 {
		last := len(h.blocks) - 1
		if last < 0 || len(h.blocks[last]) == h.block {
			h.blocks = append(h.blocks, make([]*record, 0, h.block))
			last++
		}
		free := h.block - len(h.blocks[last])
		n := min(free, len(records))
		h.blocks[last] = append(h.blocks[last], records[:n]...)
		records = records[n:]
	}
}

// from appends to buf the records with revisions in [rev, upTo]: about max of
// them, but all of the last revision it reaches.
func (h *history) from(buf []*record, rev, upTo int64, max int) []*record {
	h.mu.RLock()
	defer h.mu.RUnlock()
	b, i := h.seekLocked(rev)
	for ; b < len(h.blocks); b, i = b+1, 0 {
		for _, r := range h.blocks[b][i:] {
			if r.mod > upTo || (len(buf) >= max && r.mod != buf[len(buf)-1].mod) {
				return buf
			}
			buf = append(buf, r)
		}
	}
	return buf
}

// seekLocked finds the first record at or above rev: its block and position.
func (h *history) seekLocked(rev int64) (block, at int) {
	block = sort.Search(len(h.blocks), func(i int) bool {
		b := h.blocks[i]
		return b[len(b)-1].mod >= rev
	})
	if block == len(h.blocks) {
		return block, 0
	}
	start := 0
	if block == 0 {
		start = h.first
	}
	b := h.blocks[block][start:]
	return block, start + sort.Search(len(b), func(i int) bool { return b[i].mod >= rev })
}

// drop forgets the records below rev.
func (h *history) drop(rev int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	block, at := h.seekLocked(rev)
	before := h.first
	if block == len(h.blocks) {
		h.blocks, h.first, h.n = nil, 0, 0
		return
	}
	h.n -= block*h.block + at - before
	kept := make([][]*record, len(h.blocks)-block)
	copy(kept, h.blocks[block:])
	if block > 0 {
		before = 0
	}
	clear(kept[0][before:at])
	h.blocks, h.first = kept, at
}

func (h *history) len() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.n
}

// replace puts records, all of revision rev, in the place of those of that
// revision, ordered by sub.
func (h *history) replace(rev int64, records []*record) {
	sort.Slice(records, func(i, j int) bool { return records[i].sub < records[j].sub })
	before := h.from(nil, 0, rev-1, math.MaxInt)
	after := h.from(nil, rev+1, math.MaxInt64, math.MaxInt)
	h.mu.Lock()
	h.blocks, h.first, h.n = nil, 0, 0
	h.mu.Unlock()
	h.append(before)
	h.append(records)
	h.append(after)
}
