package replicate

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/kinsy/kinsy/pkg/mvcc"
)

// Defaults of CompactionConfig.
const (
	DefaultCompactInterval  = 5 * time.Minute
	DefaultCompactJitter    = 0
	DefaultCompactTimeout   = 5 * time.Second
	DefaultCompactMinRetain = 1000
	DefaultCompactBatchSize = 1000
)

// CompactionConfig says what history is kept. The names are kine's.
type CompactionConfig struct {
	// Interval is the age above which history is compacted; 0 or less: never by
	// age.
	Interval time.Duration
	// Jitter varies the interval, in percent of it (0 to 100).
	Jitter int
	// Timeout bounds the commit of a compaction; 0 means the default.
	Timeout time.Duration
	// MinRetain is how many revisions are kept however old they are.
	MinRetain int64
	// BatchSize is how many rows are removed at a time, at most; 0 means the
	// default.
	BatchSize int
	// FollowKey compacts to the revision that kube-apiserver names in
	// compact_rev_key, for a profile in which its Compact call is refused.
	FollowKey bool
}

func (c *CompactionConfig) setDefaults() {
	if c.Timeout <= 0 {
		c.Timeout = DefaultCompactTimeout
	}
	if c.BatchSize <= 0 {
		c.BatchSize = DefaultCompactBatchSize
	}
}

// Compact compacts to a revision: reads below it are refused from then on. With
// physical it returns when the rows are removed. It returns the current
// revision.
func (p *Primary) Compact(ctx context.Context, rev int64, physical bool) (int64, error) {
	err := p.submit(ctx, func(b *mvcc.Batch) error { return p.store.EvaluateCompact(b, rev) })
	if err != nil {
		return 0, err
	}
	scrubbed := p.scrubber.request()
	if physical {
		select {
		case <-scrubbed:
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-p.stop:
			return 0, ErrStopped
		}
	}
	return p.store.Revision(), nil
}

// compactByAge compacts, once an interval, to the revision that was current one
// interval before.
func (p *Primary) compactByAge() {
	c := p.cfg.Compaction
	if c.Interval <= 0 {
		return
	}
	timer := time.NewTimer(c.jittered())
	defer timer.Stop()
	for before := p.store.Revision(); ; {
		select {
		case <-p.stop:
			return
		case <-timer.C:
		}
		now := p.store.Revision()
		p.compactTo(min(before, now-c.MinRetain), "age")
		before = now
		timer.Reset(c.jittered())
	}
}

func (c CompactionConfig) jittered() time.Duration {
	spread := int64(c.Interval) * int64(c.Jitter) / 100
	if spread <= 0 {
		return c.Interval
	}
	return c.Interval + time.Duration(rand.Int64N(2*spread)-spread)
}

// compactTo compacts if there is something to compact, and logs what it did.
func (p *Primary) compactTo(rev int64, reason string) {
	if rev <= p.store.CompactRevision() || rev < 1 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.cfg.Compaction.Timeout)
	defer cancel()
	log := p.cfg.Logger.WithField("revision", rev).WithField("reason", reason)
	_, err := p.Compact(ctx, rev, false)
	switch {
	case err == nil:
		log.Info("compacted")
	case errors.Is(err, mvcc.ErrCompacted), errors.Is(err, ErrStopped):
	default:
		log.WithError(err).Warn("compaction")
	}
}

// compactKey is where kube-apiserver writes the revision it compacts to.
const compactKey = "compact_rev_key"

// followRetry is when a watch of compact_rev_key that has ended is started anew.
const followRetry = time.Second

// followCompactKey compacts to what kube-apiserver's key names, until the Primary
// is closed.
func (p *Primary) followCompactKey() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p.done.Go(func() {
		select {
		case <-p.stop:
			cancel()
		case <-ctx.Done():
		}
	})
	for {
		err := p.followWatch(ctx)
		if ctx.Err() != nil || errors.Is(err, mvcc.ErrClosed) {
			return
		}
		p.cfg.Logger.WithError(err).Warn("watch of compact_rev_key ended; it is started anew")
		timer := time.NewTimer(followRetry)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// followWatch compacts to what the key names now, and to what it names later,
// until the watch of it ends.
func (p *Primary) followWatch(ctx context.Context) error {
	stream := p.store.NewWatchStream()
	defer stream.Close()
	if _, err := stream.Create(mvcc.WatchRequest{Key: []byte(compactKey), NoDelete: true}); err != nil {
		return err
	}
	now, err := p.store.Range(ctx, &pb.RangeRequest{Key: []byte(compactKey)})
	if err != nil {
		return err
	}
	for _, kv := range now.Kvs {
		p.compactTo(p.namedRevision(kv), compactKey)
	}
	for {
		resp, err := stream.Next(ctx)
		if err != nil {
			return err
		}
		if resp.Canceled {
			return mvcc.ErrCompacted
		}
		for _, ev := range resp.Events {
			p.compactTo(p.namedRevision(ev.Kv), compactKey)
		}
	}
}

// namedRevision reads the key's value: a decimal revision, at most the current
// one. Anything else is 0.
func (p *Primary) namedRevision(kv *mvccpb.KeyValue) int64 {
	rev, err := strconv.ParseInt(string(kv.Value), 10, 64)
	if err != nil || rev > p.store.Revision() {
		return 0
	}
	return rev
}
