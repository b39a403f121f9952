package s3snap

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// relation is how a log and a chain stand to each other.
type relation struct {
	// found: there is no chain yet.
	found bool
	// replace: the log cannot be brought to the chain; it is set aside whole.
	replace string // why, empty if it can
	// common is the newest row on which both agree.
	common sqllog.Head
	// cut: the log's rows above common are not the chain's.
	cut bool
	// rest are rows above common of the chunk that holds common, whose last is
	// at boundary; the chain may go on after it.
	rest     []sqllog.Row
	boundary sqllog.Head
	// more: the chain has chunks after boundary.
	more bool
	// cluster is cluster.json, unless found.
	cluster clusterFile
}

// behind reports whether the chain has rows that the log does not have.
func (r relation) behind() bool { return r.replace != "" || r.cut || len(r.rest) > 0 || r.more }

// meet finds out how log and chain stand to each other. Nothing is changed.
func (s *starter) meet(ctx context.Context) (rel relation, err error) {
	if s.cfg.CommitByChunk || s.adopted {
		return s.compareLoud(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	if err := s.probe(ctx); err != nil {
		return relation{}, err
	}
	s.looked, s.clocked = s.cfg.clock()
	return compare(ctx, s.cfg.Store, s.log)
}

// compareLoud compares, and waits while object storage does not answer.
func (s *starter) compareLoud(ctx context.Context) (rel relation, err error) {
	err = s.retryLoud(ctx, func() (err error) {
		if err = s.probe(ctx); err != nil {
			return err
		}
		for tries := 1; ; tries++ {
			s.looked, s.clocked = s.cfg.clock()
			rel, err = compare(ctx, s.cfg.Store, s.log)
			if !errors.Is(err, errMoved) || tries == movedTries {
				return err
			}
		}
	})
	return rel, err
}

// movedTries bounds comparisons that retention gets ahead of.
const movedTries = 3

// compare reads the chain around the log's head.
func compare(ctx context.Context, store object.Store, log *sqllog.Log) (relation, error) {
	cluster, err := readCluster(ctx, store)
	if errors.Is(err, object.ErrNotFound) {
		return relation{found: true}, nil
	}
	if err != nil {
		return relation{}, err
	}
	if id := log.Identity().Cluster; cluster.cluster() != id {
		return relation{}, fmt.Errorf("%w: the prefix is of cluster %s, the log of %016x; use another prefix or another data folder",
			ErrOtherCluster, cluster.ClusterID, id)
	}
	if err := checkBootstrap(ctx, store, cluster); err != nil {
		return relation{}, err
	}
	c := &comparison{store: store, log: log, head: log.Head(), cluster: cluster}
	rel, err := c.run(ctx)
	rel.cluster = cluster
	return rel, err
}

// checkBootstrap refuses a snapshot placed on a prefix that has a history of its
// own; the one that it was started from may stay.
func checkBootstrap(ctx context.Context, store object.Store, cluster clusterFile) error {
	src, info, err := store.Get(ctx, bootstrapKey, 0, 0)
	if errors.Is(err, object.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	_ = src.Close()
	if info.Version != cluster.Bootstrap {
		return fmt.Errorf("%w; remove it, or use another prefix", ErrBootstrap)
	}
	return nil
}

// comparison is one run of compare.
type comparison struct {
	store   object.Store
	log     *sqllog.Log
	head    sqllog.Head
	cluster clusterFile
	low     sqllog.Head // where the chunks that are looked at begin
	firsts  []sqllog.ID // positions of chunks near the head, and of one beyond it
}

func (c *comparison) run(ctx context.Context) (relation, error) {
	ok, err := c.begin(ctx)
	if err != nil {
		return relation{}, err
	}
	if !ok {
		return relation{replace: "the chain begins after its last row"}, nil
	}
	// As a rule the log ends where the chain does, and there may be a million small
	// chunks before that.
	for window := nearWindow; ; window *= 16 {
		after := max(c.low.ID, c.head.ID-window)
		if err := c.list(ctx, after); err != nil {
			return relation{}, fmt.Errorf("list chunks: %w", err)
		}
		rel, ok, err := c.search(ctx)
		switch {
		case err != nil:
			return relation{}, err
		case ok:
			return rel, nil
		case after == c.low.ID:
			return c.below(ctx)
		}
	}
}

// nearWindow is how many rows below the log's head chunks are looked for first.
const nearWindow = sqllog.ID(1024)

// list finds the chunks from a row on, up to the first one beyond the log's head.
func (c *comparison) list(ctx context.Context, after sqllog.ID) error {
	c.firsts = c.firsts[:0]
	err := c.store.List(ctx, chunkPrefix, chunkKey(after), func(info object.Info) error {
		first, ok := parseChunkKey(info.Key)
		if !ok {
			return nil
		}
		if c.firsts = append(c.firsts, first); first > c.head.ID {
			return errFound
		}
		return nil
	})
	if errors.Is(err, errFound) {
		return nil
	}
	return err
}

// begin finds the newest point at or below the log's head from which chunks are
// sure to be there: a snapshot, or the start. It reports false if there is none.
func (c *comparison) begin(ctx context.Context) (bool, error) {
	c.low = sqllog.Head{Revision: 1}
	near, ok, err := c.cluster.newestAt(ctx, c.store, c.head.ID)
	if err != nil || ok {
		c.low = near
		return ok, err
	}
	manifests, start, err := c.cluster.snapshots(ctx, c.store)
	if err != nil {
		return false, err
	}
	for _, m := range manifests {
		if sqllog.ID(m.ID) <= c.head.ID {
			c.low = m.Head()
		}
	}
	return c.low.ID >= start, nil
}

// search looks at chunks, from the one around the log's head backwards, until one
// agrees with the log in its newest row. It reports false if none does.
func (c *comparison) search(ctx context.Context) (relation, bool, error) {
	next := 0 // chunks before it begin at or below the head
	for next < len(c.firsts) && c.firsts[next] <= c.head.ID {
		next++
	}
	for i := next - 1; i >= 0; i-- {
		k, err := readChunk(ctx, c.store, chunkKey(c.firsts[i]))
		if errors.Is(err, object.ErrNotFound) {
			err = fmt.Errorf("%w: %w", errMoved, err)
		}
		if err != nil {
			return relation{}, false, err
		}
		agreed, err := c.agreed(ctx, k)
		if err != nil {
			return relation{}, false, err
		}
		if agreed > 0 {
			return c.around(k, agreed, i+1 < len(c.firsts)), true, nil
		}
	}
	return relation{}, false, nil
}

// around is the relation where a chunk agrees with the log in its first rows.
func (c *comparison) around(k chunk, agreed int, more bool) relation {
	r := relation{common: headOf(&k.rows[agreed-1]), rest: k.rows[agreed:], boundary: k.header.Head}
	r.more = more
	r.cut = c.head.ID > r.common.ID && (len(r.rest) > 0 || more)
	return r
}

// below is the relation where no chunk agrees: what is before them decides.
func (c *comparison) below(ctx context.Context) (relation, error) {
	r := relation{common: c.low, boundary: c.low, more: len(c.firsts) > 0}
	if c.low.ID > 0 {
		same, present := false, false
		err := c.log.Scan(ctx, c.low.ID-1, c.low.ID, func(row *sqllog.Row) error {
			present, same = true, headOf(row) == c.low
			return nil
		})
		if err == nil && !present {
			same, err = c.compacted(ctx, &sqllog.Row{ID: c.low.ID, Epoch: c.low.Epoch, Revision: c.low.Revision})
		}
		if err != nil {
			return relation{}, err
		}
		if !same {
			return relation{replace: "it disagrees with the snapshot at " + c.low.ID.String()}, nil
		}
	}
	r.cut = c.head.ID > r.common.ID && r.more
	return r, nil
}

// agreed counts the rows of a chunk, from its first, up to the newest one that is
// known to be the log's too; 0 if none is.
func (c *comparison) agreed(ctx context.Context, k chunk) (int, error) {
	if k.header.Cluster != c.cluster.cluster() {
		return 0, fmt.Errorf("%w: %s is of cluster %016x", ErrCorruptChain, k.key, k.header.Cluster)
	}
	shared := len(k.rows)
	if over := k.header.Head.ID - c.head.ID; over > 0 {
		shared -= int(over)
	}
	same, differs := 0, false
	err := c.log.Scan(ctx, k.header.First-1, k.rows[shared-1].ID, func(row *sqllog.Row) error {
		i := int(row.ID - k.header.First)
		differs = differs || !sameRow(row, &k.rows[i])
		if !differs {
			same = i + 1
		}
		return nil
	})
	if err != nil || differs || same == shared {
		return same, err
	}
	ok, err := c.compacted(ctx, &k.rows[shared-1])
	if ok {
		same = shared
	}
	return same, err
}

// compacted reports whether a row that the log has compacted was the chain's: its
// epoch lies between those of the rows around it.
func (c *comparison) compacted(ctx context.Context, row *sqllog.Row) (bool, error) {
	if row.ID == c.head.ID {
		return headOf(row) == c.head, nil
	}
	var above *sqllog.Head
	err := c.log.Scan(ctx, row.ID, c.head.ID, func(r *sqllog.Row) error {
		head := headOf(r)
		above = &head
		return errFound
	})
	if err != nil && !errors.Is(err, errFound) {
		return false, err
	}
	if above == nil {
		above = &c.head
	}
	below := sqllog.Epoch(0)
	for window := sqllog.ID(1024); ; window *= 8 {
		from := max(row.ID-window, 0)
		err := c.log.Scan(ctx, from, row.ID, func(r *sqllog.Row) error {
			below = r.Epoch
			return nil
		})
		if err != nil || below > 0 || from == 0 {
			return max(below, 1) == row.Epoch && above.Epoch == row.Epoch, err
		}
	}
}

// errFound ends a scan.
var errFound = errors.New("found")

// sameRow reports whether two rows are the same in every column.
func sameRow(a, b *sqllog.Row) bool {
	return a.ID == b.ID && a.Epoch == b.Epoch && a.Revision == b.Revision && a.Sub == b.Sub && a.Kind == b.Kind &&
		a.CreateRevision == b.CreateRevision && a.PrevRevision == b.PrevRevision && a.Version == b.Version &&
		a.Lease == b.Lease && a.WrittenAt == b.WrittenAt && bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value)
}

func headOf(r *sqllog.Row) sqllog.Head {
	return sqllog.Head{ID: r.ID, Epoch: r.Epoch, Revision: r.Revision}
}
