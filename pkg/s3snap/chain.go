package s3snap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/s3snap/rowfile"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// MinChunkAge is how old a chunk or snapshot is at least when retention deletes
// it.
const MinChunkAge = time.Hour

// trustSight is how long what a writer has seen of the chain's end excludes that
// its position was closed since.
const trustSight = MinChunkAge / 4

// silence is how long object storage may fail to answer before health says so.
const silence = 3 * time.Second

// Chain is the writing end of a chunk chain. Its methods may be called
// concurrently; Append has one caller at a time.
type Chain struct {
	store  object.Store
	writer Writer
	log    logrus.FieldLogger
	clock  func() (time.Duration, bool) // tests replace it
	trust  time.Duration                // trustSight; tests make it short

	mu     sync.Mutex
	end    sqllog.Head   // newest row known to be in the chain
	seen   time.Duration // on the clock: when end was known to be the end
	known  bool          // seen is set
	put    *put          // in flight, nil if none
	fenced error
	open   error // the outcome of a PUT is not known, and nobody asks any more
	ended  error // nothing else is to be written or looked at
	failed failure
	looks  looks
	stats  chainStats

	onFenced func(error)     // called once, without c.mu; nil for nobody
	ctx      context.Context // looks end with it
}

// Writer says who writes.
type Writer struct {
	Cluster, Node uint64
	// Incarnation is another one in each process.
	Incarnation uint64
}

// NewWriter names this process as a writer.
func NewWriter(id sqllog.Identity) Writer {
	return Writer{Cluster: id.Cluster, Node: id.Node, Incarnation: rand.Uint64() | 1}
}

// put is a PUT in flight.
type put struct {
	first, last sqllog.ID
	started     time.Time
	patience    time.Duration // after which it is slow
	done        chan struct{} // closed when its position is known to be taken
	err         error         // set before done is closed; nil if by this PUT
}

// failure is since when requests fail.
type failure struct {
	since time.Time // zero while they succeed
	err   error
}

// NewChain continues a chain after its end, as a reading of it has found it.
func NewChain(store object.Store, w Writer, end sqllog.Head, log logrus.FieldLogger) *Chain {
	return &Chain{store: store, writer: w, log: log, clock: bootClock, trust: trustSight, end: end, ctx: context.Background()}
}

// End names the newest row known to be in the chain: object storage holds every
// row up to it.
func (c *Chain) End() sqllog.Head {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end
}

// chunks counts those that this Chain has written.
func (c *Chain) chunks() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats.chunks
}

// Append writes rows that follow the end as one chunk, and returns when it is
// known to exist: it tries for as long as ctx lives. ErrFenced: the position is
// another node's. After any other error it is not known whether the chunk exists,
// and nothing else is written any more.
func (c *Chain) Append(ctx context.Context, rows []sqllog.Row) error {
	p, before, err := c.begin(rows)
	if err != nil {
		return err
	}
	body, err := c.encode(rows, before)
	if err == nil {
		err = c.create(ctx, p, body)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.end = headOf(&rows[len(rows)-1])
		c.stats.chunks++
		c.stats.rows += int64(len(rows))
		c.stats.bytes += int64(len(body))
	case !errors.Is(err, ErrFenced):
		c.open = err
	}
	p.err, c.put = err, nil
	close(p.done)
	return err
}

