package s3snap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

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
	c := &comparison{store: store, log: log, head: log.Head()}
	err := c.look(ctx)
	if c.none {
		return relation{found: true}, nil
	}
	if err != nil {
		return relation{}, err
	}
	if err := c.cluster.mayHave(c.bootstrap); err != nil {
		return relation{}, err
	}
	rel, err := c.run(ctx)
	rel.cluster = c.cluster
	return rel, err
}

// mayHave refuses a snapshot placed on a prefix that has a history of its own; the
// one that it was started from may stay.
func (c clusterFile) mayHave(bootstrap string) error {
	if bootstrap != "" && bootstrap != c.Bootstrap {
		return fmt.Errorf("%w; remove it, or use another prefix", ErrBootstrap)
	}
	return nil
}

// comparison is one run of compare.
type comparison struct {
	survey
	store  object.Store
	log    *sqllog.Log
	head   sqllog.Head
	low    sqllog.Head // where the chunks that are looked at begin
	firsts []sqllog.ID // positions of chunks near the head, and of one beyond it
	ahead  aheadChunk  // the chunk that search begins with, as a rule
}

// aheadChunk is one that was read before it was known that it is wanted.
type aheadChunk struct {
	first sqllog.ID // 0 for none
	chunk chunk
	err   error
}

func (c *comparison) run(ctx context.Context) (relation, error) {
	near := c.near
	if c.far.all {
		near = c.far
	}
	ok, err := c.begin(ctx, near)
	if err != nil {
		return relation{}, err
	}
	if !ok {
		return relation{replace: "the chain begins after its last row"}, nil
	}
	// As a rule the log ends where the chain does, and there may be a million small
	// chunks before that.
	near = near.above(c.low.ID)
	for window := max(nearWindow, c.head.ID-near.after); ; {
		c.firsts = near.firsts
		rel, ok, err := c.search(ctx)
		switch {
		case err != nil:
			return relation{}, err
		case ok:
			return rel, nil
		case near.after == c.low.ID:
			return c.below(ctx)
		}
		window *= 16
		if near, err = listChunks(ctx, c.store, max(c.low.ID, c.head.ID-window), c.head.ID, 0); err != nil {
			return relation{}, err
		}
	}
}

// begin finds the newest point at or below the log's head from which chunks are
// sure to be there: a snapshot, or the start. It reports false if there is none.
// Meanwhile it reads the chunk that will be wanted first if the newest one near the
// head is above that point.
func (c *comparison) begin(ctx context.Context, near chunkList) (ok bool, err error) {
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	var reading sync.WaitGroup
	if first, ok := near.newest(c.head.ID); ok && first > c.start() {
		c.ahead.first = first
		reading.Go(func() { c.ahead.chunk, c.ahead.err = readChunk(within, c.store, chunkKey(first)) })
	}
	if ok, err = c.lowest(ctx); err != nil || !ok {
		cancel()
	}
	reading.Wait()
	return ok, err
}

// start is the id after which the chain is there, or was when it was asked for.
func (c *comparison) start() sqllog.ID { return max(c.floor, sqllog.ID(c.cluster.Base)) }

// lowest sets low.
func (c *comparison) lowest(ctx context.Context) (bool, error) {
	c.low = sqllog.Head{Revision: 1}
	near, ok, err := c.cluster.newestOf(ctx, c.store, c.manifests, c.start(), c.head.ID)
	if err != nil {
		return false, err
	}
	if ok {
		c.low = near
		return true, nil
	}
	if c.start() == 0 {
		return true, nil
	}
	// The names may be older than the floor that was read beside them. This asks
	// for one after the other.
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
		k, err := c.read(ctx, c.firsts[i])
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

// read reads a chunk, unless begin has.
func (c *comparison) read(ctx context.Context, first sqllog.ID) (chunk, error) {
	if got := c.ahead; got.first == first {
		c.ahead = aheadChunk{}
		return got.chunk, got.err
	}
	return readChunk(ctx, c.store, chunkKey(first))
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
