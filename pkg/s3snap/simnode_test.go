package s3snap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// simNode is one node of a simulation: a disk, and one life after the other.
type simNode struct {
	sim  *simulation
	name string
	r    *rand.Rand
	disk string
	life int
	old  string // copy of an earlier disk, empty if there is none
}

// simLife is a node from its start to its crash.
type simLife struct {
	*simNode
	name      string
	store     *simStore
	log       *sqllog.Log
	archive   *Archive
	ctx       context.Context
	end       context.CancelFunc
	committed atomic.Pointer[sqllog.Head]
}

func (n *simNode) chance(p float64) bool { return n.r.Float64() < p }

// run lets the node live and crash until the simulation is over.
func (n *simNode) run() {
	for !n.sim.over() {
		n.changeDisk()
		n.live()
		n.rest(span(n.r, 4*time.Second))
	}
}

// rest waits for the next life, at most until another node falls asleep.
func (n *simNode) rest(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-n.sim.dozes:
	}
}

// changeDisk sometimes gives the node an empty disk, or one from earlier.
func (n *simNode) changeDisk() {
	if n.sim.oneDisk {
		return
	}
	switch {
	case n.chance(0.15):
		n.disk = n.sim.newDisk()
	case n.old != "" && n.chance(0.15) && n.sim.byChunk():
		n.disk, n.old = n.old, ""
		n.sim.truth.count(&n.sim.truth.stats.oldDisks, 1)
	}
	if n.chance(0.2) {
		n.copyDisk()
	}
}

func (n *simNode) copyDisk() {
	body, err := os.ReadFile(n.disk)
	if err != nil {
		return // it is empty
	}
	n.old = n.sim.newDisk()
	if err := os.WriteFile(n.old, body, 0o600); err != nil {
		n.sim.t.Error(err)
	}
}

func (n *simNode) config(store object.Store, byChunk bool, fatal func(error)) Config {
	cfg := Config{
		Store: store, Path: n.disk, CommitByChunk: byChunk, Logger: n.sim.quiet, OnFatal: fatal,
		UploadInterval: time.Second, UploadBytes: 200 + n.r.IntN(400),
		SnapshotRetention: 1 + n.r.IntN(2), RetentionTime: span(n.r, 2*simMinAge),
		minAge: simMinAge, clock: n.sim.clock,
	}
	if n.sim.sleepy || n.sim.drowsy {
		cfg.SnapshotRetention, cfg.RetentionTime = 1, time.Millisecond
	}
	return cfg
}

// live is one life.
func (n *simNode) live() {
	n.life++
	l := &simLife{simNode: n, name: fmt.Sprintf("%s.%d", n.name, n.life)}
	l.store = n.sim.net.store(l.name)
	longest := 60 * time.Second
	if n.sim.sleepy {
		longest = 150 * time.Second
	}
	l.ctx, l.end = context.WithTimeout(context.Background(), time.Second+span(n.r, longest))
	defer l.end()
	if !l.open(n.config(l.store, n.sim.byChunk(), func(error) { l.end() })) {
		return
	}
	var work sync.WaitGroup
	work.Go(func() { l.write(l.random("write")) })
	work.Go(func() { l.read(l.random("read")) })
	work.Go(func() { l.keep(l.random("keep")) })
	work.Go(func() { l.disturb(l.random("disturb")) })
	<-l.ctx.Done()
	l.crash(&work)
}

func (l *simLife) random(what string) *rand.Rand { return l.sim.net.random(l.name, what) }

// open starts the node; it may be cut off at any moment.
func (l *simLife) open(cfg Config) bool {
	log, archive, err := Open(l.ctx, cfg)
	if err != nil {
		l.sim.truth.count(&l.sim.truth.stats.failedOpens, 1)
		l.judgeOpen(err)
		close(l.store.crashed)
		return false
	}
	l.sim.truth.count(&l.sim.truth.stats.opened, 1)
	l.log, l.archive = log, archive
	head := log.Head()
	l.committed.Store(&head)
	archive.Start(func() sqllog.Head { return *l.committed.Load() })
	l.check()
	return true
}

