package mvcc

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/tidwall/btree"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Defaults of Config.
const (
	DefaultCacheBytes       = 256 << 20
	DefaultProgressInterval = 5 * time.Second
)

// Log is what the index needs of the log. All methods may be called
// concurrently.
type Log interface {
	// Head names the newest row.
	Head() sqllog.Head
	// Compaction is what the log records of rows that are no longer in it.
	Compaction() sqllog.Compaction
	// ScanKeys gives the rows in (after, upTo] without their values.
	ScanKeys(ctx context.Context, after, upTo sqllog.ID, fn func(*sqllog.Row) error) error
	// Scan gives the rows in (after, upTo] with their values.
	Scan(ctx context.Context, after, upTo sqllog.ID, fn func(*sqllog.Row) error) error
	// Values fetches values by id; sqllog.ErrMissing for a row that is not there.
	Values(ctx context.Context, ids []sqllog.ID) ([][]byte, error)
}

var _ Log = (*sqllog.Log)(nil)

// Config of a Store. Zero values mean the defaults.
type Config struct {
	// CacheBytes bounds the values held in memory; negative: none are held.
	CacheBytes int64
	// ProgressInterval is how often watches that asked for it are told the
	// revision they have reached while nothing happens in their range; negative:
	// never.
	ProgressInterval time.Duration
	// Logger receives the store's messages; nil means logrus' standard logger.
	Logger logrus.FieldLogger
	// Head is the newest row to load, for a log that holds rows above it which are
	// not known to be committed: they are left to Apply. The zero Head means all.
	Head sqllog.Head
	// Now is the clock of leases; nil means time.Now.
	Now func() time.Time

	limits limits // tests make them small; zero means defaultLimits
}

// limits bounds what is done in one step.
type limits struct {
	collectEntries  int // entries visited while the tree is read-locked
	historyBlock    int // records of one block of the history
	scrubRecords    int // records unlinked while Store.mu is held
	dispatchRecords int // records matched while hub.mu is held
	queueRecords    int // records a watcher in step may have queued
	catchUpRecords  int // history read in one step of a watcher that is behind
	responseBytes   int // about what one watch response holds
}

var defaultLimits = limits{
	collectEntries:  512,
	historyBlock:    2048,
	scrubRecords:    1000,
	dispatchRecords: 512,
	queueRecords:    4096,
	catchUpRecords:  1000,
	responseBytes:   1 << 20,
}

// Store is the index of one log. Reads and watches may be called concurrently
// with everything. Evaluate*, Publish and Rollback are called by the one commit
// pipeline, in the order doc.go gives.
type Store struct {
	log Log
	cfg Config

	// mu is held while a Txn is evaluated and while Scrub unlinks.
	mu       sync.Mutex
	revision int64     // of the newest evaluated change
	nextID   sqllog.ID // of the next row
	epoch    sqllog.Epoch
	compact  int64 // newest evaluated compaction; neverCompacted if there is none

	treeMu sync.RWMutex
	tree   btree.Map[string, *entry]

	committed atomic.Int64                // revision
	head      atomic.Pointer[sqllog.Head] // newest published row
	compacted atomic.Int64                // revision; neverCompacted if there is none
	rows      atomic.Int64                // rows kept in the log
	damage    atomic.Pointer[error]
	epochs    atomic.Pointer[[]EpochStart] // never changed, but replaced

	applying Batch // Apply's own

	history history
	cache   cache
	pins    pins
	lessor  lessor
	hub     *hub
	scrub   scrubState
}

// Open loads the index from the log in one ordered scan. The hub of watches
// runs until Close.
func Open(ctx context.Context, log Log, cfg Config) (*Store, error) {
	s, err := load(ctx, log, cfg)
	if err != nil {
		return nil, err
	}
	s.hub.start()
	return s, nil
}

