package mvcc

import (
	"sync"
	"sync/atomic"
)

// cacheOverhead is about what keeping a value costs beside its bytes.
const cacheOverhead = 16

// cache bounds the bytes of values held in memory. The values hang on their
// records; the cache knows in which order they came and lets go of the oldest
// that was not read since the cache last looked at it (second chance).
type cache struct {
	limit int64
	bytes atomic.Int64
	hits  atomic.Int64
	miss  atomic.Int64

	mu   sync.Mutex
	ring []*record // a queue in a circular buffer
	head int
	n    int
}

// add makes the cache answer for the values of records that have them in
// memory. A record is added once for each time setValue was called.
func (c *cache) add(records []*record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range records {
		if r.size == 0 {
			continue
		}
		c.bytes.Add(int64(r.size) + cacheOverhead)
		c.push(r)
	}
	for c.bytes.Load() > c.limit && c.n > 0 {
		c.evict()
	}
}

func (c *cache) evict() {
	r := c.pop()
	if r.used.Load() && r.value.Load() != nil {
		r.used.Store(false)
		c.push(r)
		return
	}
	r.value.Store(nil)
	c.bytes.Add(-int64(r.size) - cacheOverhead)
}

func (c *cache) push(r *record) {
	if c.n == len(c.ring) {
		grown := make([]*record, max(1024, 2*len(c.ring)))
		k := copy(grown, c.ring[c.head:])
		copy(grown[k:], c.ring[:c.head])
		c.ring, c.head = grown, 0
	}
	c.ring[(c.head+c.n)%len(c.ring)] = r
	c.n++
}

func (c *cache) pop() *record {
	r := c.ring[c.head]
	c.ring[c.head] = nil
	c.head = (c.head + 1) % len(c.ring)
	c.n--
	return r
}
