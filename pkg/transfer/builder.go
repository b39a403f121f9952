package transfer

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Rows are handed to a Sink in batches of this many rows, or a little over this
// many bytes.
const (
	batchRows  = 1000
	batchBytes = 1 << 20
)

// firstEpoch is the epoch of rows that were made elsewhere.
const firstEpoch = 1

// builder makes rows of leases and changes and hands them to a Sink. Leases come
// first, changes in order of revision.
type builder struct {
	ctx     context.Context
	sink    Sink
	now     int64 // milliseconds
	compact sqllog.Revision

	rows    []sqllog.Row
	bytes   int
	head    sqllog.Head
	sub     int64
	changed bool // a change was added
	leases  map[int64]struct{}
	last    map[keySum]lastChange
	deleted []sqllog.DeletedKey // at the compacted revision
	summary Summary
}

// lastChange is the newest change of a key so far.
type lastChange struct {
	mod  sqllog.Revision
	live bool
}

// change is one put or delete.
type change struct {
	rev     sqllog.Revision
	sub     int64
	deleted bool
	kv      *mvccpb.KeyValue // of a delete, only the key counts
}

func newBuilder(ctx context.Context, sink Sink, compact sqllog.Revision) *builder {
	return &builder{
		ctx: ctx, sink: sink, now: time.Now().UnixMilli(), compact: compact,
		head:   sqllog.Head{Epoch: firstEpoch, Revision: 1},
		leases: map[int64]struct{}{},
		last:   map[keySum]lastChange{},
	}
}

func (b *builder) warn(format string, a ...any) {
	b.summary.Warnings = append(b.summary.Warnings, fmt.Sprintf(format, a...))
}

func (b *builder) addLease(id, ttl int64) error {
	if _, ok := b.leases[id]; ok {
		return damaged("lease %016x is there twice", uint64(id))
	}
	if id == 0 || ttl < 1 {
		return damaged("lease %016x has a TTL of %d s", uint64(id), ttl)
	}
	b.leases[id] = struct{}{}
	b.summary.Leases++
	return b.add(sqllog.Row{Kind: sqllog.KindLease, Revision: 1, Lease: id, Version: ttl})
}

// addChange adds a put or delete and keeps its bytes.
func (b *builder) addChange(c change) error {
	if err := b.check(c); err != nil {
		return err
	}
	row := sqllog.Row{Kind: sqllog.KindPut, Revision: c.rev, Sub: c.sub, Key: c.kv.Key}
	sum := sumKey(c.kv.Key)
	last := b.last[sum]
	if last.live {
		row.PrevRevision = last.mod
		b.summary.Keys--
	}
	if c.deleted {
		row.Kind = sqllog.KindDelete
		if c.rev == b.compact {
			b.deleted = append(b.deleted, sqllog.DeletedKey{Sub: c.sub, Key: row.Key})
		}
	} else {
		row.Value = c.kv.Value
		row.CreateRevision, row.Version = sqllog.Revision(c.kv.CreateRevision), c.kv.Version
		row.Lease = c.kv.Lease
		if !last.live && row.Version == 2 { // it replaces the value that created the key
			row.PrevRevision = row.CreateRevision
		}
		b.summary.Keys++
	}
	b.last[sum] = lastChange{mod: c.rev, live: !c.deleted}
	b.head.Revision, b.sub, b.changed = c.rev, c.sub, true
	b.summary.Changes++
	return b.add(row)
}

func (b *builder) check(c change) error {
	kv := c.kv
	switch {
	case c.rev < 2 || c.sub < 0:
		return damaged("a change has revision %d and position %d", c.rev, c.sub)
	case c.rev < b.head.Revision || b.changed && c.rev == b.head.Revision && c.sub <= b.sub:
		return damaged("revision %d, position %d, comes after revision %d, position %d", c.rev, c.sub, b.head.Revision, b.sub)
	case len(kv.Key) == 0:
		return damaged("the change of revision %d, position %d, has no key", c.rev, c.sub)
	case c.deleted:
		return nil
	case kv.ModRevision != int64(c.rev):
		return damaged("the value stored at revision %d names revision %d", c.rev, kv.ModRevision)
	case kv.CreateRevision < 1 || kv.CreateRevision > kv.ModRevision || kv.Version < 1:
		return damaged("the value of revision %d has create revision %d and version %d", c.rev, kv.CreateRevision, kv.Version)
	}
	return nil
}

func (b *builder) add(row sqllog.Row) error {
	b.head.ID++
	row.ID, row.Epoch, row.WrittenAt = b.head.ID, firstEpoch, b.now
	b.rows = append(b.rows, row)
	b.bytes += len(row.Key) + len(row.Value)
	if len(b.rows) >= batchRows || b.bytes >= batchBytes {
		return b.flush()
	}
	return nil
}

func (b *builder) flush() error {
	if err := b.ctx.Err(); err != nil {
		return err
	}
	if len(b.rows) == 0 {
		return nil
	}
	if err := b.sink.Add(b.rows); err != nil {
		return fmt.Errorf("add %d rows: %w", len(b.rows), err)
	}
	clear(b.rows)
	b.rows, b.bytes = b.rows[:0], 0
	return nil
}

// finish ends the history at a revision, 0: that of the last change.
func (b *builder) finish(revision sqllog.Revision) (Summary, error) {
	if err := b.flush(); err != nil {
		return Summary{}, err
	}
	head := b.head
	if revision = max(revision, b.compact, head.Revision); revision > head.Revision {
		// The row that moved the revision is not there any more.
		head.ID++
		head.Revision = revision
	}
	if head.ID == 0 {
		head.Epoch = 0
	}
	if err := b.sink.Finish(head, sqllog.Compaction{Revision: b.compact, Deleted: b.deleted}); err != nil {
		return Summary{}, fmt.Errorf("finish the history: %w", err)
	}
	b.summary.Revision, b.summary.CompactRevision = head.Revision, b.compact
	return b.summary, nil
}
