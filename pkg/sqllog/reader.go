package sqllog

import (
	"context"
	"errors"
)

// readerConns is how many connections read at the same time.
const readerConns = 3

// reader is one connection that reads, with its prepared statements.
type reader struct {
	*conn
	scan, scanKeys, last, count, size *stmt
	values                            [len(idSizes)]*stmt
}

func openReader(cfg Config, d *dialect) (*reader, error) {
	c, err := openSQLite(sqliteReaderDSN(cfg), d.classify)
	if err != nil {
		return nil, err
	}
	r := &reader{conn: c}
	list := []prepared{
		{&r.scan, d.scan.text, d.scan.params},
		{&r.scanKeys, d.scanKeys.text, d.scanKeys.params},
		{&r.last, d.lastUpTo.text, d.lastUpTo.params},
		{&r.count, d.count.text, d.count.params},
		{&r.size, sqliteSize, 0},
	}
	for i, s := range d.values {
		list = append(list, prepared{&r.values[i], s.text, s.params})
	}
	if err := r.prepareAll(list); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *reader) close() error {
	return r.closeAll(append(r.values[:], r.scan, r.scanKeys, r.last, r.count, r.size)...)
}

// readers is a pool of readers. A reader is taken for one short statement, never
// while a caller's function runs: so no read transaction is open for long, which
// would keep the write-ahead log from being started over.
type readers struct {
	free    chan *reader
	closing context.Context // done once the pool closes
	cancel  context.CancelCauseFunc
	opened  int
}

func openReaders(cfg Config, d *dialect) (*readers, error) {
	p := &readers{free: make(chan *reader, readerConns)}
	p.closing, p.cancel = context.WithCancelCause(context.Background())
	for range readerConns {
		r, err := openReader(cfg, d)
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		p.free <- r
		p.opened++
	}
	return p, nil
}

// take waits for a free reader. The caller gives it back by put.
func (p *readers) take(ctx context.Context) (*reader, error) {
	if p.closing.Err() != nil {
		return nil, ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case r := <-p.free:
		return r, nil
	case <-p.closing.Done():
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *readers) put(r *reader) { p.free <- r }

// interruptible gives a context for a statement that may run long: it ends with
// ctx and with the pool.
func (p *readers) interruptible(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(p.closing, func() { cancel(ErrClosed) })
	return ctx, func() { stop(); cancel(nil) }
}

// close refuses new reads, waits for those under way and closes the
// connections.
func (p *readers) close() error {
	p.cancel(ErrClosed)
	var errs []error
	for range p.opened {
		errs = append(errs, (<-p.free).close())
	}
	return errors.Join(errs...)
}