// load is Open but for the goroutines of the hub.
func load(ctx context.Context, log Log, cfg Config) (*Store, error) {
	if cfg.CacheBytes == 0 {
		cfg.CacheBytes = DefaultCacheBytes
	}
	if cfg.ProgressInterval == 0 {
		cfg.ProgressInterval = DefaultProgressInterval
	}
	if cfg.Logger == nil {
		cfg.Logger = logrus.StandardLogger()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.limits == (limits{}) {
		cfg.limits = defaultLimits
	}
	s := &Store{log: log, cfg: cfg}
	s.history.block = cfg.limits.historyBlock
	s.cache.limit = cfg.CacheBytes
	s.pins.init()
	s.lessor.init(cfg.Now)
	if err := s.load(ctx); err != nil {
		return nil, fmt.Errorf("load index: %w", err)
	}
	s.hub = newHub(s)
	return s, nil
}

// Close ends all watch streams. The log stays open.
func (s *Store) Close() { s.hub.close() }

// Revision is the committed revision.
func (s *Store) Revision() int64 { return s.committed.Load() }

// neverCompacted stands for the compacted revision of a store that was never
// compacted. As in etcd it leaves room for one compaction to revision 0.
const neverCompacted = -1

// CompactRevision is the revision below which reads are refused; 0 if the store
// was never compacted.
func (s *Store) CompactRevision() int64 { return max(s.compacted.Load(), 0) }

// loader is the state of one load.
type loader struct {
	s          *Store
	compaction sqllog.Compaction
	compactRow sqllog.ID // whose value names the deleted keys; 0 if the log told them
	started    time.Time
	reported   time.Time
	rows       int64
	epochs     epochList
	upTo       sqllog.ID
}

// reportEvery is how often loading says how far it is.
const reportEvery = 2 * time.Second

func (s *Store) load(ctx context.Context) error {
	head := s.cfg.Head
	if head == (sqllog.Head{}) {
		head = s.log.Head()
	}
	now := time.Now()
	l := &loader{s: s, compaction: s.log.Compaction(), started: now, reported: now, upTo: head.ID}
	if err := s.log.ScanKeys(ctx, 0, head.ID, l.row); err != nil {
		return err
	}
	if err := l.readDeleted(ctx); err != nil {
		return err
	}
	if rev := int64(head.Revision); rev < s.revision {
		return fmt.Errorf("%w: head is at revision %d, a row at %d", sqllog.ErrCorrupt, rev, s.revision)
	}
	s.revision, s.nextID, s.epoch = int64(head.Revision), head.ID+1, max(head.Epoch, 1)
	s.committed.Store(s.revision)
	s.head.Store(&head)
	s.loadEpochs(&l.epochs, head)
	s.rows.Store(l.rows)
	s.compact = neverCompacted
	if rev := int64(l.compaction.Revision); rev > 0 {
		s.compact = rev
	}
	s.compacted.Store(s.compact)
	s.restoreDeleted(l.compaction)
	s.lessor.loaded()
	s.scrub.compaction = l.compaction
	s.scrub.due = s.compact > 0
	if took := time.Since(l.started); took > reportEvery {
		s.cfg.Logger.WithFields(logrus.Fields{"rows": l.rows, "took": took}).Info("loaded the index")
	}
	return nil
}

func (l *loader) row(r *sqllog.Row) error {
	s := l.s
	l.rows++
	l.epochs.row(r)
	if l.rows&0x3fff == 0 && time.Since(l.reported) > reportEvery {
		l.reported = time.Now()
		s.cfg.Logger.WithFields(logrus.Fields{"rows": l.rows, "id": r.ID, "of": l.upTo}).Info("loading the index")
	}
	switch r.Kind {
	case sqllog.KindPut, sqllog.KindDelete:
		return l.change(r)
	case sqllog.KindLease:
		s.lessor.load(r, &s.scrub)
	case sqllog.KindCompact:
		l.compaction, l.compactRow = sqllog.Compaction{Revision: r.CreateRevision}, r.ID
		s.scrub.rows = append(s.scrub.rows, r.ID)
	case sqllog.KindEpoch, sqllog.KindMember:
	}
	return nil
}

// readDeleted fetches the value of the newest compact row.
func (l *loader) readDeleted(ctx context.Context) error {
	if l.compactRow == 0 {
		return nil
	}
	values, err := l.s.log.Values(ctx, []sqllog.ID{l.compactRow})
	if err != nil {
		return err
	}
	l.compaction.Deleted, err = sqllog.DecodeDeleted(values[0])
	return err
}

// change links the record of a put or delete row, which is newer than all
// before it.
func (l *loader) change(r *sqllog.Row) error {
	s := l.s
	e, ok := s.tree.Get(treeKey(r.Key))
	if !ok {
		e = &entry{key: append([]byte(nil), r.Key...)}
		s.tree.Set(treeKey(e.key), e)
	}
	rec := &record{
		entry: e, id: r.ID, mod: int64(r.Revision), create: int64(r.CreateRevision),
		version: r.Version, lease: r.Lease, sub: int32(r.Sub), size: int32(r.ValueSize),
		tombstone: r.Kind == sqllog.KindDelete,
	}
	prev := e.head.Load()
	rec.prev.Store(prev)
	e.head.Store(rec)
	if prev != nil {
		s.lessor.detach(prev.lease, e, rec.mod)
	}
	s.lessor.attach(rec.lease, e)
	s.history.append([]*record{rec})
	s.revision = rec.mod
	return nil
}

// restoreDeleted puts the deletes of the compacted revision, whose rows may be
// gone, back into the history: a watch may start at that revision.
func (s *Store) restoreDeleted(c sqllog.Compaction) {
	if len(c.Deleted) == 0 {
		return
	}
	rev := int64(c.Revision)
	present := s.history.from(nil, rev, rev, 1)
	bySub := map[int64]bool{}
	for _, r := range present {
		bySub[int64(r.sub)] = true
	}
	merged := present
	for _, d := range c.Deleted {
		if bySub[d.Sub] {
			continue
		}
		merged = append(merged, &record{
			entry: &entry{key: d.Key}, mod: rev, sub: int32(d.Sub), tombstone: true, dropped: true,
		})
	}
	s.history.replace(rev, merged)
}

// Head names the newest published row.
func (s *Store) Head() sqllog.Head { return *s.head.Load() }
