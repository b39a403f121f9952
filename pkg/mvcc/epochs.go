package mvcc

import (
	"slices"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// EpochStart says where the rows of an epoch begin in the log. They end where
// those of the next one begin.
type EpochStart struct {
	Epoch sqllog.Epoch
	First sqllog.ID
}

// Epochs lists the epochs of the published rows, ascending; it is empty while
// there is no row. Epoch rows are never removed, so that each epoch but the first
// is known from its own; rows that compaction has removed before the first one
// are taken to be of epoch 1, or of the epoch of the first row kept if that is no
// epoch row. It may be called concurrently with everything; the list is the
// caller's.
func (s *Store) Epochs() []EpochStart {
	list := s.epochs.Load()
	if list == nil {
		return nil
	}
	return slices.Clone(*list)
}

// epochList makes the list from rows in order, with holes where rows were removed.
type epochList struct {
	list []EpochStart
	last sqllog.ID // the newest row seen
}

func (l *epochList) row(r *sqllog.Row) {
	l.add(r.ID, r.Epoch, r.Kind == sqllog.KindEpoch)
}

// add takes a row of an epoch: exact if that is known to begin there, and not
// among the rows missing before it.
func (l *epochList) add(id sqllog.ID, epoch sqllog.Epoch, exact bool) {
	first := l.last + 1
	n := len(l.list)
	switch {
	case n > 0 && l.list[n-1].Epoch >= epoch:
		l.last = id
		return
	case exact:
		if n == 0 && id > 1 && epoch > 1 {
			l.list = append(l.list, EpochStart{Epoch: 1, First: 1})
		}
		if n > 0 || epoch > 1 {
			first = id
		}
	}
	l.list = append(l.list, EpochStart{Epoch: epoch, First: first})
	l.last = id
}

// loadEpochs sets the list once all rows were seen. A head above the last row is
// known by its epoch.
func (s *Store) loadEpochs(l *epochList, head sqllog.Head) {
	if head.ID > l.last {
		l.add(head.ID, max(head.Epoch, 1), false)
	}
	s.epochs.Store(&l.list)
}

// publishEpochs adds the epochs that begin among rows, which are contiguous.
func (s *Store) publishEpochs(rows []sqllog.Row) {
	var known []EpochStart
	if list := s.epochs.Load(); list != nil {
		known = *list
	}
	if n := len(known); n > 0 && known[n-1].Epoch >= rows[len(rows)-1].Epoch {
		return
	}
	l := epochList{list: slices.Clone(known), last: rows[0].ID - 1}
	for i := range rows {
		l.row(&rows[i])
	}
	s.epochs.Store(&l.list)
}

// Lead makes evaluation write rows of an epoch, not below that of any row, from
// now on, and gives every lease its full TTL anew: what the last Primary knew
// of their age is lost. Nothing may be pending, and nothing be evaluated meanwhile.
func (s *Store) Lead(e sqllog.Epoch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch = e
	s.lessor.restart()
}
