package replicate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/peer"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// MemberLog is the log of a node of a cluster.
type MemberLog interface {
	Log
	Space
	EpochLog
	rowLog
	Head() sqllog.Head
	Promise(e sqllog.Epoch) (sqllog.Head, error)
	Promised() sqllog.Epoch
	TruncateIn(e sqllog.Epoch, to sqllog.Head) error
	// NoteCommitted has the next append record what is committed.
	NoteCommitted(h sqllog.Head)
	// Broken is why the log takes no writes before Recover; nil if it does.
	Broken() error
}

// MemberArchive is object storage of a node of a cluster.
type MemberArchive interface {
	Archive
	// Lead becomes Primary of an epoch, as far as log and chain are concerned, and
	// returns the epoch row's position. s3snap.ErrFenced: the chain holds the epoch, or
	// a higher one; s3snap.ErrReplaced: the log was replaced.
	Lead(ctx context.Context, e sqllog.Epoch) (sqllog.Head, error)
	// Resign ends what Lead has begun. It may be called without.
	Resign()
	// CatchUp brings the log of a Replica to the chain's end.
	CatchUp(ctx context.Context) error
	// Start begins the background work of a term; committed names the newest committed
	// row.
	Start(committed func() sqllog.Head)
	// UploadedElsewhere notes what the Primary says of the chain.
	UploadedElsewhere(id sqllog.ID)
	// UploadNow asks for the rows up to an id to be uploaded at once.
	UploadNow(id sqllog.ID)
	// Uploaded is the id up to which the chain is known to hold every row.
	Uploaded() sqllog.ID
}

// ClusterControl is what object storage says of the cluster.
type ClusterControl interface {
	LockStore
	Read(ctx context.Context) (elect.Cluster, error)
	RaiseKnown(ctx context.Context, known sqllog.Epoch, rule elect.Rule) (elect.Cluster, error)
	Settle(ctx context.Context, e sqllog.Epoch) error
	ChangeMembers(ctx context.Context, e sqllog.Epoch, change func(*elect.Cluster) error) (elect.Cluster, error)
}

// Peers are the other nodes.
type Peers interface {
	Send(to elect.NodeID, m elect.Message)
	Follow(ctx context.Context, to elect.NodeID, open peer.FollowOpen) (Following, error)
	Forward(ctx context.Context, to elect.NodeID, r *peerpb.ForwardRequest) (*peerpb.ForwardResponse, error)
	Committed(ctx context.Context, to elect.NodeID, e sqllog.Epoch) (sqllog.ID, error)
}

// Following is the Replica's side of a stream of rows.
type Following interface {
	Opened() peer.FollowOpened
	Recv() (*peer.Frame, error)
	Receipt(id sqllog.ID)
	Close()
}

// MemberConfig of a Member. All but the times is needed.
type MemberConfig struct {
	Self    elect.NodeID
	Rule    elect.Rule
	Cluster elect.Cluster // as cluster.json has it
	Log     MemberLog
	Store   *mvcc.Store
	Archive MemberArchive
	Control ClusterControl
	Peers   Peers
	// Primary is what the write path is configured with while this node is Primary.
	Primary Config
	// Clock runs during suspend too.
	Clock func() time.Duration
	// Describe completes what the node says of itself.
	Describe func(*peerpb.NodeState)
	// Names tells the name of a node, and whether no node has that disk any more: it is
	// lost, or the node was removed.
	Names func(elect.NodeID) (name string, gone bool)
	// Status turns an error of this package, or of what is below it, into what clients
	// get: a gRPC status.
	Status func(error) error
	// Deregister takes a node off the list of those that are there: its vote was taken
	// away. It does not block.
	Deregister func(elect.NodeID)
	// StaleRead serves linearizable reads as serializable ones.
	StaleRead bool

	Heartbeat, Suspicion time.Duration // 0: the defaults
	DeregisterAfter      time.Duration // 0: never
	MaxPendingUpload     int64         // of QuorumConfig
	OnFatal              func(error)
	Logger               logrus.FieldLogger
}

