package transfer

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// survey is what an export has to know of a source before it writes.
type survey struct {
	src        Source
	head       sqllog.Head
	compaction sqllog.Compaction
	leases     map[int64]int64 // id -> TTL in seconds
	newest     map[keySum]newest
	keys       int64 // that exist at the head
	live       int64 // that exist at the revision asked for
	later      int64 // changes above the revision asked for
	// deleted are the positions of the deletes at the revision asked for.
	deleted map[int64]struct{}
}

// newest is what is known of one key.
type newest struct {
	id  sqllog.ID // of its newest change at or below the revision asked for
	put bool      // that change is a put
	now bool      // so is the newest of all
}

// takeSurvey reads a source once, without the values where it can. The newest
// changes are those at the compacted revision or, with atHead, at the head.
func takeSurvey(ctx context.Context, src Source, atHead bool) (*survey, error) {
	s := &survey{src: src, head: src.Head(), compaction: src.Compaction()}
	for {
		at := s.compaction.Revision
		if atHead {
			at = s.head.Revision
		}
		found, err := s.read(ctx, at)
		if err != nil {
			return nil, fmt.Errorf("survey the log: %w", err)
		}
		if found.ID == 0 {
			return s, nil
		}
		if err := s.readCompaction(ctx, found.ID); err != nil {
			return nil, fmt.Errorf("survey the log: %w", err)
		}
		if atHead {
			return s, nil
		}
	}
}

// read fills in the maps. It returns the newest compact row if that is newer
// than the compaction known so far.
func (s *survey) read(ctx context.Context, at sqllog.Revision) (sqllog.Row, error) {
	s.leases, s.newest = map[int64]int64{}, map[keySum]newest{}
	s.keys, s.live, s.later, s.deleted = 0, 0, 0, map[int64]struct{}{}
	var found sqllog.Row
	scan := s.src.Scan
	if k, ok := s.src.(keyScanner); ok {
		scan = k.ScanKeys
	}
	err := scan(ctx, 0, s.head.ID, func(r *sqllog.Row) error {
		switch r.Kind {
		case sqllog.KindPut, sqllog.KindDelete:
			s.change(r, at)
		case sqllog.KindLease:
			if r.Version > 0 {
				s.leases[r.Lease] = r.Version
			} else {
				delete(s.leases, r.Lease)
			}
		case sqllog.KindCompact:
			if r.CreateRevision > s.compaction.Revision {
				found = sqllog.Row{ID: r.ID, CreateRevision: r.CreateRevision}
			}
		case sqllog.KindEpoch, sqllog.KindMember:
		}
		return ctx.Err()
	})
	return found, err
}

func (s *survey) change(r *sqllog.Row, at sqllog.Revision) {
	sum := sumKey(r.Key)
	n := s.newest[sum]
	put := r.Kind == sqllog.KindPut
	s.keys += difference(put, n.now)
	n.now = put
	switch {
	case r.Revision > at:
		s.later++
	case r.Revision == at && !put:
		s.deleted[r.Sub] = struct{}{}
		fallthrough
	default:
		s.live += difference(put, n.put)
		n.id, n.put = r.ID, put
	}
	s.newest[sum] = n
}

// difference is what a count changes by.
func difference(now, before bool) int64 {
	switch {
	case now && !before:
		return 1
	case before && !now:
		return -1
	}
	return 0
}

// summary is what an export tells; changes are counted while they are written.
func (s *survey) summary() Summary {
	return Summary{
		Revision: s.head.Revision, CompactRevision: s.compaction.Revision,
		Keys: s.keys, Leases: int64(len(s.leases)),
	}
}

// readCompaction takes over what a compact row says.
func (s *survey) readCompaction(ctx context.Context, id sqllog.ID) error {
	return s.src.Scan(ctx, id-1, id, func(r *sqllog.Row) error {
		deleted, err := sqllog.DecodeDeleted(r.Value)
		s.compaction = sqllog.Compaction{Revision: r.CreateRevision}
		for _, d := range deleted {
			s.compaction.Deleted = append(s.compaction.Deleted, sqllog.DeletedKey{Sub: d.Sub, Key: slices.Clone(d.Key)})
		}
		return err
	})
}

// leaseIDs lists the leases in etcd's order, negative ids last.
func (s *survey) leaseIDs() []int64 {
	ids := make([]int64, 0, len(s.leases))
	for id := range s.leases {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b int64) int { return cmp.Compare(uint64(a), uint64(b)) })
	return ids
}

// existing calls fn with the newest put of each key that exists at the head, in
// order of revision. The survey was taken at the head.
func (s *survey) existing(ctx context.Context, fn func(*sqllog.Row) error) error {
	return s.src.Scan(ctx, 0, s.head.ID, func(r *sqllog.Row) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if r.Kind != sqllog.KindPut || s.newest[sumKey(r.Key)].id != r.ID {
			return nil
		}
		return fn(r)
	})
}

// history calls fn with every change that the compaction in force leaves, in
// order of revision and position: what is newer, the puts that can be seen at
// the compacted revision, and the deletes of just that revision. The survey was
// taken at the compacted revision.
func (s *survey) history(ctx context.Context, fn func(*sqllog.Row) error) error {
	compact := s.compaction.Revision
	missing := newDeletes(s.compaction)
	err := s.src.Scan(ctx, 0, s.head.ID, func(r *sqllog.Row) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !r.Kind.Changes() {
			return nil
		}
		if r.Revision <= compact && !s.keeps(r) {
			return nil
		}
		if err := missing.before(r, fn); err != nil {
			return err
		}
		return fn(r)
	})
	if err != nil {
		return err
	}
	return missing.before(nil, fn)
}

// changes is how many changes history gives.
func (s *survey) changes() int64 {
	n := s.live + s.later + int64(len(s.deleted))
	for _, d := range s.compaction.Deleted {
		if _, ok := s.deleted[d.Sub]; !ok {
			n++
		}
	}
	return n
}

// keeps tells whether a change at or below the compacted revision is still seen.
func (s *survey) keeps(r *sqllog.Row) bool {
	if r.Kind == sqllog.KindDelete {
		return r.Revision == s.compaction.Revision
	}
	return s.newest[sumKey(r.Key)].id == r.ID
}

// deletes are those of the compacted revision, whose rows may be gone.
type deletes struct {
	rev  sqllog.Revision
	left []sqllog.DeletedKey // in order of sub
}

func newDeletes(c sqllog.Compaction) *deletes {
	left := slices.Clone(c.Deleted)
	slices.SortFunc(left, func(a, b sqllog.DeletedKey) int { return int(a.Sub - b.Sub) })
	return &deletes{rev: c.Revision, left: left}
}

// before calls fn with the deletes that come before a change (nil: all that are
// left) and drops the one that is the change itself.
func (d *deletes) before(r *sqllog.Row, fn func(*sqllog.Row) error) error {
	for len(d.left) > 0 {
		next := d.left[0]
		if r != nil && (r.Revision < d.rev || r.Revision == d.rev && r.Sub < next.Sub) {
			return nil
		}
		d.left = d.left[1:]
		if r != nil && r.Revision == d.rev && r.Sub == next.Sub {
			return nil
		}
		row := sqllog.Row{Revision: d.rev, Sub: next.Sub, Kind: sqllog.KindDelete, Key: next.Key}
		if err := fn(&row); err != nil {
			return err
		}
	}
	return nil
}