// judgeOpen complains of what a start may not meet.
func (l *simLife) judgeOpen(err error) {
	switch {
	case l.ctx.Err() != nil, errors.Is(err, ErrFenced), errors.Is(err, object.ErrUnavailable), errors.Is(err, errMoved):
	case errors.Is(err, ErrOtherCluster):
		l.disk = l.sim.newDisk() // two nodes began a cluster, and the other one was first
	default:
		l.sim.truth.complain("%s: start: %v", l.name, err)
	}
}

// crash ends a life with requests under way.
func (l *simLife) crash(work *sync.WaitGroup) {
	if l.r.IntN(4) > 0 {
		close(l.store.crashed)
	} else {
		defer close(l.store.crashed)
	}
	l.archive.Interrupt()
	work.Wait()
	l.stop()
}

func (l *simLife) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	asked := time.Now()
	l.archive.Close(ctx)
	if took := time.Since(asked); took > 3*time.Second {
		l.sim.truth.complain("%s: close took %s", l.name, took)
	}
	l.check()
	if err := l.log.Close(); err != nil {
		l.sim.truth.complain("%s: close log: %v", l.name, err)
	}
	l.countAside()
}

func (l *simLife) countAside() {
	if found, _ := filepath.Glob(l.disk + ".aside-*"); len(found) > 0 {
		l.sim.truth.count(&l.sim.truth.stats.aside, len(found))
		for _, path := range found {
			_ = os.Remove(path)
		}
	}
}

// check compares the log and what is said to be uploaded with the chain.
func (l *simLife) check() {
	l.sim.truth.uploaded(l.name, l.archive.Uploaded())
	release := l.log.HoldRemoval()
	defer release()
	if !l.sim.byChunk() {
		return // rows that the chain does not have are cut at the next start
	}
	head := l.log.Head()
	if end := l.archive.chain.Load().End(); end.ID < head.ID {
		head = end
	}
	rows, err := scanRows(l.log, head.ID)
	if err != nil {
		l.sim.truth.complain("%s: scan: %v", l.name, err)
	}
	l.sim.truth.holds(l.name, rows, head, l.log.Compaction())
}

func scanRows(log *sqllog.Log, upTo sqllog.ID) (rows []sqllog.Row, err error) {
	err = log.Scan(context.Background(), 0, upTo, func(r *sqllog.Row) error {
		rows = append(rows, cloneRow(r))
		return nil
	})
	return rows, err
}

// sleep waits; it reports false when the life is over.
func (l *simLife) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.ctx.Done():
		return false
	}
}

// write commits groups one after the other.
func (l *simLife) write(r *rand.Rand) {
	for l.sleep(span(r, 1200*time.Millisecond)) {
		rows := l.group(r)
		if err := l.log.Append(rows); err != nil {
			l.sim.truth.complain("%s: append: %v", l.name, err)
			return
		}
		l.sim.truth.named(l.log.Identity().Cluster, rows)
		err := l.archive.Commit(rows)
		if errors.Is(err, ErrUnavailable) {
			continue // it does not come from what is to be tested, but from a mutation of it
		}
		if err != nil {
			if errors.Is(err, ErrFenced) {
				l.sim.truth.count(&l.sim.truth.stats.fenced, 1)
			}
			l.end()
			return
		}
		head := headOf(&rows[len(rows)-1])
		l.committed.Store(&head)
		if l.sim.byChunk() {
			l.sim.truth.ack(l.name, rows)
		}
		l.archive.Committed(head.ID, 50*len(rows))
		if last := rows[len(rows)-1]; last.Kind == sqllog.KindCompact {
			l.remove(&last)
		}
	}
}