// Member is one node's part in a cluster: it follows, elects, leads, and answers
// clients whichever it does. Its methods may be called concurrently.
type Member struct {
	cfg     MemberConfig
	self    elect.NodeID
	log     MemberLog
	store   *mvcc.Store
	archive MemberArchive
	peers   Peers
	logger  logrus.FieldLogger
	metrics *memberMetrics
	room    room

	control   *control
	lock      electorLock
	roles     *roles
	applier   *applier
	scrubber  *scrubber
	leader    leader
	followers followers
	current   atomic.Pointer[Primary] // nil on a Replica
	streaming atomic.Bool             // rows come from the Primary
	joined    atomic.Bool             // this process was in step with a Primary, or was one
	behind    atomic.Int64            // rows that the Primary has committed and the index does not have
	reads     readIndex
	lastSize  atomic.Pointer[sqllog.Size]

	ctx     context.Context
	cancel  context.CancelFunc
	closing sync.Mutex // held where wg grows, and where ctx ends
	wg      sync.WaitGroup
}

// NewMember starts a node's part in its cluster, as a Replica.
func NewMember(cfg MemberConfig) *Member {
	if cfg.Suspicion == 0 {
		cfg.Suspicion = elect.DefaultSuspicion
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = elect.DefaultHeartbeat
	}
	if cfg.Deregister == nil {
		cfg.Deregister = func(elect.NodeID) {}
	}
	cfg.Primary.Compaction.setDefaults()
	m := &Member{
		cfg: cfg, self: cfg.Self, log: cfg.Log, store: cfg.Store, archive: cfg.Archive, peers: cfg.Peers,
		logger: cfg.Logger, roles: newRoles(), metrics: newMemberMetrics(cfg.Clock()), lock: electorLock{store: cfg.Control},
	}
	m.room.clock = cfg.Clock
	m.log = roomLog{cfg.Log, &m.room}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.applier = &applier{log: cfg.Log, note: cfg.Log.NoteCommitted, voted: m.voted, store: cfg.Store}
	m.applier.published(cfg.Store.Head()) // rows that come next are not known to be committed
	m.scrubber = newScrubber(scrubberConfig{
		store: cfg.Store, space: cfg.Log, batchSize: cfg.Primary.Compaction.BatchSize, logger: cfg.Logger,
		stop: m.ctx.Done(), uploaded: cfg.Archive.WaitUploaded,
	})
	m.applier.scrub = m.scrubber.wakeUp
	core := elect.New(elect.Config{
		Self: cfg.Self, Promise: cfg.Log.Promised(), Cluster: cfg.Cluster,
		Heartbeat: cfg.Heartbeat, Suspicion: cfg.Suspicion, Random: rand.Int64N,
	}, cfg.Clock())
	m.control = &control{m: m, clock: cfg.Clock, core: core, acked: make(map[elect.NodeID]time.Duration), full: make(map[elect.NodeID]bool)}
	m.leader.init()
	m.followers.init(m)
	return m
}

// Start lets the node take part.
func (m *Member) Start() {
	m.wg.Go(func() { m.roles.run(m.ctx) })
	m.wg.Go(func() { m.control.tick(m.cfg.Heartbeat / 5) })
	m.wg.Go(func() { m.control.inform(m.cfg.Suspicion) })
	m.wg.Go(m.keepLock)
	m.wg.Go(m.watchDisk)
	m.wg.Go(m.scrubber.run)
}

// Close ends everything. What was acknowledged is durable by the commit rule.
func (m *Member) Close() {
	m.control.close()
	m.closing.Lock()
	m.cancel()
	m.closing.Unlock()
	m.wg.Wait()
}

// spawn runs fn beside the caller; Close waits for it. It reports false once that has
// begun.
func (m *Member) spawn(fn func()) bool {
	m.closing.Lock()
	defer m.closing.Unlock()
	if m.ctx.Err() != nil {
		return false
	}
	m.wg.Go(fn)
	return true
}

