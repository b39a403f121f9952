package s3snap

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/kinsy/kinsy/pkg/s3snap/rowfile"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// simTruth is what the nodes of a simulation are measured against.
type simTruth struct {
	mu     sync.Mutex
	rows   []sqllog.Row               // of the chain, from row 1 on
	starts map[sqllog.ID]bool         // ids at which there was a chunk's end, or the start
	acked  map[sqllog.ID]sqllog.Epoch // rows that a node has acknowledged
	newest sqllog.ID                  // of acked
	names  map[rowName]sqllog.Row
	wrong  []string
	stats  simStats
}

// rowName names a row: two logs that agree on it agree on everything before.
type rowName struct {
	cluster uint64 // two nodes may begin one at the same time
	id      sqllog.ID
	epoch   sqllog.Epoch
}

// simStats tells whether a simulation has met what it is for.
type simStats struct {
	chunks, zombies, acked, confirmed, opened, failedOpens, fenced, snapshots, retentions, restores, removed, aside, oldDisks, naps int
}

func newSimTruth() *simTruth {
	return &simTruth{
		starts: map[sqllog.ID]bool{0: true}, acked: make(map[sqllog.ID]sqllog.Epoch), names: make(map[rowName]sqllog.Row),
	}
}

func (t *simTruth) wrongLocked(format string, args ...any) {
	t.wrong = append(t.wrong, fmt.Sprintf(format, args...))
}

func (t *simTruth) complain(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wrongLocked(format, args...)
}

func (t *simTruth) count(what *int, n int) {
	t.mu.Lock()
	*what += n
	t.mu.Unlock()
}

// createdLocked notes a chunk that has come to be. At a closed position it is
// nobody's: its writer slept.
func (t *simTruth) createdLocked(key string, body []byte, floor sqllog.ID, floorErr error) {
	h, rows, err := rowfile.Decode(body)
	if err != nil || floorErr != nil {
		t.wrongLocked("%s: %v, %v", key, err, floorErr)
		return
	}
	if h.First <= floor {
		t.stats.zombies++
		return
	}
	t.stats.chunks++
	end := t.endLocked()
	if h.First != end.ID+1 || h.Before != end.Epoch || rows[0].Epoch < end.Epoch || rows[0].Revision < end.Revision {
		t.wrongLocked("%s (before: epoch %d, first row: epoch %d, revision %d) does not follow %+v", key, h.Before, rows[0].Epoch, rows[0].Revision, end)
		return
	}
	if rows[0].Kind.Changes() && rows[0].Sub > 0 {
		t.wrongLocked("%s begins inside of revision %d", key, rows[0].Revision)
	}
	for i := range rows {
		t.namedLocked(h.Cluster, &rows[i])
		t.rows = append(t.rows, cloneRow(&rows[i]))
	}
	t.starts[h.Head.ID] = true
}

func (t *simTruth) endLocked() sqllog.Head {
	if len(t.rows) == 0 {
		return start
	}
	return headOf(&t.rows[len(t.rows)-1])
}

func (t *simTruth) end() sqllog.Head {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.endLocked()
}

// namedLocked notes a row that is in a log or in the chain.
func (t *simTruth) namedLocked(cluster uint64, r *sqllog.Row) {
	name := rowName{cluster, r.ID, r.Epoch}
	there, ok := t.names[name]
	if !ok {
		t.names[name] = cloneRow(r)
	} else if !sameRow(&there, r) {
		t.wrongLocked("two rows are named %+v", name)
		t.names[name] = cloneRow(r)
	}
}

func (t *simTruth) named(cluster uint64, rows []sqllog.Row) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range rows {
		t.namedLocked(cluster, &rows[i])
	}
}

