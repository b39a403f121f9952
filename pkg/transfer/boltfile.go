package transfer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
)

// Constants of the bbolt file format, version 2.
const (
	boltMagic    = 0xED0CDAED
	boltVersion  = 2
	boltHeader   = 16 // bytes of a page header
	boltElement  = 16 // bytes of an element of a branch or leaf
	boltMetaSize = 64 // bytes of a meta, the last 8 its checksum
	boltDepth    = 64 // no tree is deeper
	minBoltPage  = 512
	maxBoltPage  = 64 << 10

	boltBranch     = 0x01
	boltLeaf       = 0x02
	boltBucketFlag = 0x01 // of a leaf element: its value is a bucket
)

// boltFile reads a bbolt file that nobody writes. It trusts nothing in it: a
// length, a position or a page number that cannot be is ErrDamaged.
type boltFile struct {
	r     io.ReaderAt
	order binary.ByteOrder
	page  int64  // bytes
	pages uint64 // the file has at least as many
	root  uint64
	seen  []uint64 // one bit for each page read
}

func damaged(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, a...))
}

// openBolt finds the newest valid meta page. The file ends at size.
func openBolt(r io.ReaderAt, size int64) (*boltFile, error) {
	f := &boltFile{r: r}
	newest, magic := uint64(0), false
	try := func(at int64) {
		m, order, isMeta := readMeta(r, at, size)
		magic = magic || isMeta
		if m == nil {
			return
		}
		page := int64(order.Uint32(m[8:]))
		if txid := order.Uint64(m[48:]); f.order == nil || txid > newest {
			newest, f.order, f.page = txid, order, page
			f.root, f.pages = order.Uint64(m[16:]), order.Uint64(m[40:])
		}
	}
	try(0)
	for at := int64(minBoltPage); at <= maxBoltPage; at *= 2 {
		if f.order == nil || f.page == at {
			try(at)
		}
	}
	switch {
	case f.order == nil && magic:
		return nil, damaged("no meta page is valid")
	case f.order == nil:
		return nil, fmt.Errorf("%w: no bbolt database", ErrForeign)
	case f.pages < 2 || f.pages > uint64(size/f.page):
		return nil, damaged("the file has %d bytes and should have %d pages of %d", size, f.pages, f.page)
	}
	f.seen = make([]uint64, f.pages/64+1)
	return f, nil
}

// readMeta reads the meta page at an offset. It is nil if it is not valid;
// isMeta tells whether it looks like one.
func readMeta(r io.ReaderAt, at, size int64) (m []byte, order binary.ByteOrder, isMeta bool) {
	if at+boltHeader+boltMetaSize > size {
		return nil, nil, false
	}
	m = make([]byte, boltMetaSize)
	if _, err := r.ReadAt(m, at+boltHeader); err != nil {
		return nil, nil, false
	}
	order = binary.LittleEndian
	if binary.BigEndian.Uint32(m) == boltMagic {
		order = binary.BigEndian
	}
	if order.Uint32(m) != boltMagic {
		return nil, nil, false
	}
	h := fnv.New64a()
	h.Write(m[:56])
	page := order.Uint32(m[8:])
	if order.Uint32(m[4:]) != boltVersion || order.Uint64(m[56:]) != h.Sum64() ||
		page < minBoltPage || page > maxBoltPage || page&(page-1) != 0 {
		return nil, nil, true
	}
	return m, order, true
}

// buckets calls fn with the name and root of each top-level bucket, in order.
func (f *boltFile) buckets(fn func(name []byte, b boltBucket) error) error {
	return f.each(boltBucket{root: f.root}, func(k, v []byte, flags uint32) error {
		if flags&boltBucketFlag == 0 || len(v) < boltHeader {
			return damaged("entry %q of the root is no bucket", k)
		}
		b := boltBucket{root: f.order.Uint64(v)}
		if b.root == 0 {
			b.inline = bytes.Clone(v[boltHeader:])
		}
		return fn(k, b)
	})
}