// untilClosed is ctx, but ends with the Member too.
func (m *Member) untilClosed(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(m.ctx, func() { cancel(ErrStopped) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// Receive implements peer.Handler.
func (m *Member) Receive(from elect.NodeID, msg elect.Message) { m.control.receive(from, msg) }

// keepLock renews the Elector's lock where another node might wait for it to expire.
func (m *Member) keepLock() {
	ticker := time.NewTicker(lockRenewal)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-m.ctx.Done():
			return
		}
		if s := m.control.state(); !s.elector || s.cluster.Rule == elect.Majority {
			continue
		}
		if err := m.lock.renew(m.ctx); errors.Is(err, s3snap.ErrConflict) {
			m.control.do(func(core *elect.Core, _ time.Duration) { core.LockLost() })
		}
	}
}

// Uploaded tells that the chain holds every row up to an id, by the word of the
// Primary of an epoch.
func (m *Member) Uploaded(e sqllog.Epoch, end sqllog.Head) {
	if p := m.primary(); p != nil && p.quorum.cfg.Cluster.Epoch == e {
		p.quorum.uploaded(end.ID)
	}
}

// ArchiveDeposed tells that the chain is another Primary's now.
func (m *Member) ArchiveDeposed(e sqllog.Epoch, err error) {
	if p := m.primary(); p != nil && p.quorum.cfg.Cluster.Epoch <= e {
		p.quorum.stop(err)
	}
}

func (m *Member) primary() *Primary { return m.current.Load() }

func (m *Member) setPrimary(p *Primary) { m.current.Store(p) }

// deposeNow ends commits by receipts of a Primary up to an epoch.
func (m *Member) deposeNow(e sqllog.Epoch) {
	if p := m.primary(); p != nil && p.quorum.cfg.Cluster.Epoch <= e {
		p.quorum.depose()
	}
}

// catchUp brings this Replica's log to the chain, and says so if it could not.
func (m *Member) catchUp(ctx context.Context) error {
	m.logger.Info("catching up from object storage")
	m.applier.forget()
	err := m.archive.CatchUp(ctx)
	if err != nil && ctx.Err() == nil {
		m.room.note(err, m.log)
		m.checkReplaced(err)
		m.logger.WithError(err).Warn("could not catch up from object storage")
	}
	return err
}

// headAt is the row at a position of the log.
func (m *Member) headAt(ctx context.Context, at elect.Position) (sqllog.Head, error) {
	if h := m.store.Head(); h.ID == at.ID {
		return h, nil
	}
	if at.ID == 0 {
		return sqllog.Head{Revision: 1}, nil
	}
	var head sqllog.Head
	err := m.log.Scan(ctx, at.ID-1, at.ID, func(r *sqllog.Row) error {
		head = sqllog.Head{ID: r.ID, Epoch: r.Epoch, Revision: r.Revision}
		return nil
	})
	if err == nil && (head.ID != at.ID || head.Epoch != at.Epoch) {
		err = fmt.Errorf("%w: row %d of epoch %d is not in the log", ErrDivergence, at.ID, at.Epoch)
	}
	return head, err
}

func historyOf(starts []mvcc.EpochStart) History {
	h := make(History, len(starts))
	for i, s := range starts {
		h[i] = Reign{Epoch: s.Epoch, First: s.First}
	}
	return h
}

// confirmPrimary returns nil when this node was the Primary after it was called: by
// the word of enough members, or else by a look at the chain.
func (m *Member) confirmPrimary(ctx context.Context) error {
	p := m.primary()
	if p == nil {
		return ErrNotPrimary
	}
	if p.quorum.cfg.Cluster.Rule != elect.ObjectStorage {
		err := m.control.confirm(ctx, m.cfg.Suspicion/4)
		if !errors.Is(err, errSlow) {
			return err
		}
	}
	err := m.archive.Confirm(ctx)
	deposed := err != nil && ctx.Err() == nil && m.primary() != p // what it had under way was cancelled
	if deposed || errors.Is(err, s3snap.ErrFenced) || errors.Is(err, s3snap.ErrResigned) {
		err = fmt.Errorf("%w: %w", ErrNotPrimary, err)
	}
	return err
}

var (
	_ peer.Handler  = (*Member)(nil)
	_ MemberArchive = (*s3snap.Archive)(nil)
)