// ack notes rows that a node says to be committed by their chunk.
func (t *simTruth) ack(who string, rows []sqllog.Row) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range rows {
		r := &rows[i]
		if int64(r.ID) > int64(len(t.rows)) || !sameRow(r, &t.rows[r.ID-1]) {
			t.wrongLocked("%s acknowledges row %d of epoch %d, which the chain does not have", who, r.ID, r.Epoch)
		}
		if old, ok := t.acked[r.ID]; ok {
			t.wrongLocked("%s acknowledges row %d of epoch %d, which is acknowledged as of epoch %d", who, r.ID, r.Epoch, old)
		}
		t.acked[r.ID] = r.Epoch
		t.newest = max(t.newest, r.ID)
		t.stats.acked++
	}
}

func (t *simTruth) newestAcked() sqllog.ID {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.newest
}

// uploaded checks what a node says to be in object storage.
func (t *simTruth) uploaded(who string, id sqllog.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if int64(id) > int64(len(t.rows)) {
		t.wrongLocked("%s: uploaded %d, but the chain ends at %d", who, id, len(t.rows))
	}
}

// removable are the rows up to an id that a compaction lets go.
func removable(rows []sqllog.Row, upTo sqllog.ID, c sqllog.Revision) []sqllog.ID {
	var ids []sqllog.ID
	newest := make(map[string]*sqllog.Row)
	for i := range rows {
		r := &rows[i]
		switch {
		case r.ID > upTo:
		case r.Kind == sqllog.KindCompact && r.CreateRevision <= c:
			ids = append(ids, r.ID)
		case !r.Kind.Changes() || r.Revision > c:
		default:
			if old := newest[string(r.Key)]; old != nil {
				ids = append(ids, old.ID)
				delete(newest, string(r.Key))
			}
			if newest[string(r.Key)] = r; r.Kind == sqllog.KindDelete {
				ids = append(ids, r.ID)
				delete(newest, string(r.Key))
			}
		}
	}
	slices.Sort(ids)
	return ids
}

// compactedTo is what the compact rows up to an id say.
func compactedTo(rows []sqllog.Row, upTo sqllog.ID) (c sqllog.Revision) {
	for i := range rows {
		if r := &rows[i]; r.ID <= upTo && r.Kind == sqllog.KindCompact {
			c = max(c, r.CreateRevision)
		}
	}
	return c
}

// holds checks rows of a log against the chain up to the chain's end: those that
// are there must be the chain's, and those that are not must be compacted by what
// the log says.
func (t *simTruth) holds(who string, got []sqllog.Row, head sqllog.Head, c sqllog.Compaction) {
	t.mu.Lock()
	defer t.mu.Unlock()
	upTo := min(head.ID, sqllog.ID(len(t.rows)))
	said := max(c.Revision, compactedTo(got, head.ID))
	if want := compactedTo(t.rows, upTo); said != want && head.ID <= upTo {
		t.wrongLocked("%s: at %d it is compacted to %d instead of %d", who, head.ID, said, want)
	}
	gone := make(map[sqllog.ID]bool)
	for _, id := range removable(t.rows, upTo, said) {
		gone[id] = true
	}
	there := make(map[sqllog.ID]*sqllog.Row)
	for i := range got {
		there[got[i].ID] = &got[i]
	}
	for id := sqllog.ID(1); id <= upTo; id++ {
		switch r := there[id]; {
		case r == nil && !gone[id]:
			t.wrongLocked("%s (head %d): row %d of the chain is missing, and not compacted", who, head.ID, id)
		case r != nil && !sameRow(r, &t.rows[id-1]):
			t.wrongLocked("%s (head %d): row %d is of epoch %d, the chain's of %d", who, head.ID, id, r.Epoch, t.rows[id-1].Epoch)
		}
	}
}

// acknowledged checks that no acknowledged row is missing from the chain.
func (t *simTruth) acknowledged() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(t.acked)) {
		if int64(id) > int64(len(t.rows)) || t.rows[id-1].Epoch != t.acked[id] {
			t.wrongLocked("acknowledged row %d is not in the chain", id)
		}
	}
}

func cloneRow(r *sqllog.Row) sqllog.Row {
	row := *r
	row.Key, row.Value, row.ValueSize = bytes.Clone(r.Key), bytes.Clone(r.Value), 0
	return row
}