// begin takes the position of rows, and returns the epoch before them.
func (c *Chain) begin(rows []sqllog.Row) (p *put, before sqllog.Epoch, err error) {
	if len(rows) == 0 {
		return nil, 0, errors.New("append to the chain: no rows")
	}
	size := 0
	for i := range rows {
		size += len(rows[i].Key) + len(rows[i].Value)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch first := rows[0].ID; {
	case c.fenced != nil:
		return nil, 0, c.fenced
	case c.open != nil:
		return nil, 0, c.open
	case c.ended != nil:
		return nil, 0, c.ended
	case c.put != nil:
		return nil, 0, fmt.Errorf("append to the chain: the PUT at %d is in flight", c.put.first)
	case first != c.end.ID+1:
		return nil, 0, fmt.Errorf("append to the chain: row %d does not follow its end %d", first, c.end.ID)
	}
	c.put = &put{
		first: rows[0].ID, last: rows[len(rows)-1].ID, done: make(chan struct{}),
		started: time.Now(), patience: silence + time.Duration(size)*time.Second>>20,
	}
	return c.put, c.end.Epoch, nil
}

// encode makes the chunk of rows. Nothing waits for it but the rows themselves.
func (c *Chain) encode(rows []sqllog.Row, before sqllog.Epoch) ([]byte, error) {
	body, err := rowfile.Encode(rowfile.Header{
		Kind: rowfile.KindChunk, Cluster: c.writer.Cluster, Node: c.writer.Node, Incarnation: c.writer.Incarnation,
		First: rows[0].ID, Before: before, Head: headOf(&rows[len(rows)-1]), Written: time.Now().UnixMilli(),
	}, rows)
	if err != nil {
		return nil, fmt.Errorf("encode chunk: %w", err)
	}
	return body, nil
}

// create sends the PUT until its position is known to be taken, by whomever.
func (c *Chain) create(ctx context.Context, p *put, body []byte) error {
	key := chunkKey(p.first)
	var pause backoff
	sent, hasClock := c.clock()
	for {
		c.countPut()
		_, err := c.store.Put(ctx, key, body, object.Condition{IfAbsent: true})
		if errors.Is(err, object.ErrPrecondition) {
			err = c.whose(ctx, key, body)
		}
		if err == nil {
			err = c.counts(ctx, p.first, sent, hasClock)
		}
		c.heard(err)
		if err == nil || errors.Is(err, ErrFenced) {
			return err
		}
		if ctx.Err() != nil || pause.pause(ctx) != nil {
			return fmt.Errorf("chunk at %d: %w: %w", p.first, ErrStopped, err)
		}
	}
}

// whose reads the object at a position that is taken: nil if it is this PUT.
func (c *Chain) whose(ctx context.Context, key string, body []byte) error {
	there, _, err := object.ReadAll(ctx, c.store, key, maxChunkBytes)
	if err != nil {
		return err
	}
	if bytes.Equal(there, body) {
		return nil
	}
	return c.foreign(key, there)
}

// foreign describes the chunk of somebody else.
func (c *Chain) foreign(key string, body []byte) error {
	h, _, err := rowfile.Decode(body)
	if err != nil {
		return fmt.Errorf("%w: %s is not this node's, and not readable: %w", ErrFenced, key, err)
	}
	return fmt.Errorf("%w: %s is by node %016x (process %016x) in epoch %d", ErrFenced, key, h.Node, h.Incarnation, h.Head.Epoch)
}

// counts tells whether what was found out about a position holds: that this node
// has created it, or that it is free. It does not where retention has closed the
// position before. sent is when the first request for it went out: nobody had
// written beyond it then.
func (c *Chain) counts(ctx context.Context, first sqllog.ID, sent time.Duration, hasClock bool) error {
	now, _ := c.clock()
	c.mu.Lock()
	fresh := hasClock && c.known && now-c.seen < c.trust
	c.mu.Unlock()
	if !fresh {
		floor, _, err := readFloor(ctx, c.store)
		if err != nil {
			return fmt.Errorf("read floor: %w", err)
		}
		if floor >= first {
			return fmt.Errorf("%w: the chain was closed up to %d while this node slept at %d", ErrFenced, floor, first)
		}
	}
	c.sighted(sent, hasClock)
	return nil
}

// sighted notes that the end of the chain was where this node has it, at a time.
func (c *Chain) sighted(at time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ok && (!c.known || at > c.seen) {
		c.seen, c.known = at, true
	}
}

// heard notes whether a request was answered, and how.
func (c *Chain) heard(err error) {
	if errors.Is(err, ErrFenced) {
		c.fence(err)
		err = nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		if !c.failed.since.IsZero() {
			c.log.WithField("after", time.Since(c.failed.since)).Info("object storage answers again")
		}
		c.failed = failure{}
		return
	}
	if c.failed.since.IsZero() {
		c.failed.since = time.Now()
		c.log.WithError(err).Warn("object storage does not answer; it is tried again")
	}
	c.failed.err = err
	c.stats.failures++
}

// fence ends the writing for good.
func (c *Chain) fence(err error) {
	c.mu.Lock()
	first := c.fenced == nil
	if first {
		c.fenced = err
	}
	c.mu.Unlock()
	if first && c.onFenced != nil {
		c.onFenced(err)
	}
}

// finish ends the writing: nothing begins any more, but the PUT in flight goes on.
func (c *Chain) finish(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = why
}

// whyOver is why rows that were to be written were not, or not to anybody's
// knowledge.
func (c *Chain) whyOver() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.fenced != nil:
		return fmt.Errorf("%w: %w", ErrResigned, c.fenced)
	case c.open != nil:
		return fmt.Errorf("%w: %w", ErrResigned, c.open)
	}
	return ErrResigned
}

// carryOn takes over what the Chain before this one has counted.
func (c *Chain) carryOn(old *Chain) {
	old.mu.Lock()
	stats := old.stats
	old.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.add(stats)
}

// Err is nil while the chain can be written: it is ErrFenced, or ErrUnavailable
// once object storage has not answered for some seconds.
func (c *Chain) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.fenced != nil:
		return c.fenced
	case !c.failed.since.IsZero() && time.Since(c.failed.since) > silence:
		return fmt.Errorf("%w: %w", ErrUnavailable, c.failed.err)
	case c.put != nil && time.Since(c.put.started) > c.put.patience:
		return fmt.Errorf("%w: a chunk is on its way for more than %s", ErrUnavailable, c.put.patience)
	case !c.looks.started.IsZero() && time.Since(c.looks.started) > silence:
		return fmt.Errorf("%w: a look at the chain takes more than %s", ErrUnavailable, silence)
	}
	return nil
}

func (c *Chain) countPut() {
	c.mu.Lock()
	c.stats.puts++
	c.mu.Unlock()
}