// group makes rows that follow the head: a Txn or two, and sometimes a compaction.
func (l *simLife) group(r *rand.Rand) (rows []sqllog.Row) {
	head := l.log.Head()
	add := func(row sqllog.Row) {
		row.ID, row.Epoch = head.ID+sqllog.ID(len(rows))+1, max(head.Epoch, 1)
		row.WrittenAt = time.Now().UnixMilli() - r.Int64N(5000)
		rows = append(rows, row)
	}
	rev := head.Revision
	for range 1 + r.IntN(2) {
		rev++
		for sub := range 1 + r.Int64N(3) {
			row := sqllog.Row{Revision: rev, Sub: sub, Kind: sqllog.KindPut, Key: fmt.Appendf(nil, "key-%d-%d", r.IntN(6), sub),
				Value: fmt.Appendf(nil, "%s-%d", l.name, rev), CreateRevision: rev, Version: 1}
			if r.IntN(5) == 0 {
				row.Kind, row.Value, row.CreateRevision, row.Version = sqllog.KindDelete, nil, 0, 0
			}
			add(row)
		}
	}
	if r.IntN(4) == 0 {
		add(sqllog.Row{Revision: rev, Kind: sqllog.KindCompact, CreateRevision: max(rev-sqllog.Revision(r.IntN(4)), 1)})
	}
	return rows
}

// remove lets go what a compact row says, once it is uploaded.
func (l *simLife) remove(compact *sqllog.Row) {
	if err := l.archive.WaitUploaded(l.ctx.Done(), compact.ID); err != nil {
		return
	}
	rows, err := scanRows(l.log, compact.ID)
	if err != nil {
		l.sim.truth.complain("%s: scan: %v", l.name, err)
		return
	}
	c := compactedTo(rows, compact.ID)
	ids := removable(rows, compact.ID, c)
	c = max(c, l.log.Compaction().Revision)
	for len(ids) > 0 && l.ctx.Err() == nil {
		n := min(2, len(ids))
		if err := l.log.Remove(ids[:n], sqllog.Compaction{Revision: c}); err != nil {
			l.sim.truth.complain("%s: remove: %v", l.name, err)
			return
		}
		ids = ids[n:]
		l.sim.truth.count(&l.sim.truth.stats.removed, n)
	}
}

// read confirms reads.
func (l *simLife) read(r *rand.Rand) {
	for l.sleep(span(r, 900*time.Millisecond)) {
		need := l.sim.truth.newestAcked()
		ctx, cancel := context.WithTimeout(l.ctx, span(r, 6*time.Second))
		err := l.archive.Confirm(ctx)
		cancel()
		if err != nil || !l.sim.byChunk() {
			continue
		}
		l.sim.truth.count(&l.sim.truth.stats.confirmed, 1)
		if has := l.committed.Load().ID; has < need {
			l.sim.truth.complain("%s: a read is confirmed at row %d; row %d was acknowledged before it arrived", l.name, has, need)
		}
	}
}

// keep takes snapshots, applies the retention, and restores.
func (l *simLife) keep(r *rand.Rand) {
	pause := 5 * time.Second
	if l.sim.sleepy {
		pause /= 3
	}
	if l.sim.drowsy {
		pause /= 20
	}
	for l.sleep(span(r, pause)) {
		l.sim.truth.uploaded(l.name, l.archive.Uploaded())
		chain := l.archive.chain.Load()
		if chain == nil {
			continue
		}
		switch r.IntN(4) {
		case 0:
			l.snapshot(chain)
		case 1:
			l.snapshot(chain)
			l.retain()
		case 2:
			l.retain()
		case 3:
			ctx, cancel := context.WithTimeout(l.ctx, 30*time.Second)
			l.sim.restore(ctx, l.name, l.store, r)
			cancel()
		}
	}
}

func (l *simLife) snapshot(chain *Chain) {
	if chain.End().ID > 0 && (&snapshotKeeper{}).take(l.archive, chain) == nil {
		l.sim.truth.count(&l.sim.truth.stats.snapshots, 1)
	}
}

func (l *simLife) retain() {
	if applyRetention(l.archive.keeping, l.archive.cfg) == nil {
		l.sim.truth.count(&l.sim.truth.stats.retentions, 1)
	}
}

// disturb cuts the node off now and then.
func (l *simLife) disturb(r *rand.Rand) {
	for l.sleep(span(r, 25*time.Second)) {
		switch {
		case l.sim.sleepy:
			l.store.partition(simMinAge + span(r, 2*simMinAge))
			l.sleep(2 * simMinAge)
		case l.sim.net.rate > 0:
			l.store.partition(span(r, 2*simMinAge))
		}
	}
}