// boltBucket is where a bucket is: a page, or, for a small one, bytes.
type boltBucket struct {
	root   uint64
	inline []byte
}

// entries calls fn with each key and value of a bucket, in order of key. They
// are valid only during the call.
func (f *boltFile) entries(b boltBucket, fn func(k, v []byte) error) error {
	return f.each(b, func(k, v []byte, flags uint32) error {
		if flags&boltBucketFlag != 0 {
			return damaged("a bucket %q where a value is expected", k)
		}
		return fn(k, v)
	})
}

func (f *boltFile) each(b boltBucket, fn func(k, v []byte, flags uint32) error) error {
	w := boltWalk{f: f, fn: fn}
	if b.inline != nil {
		return w.node(b.inline, 0, 0)
	}
	return w.tree(b.root, 0)
}

// boltWalk visits one tree.
type boltWalk struct {
	f    *boltFile
	fn   func(k, v []byte, flags uint32) error
	last []byte // key before; keys ascend
	any  bool
}

func (w *boltWalk) tree(id uint64, depth int) error {
	if depth > boltDepth {
		return damaged("the tree at page %d is too deep", id)
	}
	b, err := w.f.read(id)
	if err != nil {
		return err
	}
	return w.node(b, id, depth)
}

// node visits the elements of a page.
func (w *boltWalk) node(b []byte, id uint64, depth int) error {
	order := w.f.order
	if len(b) < boltHeader {
		return damaged("page %d is cut short", id)
	}
	flags, count := order.Uint16(b[8:]), int(order.Uint16(b[10:]))
	if boltHeader+count*boltElement > len(b) {
		return damaged("page %d has room for fewer than %d elements", id, count)
	}
	for i := range count {
		at := boltHeader + i*boltElement
		var err error
		switch flags {
		case boltBranch:
			err = w.tree(order.Uint64(b[at+8:]), depth+1)
		case boltLeaf:
			err = w.leaf(b, at, id)
		default:
			err = damaged("page %d has type %#x", id, flags)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// leaf hands out the element at an offset of a leaf page.
func (w *boltWalk) leaf(b []byte, at int, id uint64) error {
	order := w.f.order
	flags := order.Uint32(b[at:])
	from := int64(at) + int64(order.Uint32(b[at+4:]))
	middle := from + int64(order.Uint32(b[at+8:]))
	end := middle + int64(order.Uint32(b[at+12:]))
	if from < boltHeader || end > int64(len(b)) {
		return damaged("an element of page %d ends at byte %d of %d", id, end, len(b))
	}
	key := b[from:middle:middle]
	if w.any && bytes.Compare(key, w.last) <= 0 {
		return damaged("keys of page %d are out of order", id)
	}
	w.last, w.any = append(w.last[:0], key...), true
	return w.fn(key, b[middle:end:end], flags)
}

// read reads a page with its overflow, once.
func (f *boltFile) read(id uint64) ([]byte, error) {
	if id < 2 || id >= f.pages {
		return nil, damaged("page %d of %d is named", id, f.pages)
	}
	if f.seen[id/64]&(1<<(id%64)) != 0 {
		return nil, damaged("page %d is in two places", id)
	}
	f.seen[id/64] |= 1 << (id % 64)
	b := make([]byte, f.page)
	if err := f.readAt(b, id); err != nil {
		return nil, err
	}
	overflow := uint64(f.order.Uint32(b[12:]))
	if f.order.Uint64(b) != id || overflow >= f.pages-id {
		return nil, damaged("page %d says it is page %d with %d more", id, f.order.Uint64(b), overflow)
	}
	if overflow > 0 {
		b = make([]byte, (int64(overflow)+1)*f.page)
		if err := f.readAt(b, id); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (f *boltFile) readAt(b []byte, id uint64) error {
	if _, err := f.r.ReadAt(b, int64(id)*f.page); err != nil {
		return fmt.Errorf("read page %d: %w", id, err)
	}
	return nil
}
