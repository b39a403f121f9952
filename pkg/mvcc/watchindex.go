package mvcc

import (
	"go.etcd.io/etcd/pkg/v3/adt"
)

// watchIndex finds the watchers of a key: those of the key alone in a map, those
// of ranges in an interval tree. Its cost depends on how many watchers match.
type watchIndex struct {
	keys   map[string]watcherSet
	ranges adt.IntervalTree // of watcherSet
	n      int
}

type watcherSet map[*watcher]struct{}

func newWatchIndex() *watchIndex {
	return &watchIndex{keys: map[string]watcherSet{}, ranges: adt.NewIntervalTree()}
}

// interval is the span as the tree wants it; an empty end stands for infinity.
func (p span) interval() adt.Interval {
	if p.toLast {
		return adt.NewBytesAffineInterval(p.key, nil)
	}
	return adt.NewBytesAffineInterval(p.key, p.end)
}

func (x *watchIndex) add(w *watcher) {
	x.n++
	if w.span.single {
		set := x.keys[string(w.span.key)]
		if set == nil {
			set = watcherSet{}
			x.keys[string(w.span.key)] = set
		}
		set[w] = struct{}{}
		return
	}
	ivl := w.span.interval()
	if found := x.ranges.Find(ivl); found != nil {
		found.Val.(watcherSet)[w] = struct{}{}
		return
	}
	x.ranges.Insert(ivl, watcherSet{w: {}})
}

func (x *watchIndex) remove(w *watcher) {
	x.n--
	if w.span.single {
		set := x.keys[string(w.span.key)]
		delete(set, w)
		if len(set) == 0 {
			delete(x.keys, string(w.span.key))
		}
		return
	}
	ivl := w.span.interval()
	found := x.ranges.Find(ivl)
	if found == nil {
		return
	}
	set := found.Val.(watcherSet)
	delete(set, w)
	if len(set) == 0 {
		x.ranges.Delete(ivl)
	}
}

// match calls fn for every watcher of the key.
func (x *watchIndex) match(key []byte, fn func(*watcher)) {
	for w := range x.keys[string(key)] {
		fn(w)
	}
	if x.ranges.Len() == 0 {
		return
	}
	x.ranges.Visit(adt.NewBytesAffinePoint(key), func(n *adt.IntervalValue) bool {
		for w := range n.Val.(watcherSet) {
			fn(w)
		}
		return true
	})
}
