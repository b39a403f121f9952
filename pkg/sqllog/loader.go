package sqllog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	// loadingSuffix is put after the path of a log while it is being made.
	loadingSuffix = ".loading"
	// loadBytes of rows, about, go into one transaction of a Loader.
	loadBytes = 4 << 20
)

// sidecars are what SQLite keeps beside a database file, by what is put after
// the file's name.
var sidecars = [...]string{"-wal", "-shm", "-journal"}

// Loader makes a new log of rows made elsewhere: those of a snapshot, or of an
// import. The log is made under another name, PATH.loading, and takes its own
// when Finish has made it durable: whatever ends the process, there is either no
// log or all of it. A Loader is not safe for concurrent use.
type Loader struct {
	ctx     context.Context
	log     string // path of the log
	cfg     Config // Path is that of the file being made
	version int    // of the schema
	w       *writer
	order   order
	hole    ID    // the newest id that is missing below the last row
	pending int64 // bytes of rows in the transaction; 0: none is open
	err     error // why the file is of no use
	done    bool  // Finish has moved the file, or Abort has removed it
}

// NewLoader begins a log at cfg.Path, of the cluster cfg.Cluster or of a random
// one. Where Open would find a log the error is fs.ErrExist; a file that is no
// log is refused as Open refuses it. What an earlier Loader has left is removed;
// only one may work on a path. Once ctx ends, Add and Finish fail with its
// error. Abort must be called in the end, and is free after Finish.
func NewLoader(ctx context.Context, cfg Config) (*Loader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("find log file: %w", err)
	}
	cfg.Path = path
	l := &Loader{ctx: ctx, log: path, cfg: cfg, order: newOrder(Head{Revision: 1}, true)}
	l.cfg.Path += loadingSuffix
	if err := l.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("load log %s: %w", path, err), l.Abort())
	}
	return l, nil
}

func (l *Loader) open() error {
	d, err := newSQLiteDialect()
	if err != nil {
		return err
	}
	steps, err := migrations(d.name)
	if err != nil {
		return err
	}
	l.version = len(steps)
	if err := l.noLog(); err != nil {
		return err
	}
	if err := l.createFile(); err != nil {
		return err
	}
	c, err := openConn(sqliteLoaderDSN(l.cfg), d.classify)
	if err != nil {
		return err
	}
	if l.w, err = newWriter(c); err != nil {
		return err
	}
	if err := l.w.migrate(d, steps); err != nil {
		return err
	}
	return l.w.prepareTables(d)
}

// noLog checks that there is no log where the new one is to stand.
func (l *Loader) noLog() error {
	at := l.cfg
	at.Path, at.Cluster = l.log, 0
	version, err := probeSQLite(at, l.version)
	if err == nil && version > 0 {
		err = fmt.Errorf("%w: there is a log already", fs.ErrExist)
	}
	return err
}

// createFile makes the empty file, for its owner only: SQLite would let everyone
// read it.
func (l *Loader) createFile() error {
	if err := l.removeFile(); err != nil {
		return err
	}
	f, err := os.OpenFile(l.cfg.Path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("create file: %w", err)
	}
	return f.Close()
}

// Add adds rows in ascending order of id; ids may be left out, for rows that are
// no longer kept. Otherwise the rows must keep the invariants of the log
// (ErrGap, ErrInvalidRow; nothing of the call is added then, and the Loader goes
// on). After any other error the Loader can only be aborted. The rows may be
// reused after it returns. Nothing is durable before Finish.
func (l *Loader) Add(rows []Row) error {
	if err := l.usable(); err != nil {
		return err
	}
	o, hole := l.order, l.hole
	for i := range rows {
		if id := rows[i].ID; id > o.head.ID+1 {
			hole = id - 1
		}
		if err := o.next(&rows[i]); err != nil {
			return fmt.Errorf("load rows: %w", err)
		}
	}
	if l.err = l.insert(rows); l.err != nil {
		return l.err
	}
	l.order, l.hole = o, hole
	return nil
}

func (l *Loader) usable() error {
	switch {
	case l.done:
		return ErrClosed
	case l.err != nil:
		return l.err
	}
	return l.ctx.Err()
}

func (l *Loader) insert(rows []Row) error {
	if len(rows) == 0 {
		return nil
	}
	if l.pending == 0 {
		if err := l.w.begin.exec(); err != nil {
			return fmt.Errorf("load rows: begin: %w", err)
		}
	}
	l.pending += rowsSize(rows)
	if err := l.w.insert(rows); err != nil {
		return fmt.Errorf("load rows %d to %d: %w", rows[0].ID, rows[len(rows)-1].ID, err)
	}
	if l.pending < loadBytes {
		return nil
	}
	return l.commit()
}

func (l *Loader) commit() error {
	if l.pending == 0 {
		return nil
	}
	l.pending = 0
	if err := l.w.commit.exec(); err != nil {
		return fmt.Errorf("load rows: commit: %w", err)
	}
	return nil
}

