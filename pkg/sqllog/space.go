package sqllog

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
)

// ReserveWAL lengthens the file of the write-ahead log to at least n bytes, with
// zeros, of which SQLite takes no notice. It makes commits cheaper, not safer: one
// that overwrites what is there costs the file system no entry in its own journal,
// as one that lengthens the file does. The file keeps its length until Close. An
// error leaves the log as it was. Writes wait meanwhile.
func (l *Log) ReserveWAL(n int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	f, err := os.OpenFile(l.cfg.Path+"-wal", os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("reserve space for the write-ahead log: %w", err)
	}
	err = fillUp(f, n)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("reserve space for the write-ahead log: %w", err)
	}
	return nil
}

// fillUp appends zeros to a file until it has n bytes. After an error the file has the
// length it had: a disk without room must not lose the rest of it to zeros.
func fillUp(f *os.File, n int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	zeros := make([]byte, 1<<20)
	for at := info.Size(); at < n; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(n-at, int64(len(zeros)))], at); err != nil {
			return errors.Join(err, f.Truncate(info.Size()))
		}
	}
	return nil
}

// Size is what the database takes on disk, in bytes.
type Size struct {
	File  int64 // the database file, the write-ahead log not included
	InUse int64 // the part of it that holds data
}

// Size reads the size of the database file and of what is used of it.
func (l *Log) Size(ctx context.Context) (Size, error) {
	free, total, bytes, err := l.pages(ctx)
	return Size{File: total * bytes, InUse: (total - free) * bytes}, err
}

// FreePages is the number of unused pages of the file, and of all its pages.
func (l *Log) FreePages(ctx context.Context) (free, total int64, err error) {
	free, total, _, err = l.pages(ctx)
	return free, total, err
}

func (l *Log) pages(ctx context.Context) (free, total, bytes int64, err error) {
	r, err := l.readers.take(ctx)
	if err != nil {
		return 0, 0, 0, err
	}
	defer l.readers.put(r)
	row, err := r.size.first()
	if err != nil {
		return 0, 0, 0, fmt.Errorf("read size of log: %w", err)
	}
	n, err := integers(row, 3)
	if err != nil {
		return 0, 0, 0, fmt.Errorf("read size of log: %w", err)
	}
	return n[1], n[0], n[2], nil
}

// Rows counts the rows that are kept. It reads the whole table.
func (l *Log) Rows(ctx context.Context) (int64, error) {
	r, err := l.readers.take(ctx)
	if err != nil {
		return 0, err
	}
	defer l.readers.put(r)
	running, stop := l.readers.interruptible(ctx)
	defer stop()
	var n []int64
	err = r.count.each(running, func(row []driver.Value) (_ bool, err error) {
		n, err = integers(row, 1)
		return false, err
	})
	switch {
	case err == nil:
		return n[0], nil
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case running.Err() != nil:
		return 0, ErrClosed
	}
	return 0, fmt.Errorf("count rows: %w", err)
}

// Shrink gives up to maxPages unused pages back to the file system and reports
// how many are left. The file itself gets shorter with the next checkpoint,
// which follows soon. Writes wait for one call: the caller keeps it small.
func (l *Log) Shrink(maxPages int) (left int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, ErrClosed
	}
	err = l.writeLocked(func(w *writer) error {
		if maxPages > 0 { // SQLite takes 0 to mean all of them
			if _, err := w.pragma(fmt.Sprintf("incremental_vacuum(%d)", maxPages)); err != nil {
				return err
			}
		}
		row, err := w.pragma("freelist_count")
		if err != nil {
			return err
		}
		n, err := integers(row, 1)
		if err == nil {
			left = n[0]
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("give space back: %w", err)
	}
	if left == 0 {
		l.ckpt.start()
	}
	return left, nil
}