// restore makes a log of the chain up to a random revision, and checks it.
func (s *simulation) restore(ctx context.Context, who string, store object.Store, r *rand.Rand) {
	before := s.truth.end()
	target := Target{}
	if r.IntN(3) > 0 && before.Revision > 1 {
		target.Revision = 1 + sqllog.Revision(r.Int64N(int64(before.Revision)))
	}
	if all, err := Snapshots(ctx, s.net.mem); err == nil && len(all) > 0 && r.IntN(3) == 0 {
		target.Revision = sqllog.Revision(all[len(all)-1].Revision)
	}
	path := s.newDisk()
	out, err := Restore(ctx, RestoreConfig{Store: store, Path: path, Target: target, NewCluster: true, Logger: s.quiet})
	if err != nil {
		s.judgeRestore(ctx, who, target, err)
		return
	}
	s.truth.count(&s.truth.stats.restores, 1)
	log, err := sqllog.Open(context.Background(), sqllog.Config{Path: path, Logger: s.quiet})
	if err != nil {
		s.truth.complain("%s: open what is restored: %v", who, err)
		return
	}
	defer log.Close()
	head := log.Head()
	s.truth.mu.Lock()
	n := int(head.ID)
	switch {
	case head != out.Head, n > len(s.truth.rows), n > 0 && headOf(&s.truth.rows[n-1]) != head:
		s.truth.wrongLocked("%s: restored head %+v", who, head)
	case target.Revision == 0 && head.ID < before.ID:
		s.truth.wrongLocked("%s: restored to %d, the chain ended at %d before", who, head.ID, before.ID)
	case target.Revision > 0 && (head.Revision > target.Revision || (n < len(s.truth.rows) && s.truth.rows[n].Revision <= target.Revision)):
		s.truth.wrongLocked("%s: restored to row %d of revision %d instead of all of revision %d", who, head.ID, head.Revision, target.Revision)
	}
	s.truth.mu.Unlock()
	rows, err := scanRows(log, head.ID)
	if err != nil {
		s.truth.complain("%s: scan: %v", who, err)
	}
	s.truth.holds(who+" restored", rows, head, log.Compaction())
}

// judgeRestore complains of what a restore may not meet.
func (s *simulation) judgeRestore(ctx context.Context, who string, target Target, err error) {
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, ErrNoHistory):
		floor, _, floorErr := readFloor(context.Background(), s.net.mem)
		s.truth.mu.Lock()
		defer s.truth.mu.Unlock()
		if floorErr != nil || int(floor) > len(s.truth.rows) || (len(s.truth.rows) > 0 && (target.Revision == 0 || floor == 0 || s.truth.rows[floor-1].Revision <= target.Revision)) {
			s.truth.wrongLocked("%s: restore to %d with the floor at %d: %v, %v", who, target.Revision, floor, err, floorErr)
		}
	default:
		s.truth.complain("%s: restore: %v", who, err)
	}
}

// newDisk names a new disk.
func (s *simulation) newDisk() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disks++
	dir := filepath.Join(s.dir, fmt.Sprint(s.disks))
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		s.t.Error(err)
	}
	return filepath.Join(dir, "kinsy.db")
}

// chunksAbove reads the chain as it lies in the store.
func (s *simulation) chunksAbove(floor sqllog.ID) {
	next := sqllog.ID(0)
	_ = s.net.mem.List(context.Background(), chunkPrefix, "", func(info object.Info) error {
		first, _ := parseChunkKey(strings.TrimSpace(info.Key))
		if first <= floor {
			return nil
		}
		if next == 0 && first != floor+1 || next > 0 && first != next {
			s.truth.complain("the chunk at %d follows row %d, above floor %d", first, next-1, floor)
		}
		k, err := readChunk(context.Background(), s.net.mem, info.Key)
		if err != nil {
			s.truth.complain("%v", err)
			return err
		}
		next = k.header.Head.ID + 1
		return nil
	})
	if end := s.truth.end().ID; next > 0 && next != end+1 {
		s.truth.complain("the store's chunks end at %d, the chain at %d", next-1, end)
	}
}