// Finish makes the log durable and puts it in its place. From then on it is as
// if every row up to head had been appended, and those that Add was not given
// removed by compaction, which c describes (the zero Compaction: there was
// none). head is at or above the last row, and names it if it is at it; an empty
// log has the head of one (ErrInvalidRow). After an error there is no log,
// unless it was the folder's sync that failed: then there is the whole log,
// which a crash of the machine may take away.
func (l *Loader) Finish(head Head, c Compaction) error {
	if err := l.usable(); err != nil {
		return err
	}
	if err := l.checkEnd(head, c); err != nil {
		return fmt.Errorf("finish log: %w", err)
	}
	if l.err = l.finish(head, c); l.err != nil {
		l.err = fmt.Errorf("finish log %s: %w", l.log, l.err)
	}
	return l.err
}

// checkEnd refuses a head and a compaction that no log with these rows has.
func (l *Loader) checkEnd(head Head, c Compaction) error {
	last := l.order.head
	switch _, err := checkedHead(int64(head.ID), int64(head.Epoch), int64(head.Revision)); {
	case err != nil, head.ID > 0 && head.Epoch < 1, head.ID < last.ID, head.ID == last.ID && head != last,
		head.Epoch < last.Epoch, head.Revision < last.Revision:
		return fmt.Errorf("%w: head is %+v, the last row %+v", ErrInvalidRow, head, last)
	case c.Revision < 0 || c.Revision > head.Revision || c.Revision == 0 && len(c.Deleted) > 0:
		return fmt.Errorf("%w: compacted to revision %d, with %d deleted keys, at revision %d",
			ErrInvalidRow, c.Revision, len(c.Deleted), head.Revision)
	}
	for _, k := range c.Deleted {
		if k.Sub < 0 || len(k.Key) == 0 {
			return fmt.Errorf("%w: a deleted key of %d bytes at position %d", ErrInvalidRow, len(k.Key), k.Sub)
		}
	}
	return nil
}

func (l *Loader) finish(head Head, c Compaction) error {
	if err := l.commit(); err != nil {
		return err
	}
	// From here on a commit syncs the file, and so all that was written before.
	if _, err := l.w.pragma("synchronous(FULL)"); err != nil {
		return err
	}
	if err := l.w.tx(func() error { return l.putMeta(head, c) }); err != nil {
		return err
	}
	if err := l.closeWriter(); err != nil {
		return fmt.Errorf("close file: %w", err)
	}
	if err := errors.Join(l.ctx.Err(), l.noLog()); err != nil {
		return err
	}
	// A creation of the log that was cut short may have left them.
	if err := removeFiles(l.log, sidecars[:]...); err != nil {
		return err
	}
	if err := os.Rename(l.cfg.Path, l.log); err != nil {
		return fmt.Errorf("put log in its place: %w", err)
	}
	l.done = true
	return syncDir(l.log)
}

// putMeta records what the rows do not say.
func (l *Loader) putMeta(head Head, c Compaction) error {
	id, err := newIdentity(l.cfg.Cluster)
	if err != nil {
		return err
	}
	if err := l.w.putIdentity(id); err != nil {
		return err
	}
	if head.Epoch > 0 {
		if err := l.w.putPromise(head.Epoch); err != nil {
			return err
		}
	}
	if removed := l.removedHead(head); removed.ID > 0 {
		if err := l.w.putMeta(metaRemovedHead, encodeHead(removed)); err != nil {
			return err
		}
	}
	if c.Revision == 0 {
		return nil
	}
	return l.w.putMeta(metaCompaction, encodeCompaction(c.Revision, EncodeDeleted(c.Deleted)))
}

// removedHead names the newest row that is missing. Of one below the last row
// nothing is known but its id.
func (l *Loader) removedHead(head Head) Head {
	if head.ID > l.order.head.ID {
		return head
	}
	return Head{ID: l.hole, Revision: 1}
}

// Abort ends the loading and removes its file. After Finish has put the log in
// its place, and after a first Abort, it does nothing.
func (l *Loader) Abort() error {
	if l.done {
		return nil
	}
	l.done = true
	// The file goes away: what closing it would say does not matter.
	_ = l.closeWriter()
	return l.removeFile()
}

func (l *Loader) closeWriter() error {
	w := l.w
	l.w = nil
	if w == nil {
		return nil
	}
	return w.close()
}

// removeFile removes the file being made, and what SQLite may have put beside
// it.
func (l *Loader) removeFile() error {
	return removeFiles(l.cfg.Path, append(sidecars[:], "")...)
}

// removeFiles removes files named by what follows a path; absent ones are passed
// over.
func removeFiles(path string, suffixes ...string) error {
	for _, s := range suffixes {
		if err := os.Remove(path + s); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove file: %w", err)
		}
	}
	return nil
}
