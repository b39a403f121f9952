package s3snap

import (
	"errors"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Defaults of Config.
const (
	DefaultUploadInterval    = 5 * time.Second
	DefaultUploadBytes       = 4 << 20
	DefaultSnapshotRows      = 100_000
	DefaultSnapshotInterval  = time.Hour
	DefaultSnapshotRetention = 5
	DefaultRetentionTime     = 24 * time.Hour
)

// Config of an Archive.
type Config struct {
	Store object.Store
	// Path is the log's file.
	Path string
	// SlowThreshold is that of the log.
	SlowThreshold time.Duration
	// CommitByChunk: a group is committed when its chunk exists (quorum 0).
	// Otherwise rows are uploaded after their commit.
	CommitByChunk bool

	// UploadInterval is how long a committed row waits for its upload at most;
	// UploadBytes of keys and values go up at once. Not used with CommitByChunk.
	UploadInterval time.Duration
	UploadBytes    int

	// SnapshotRows and SnapshotInterval: a snapshot is taken once so many rows, or
	// any rows and so much time, have come after the last one; 0 for never.
	SnapshotRows     int64
	SnapshotInterval time.Duration
	// SnapshotRetention newest snapshots are kept (at least 1), and what is needed
	// to restore to any moment inside RetentionTime.
	SnapshotRetention int
	RetentionTime     time.Duration

	// Cluster is the cluster's id, 0 for a single node; Rule is the commit rule that
	// a cluster begins with. CommitByChunk is not used in a cluster: cluster.json has
	// the rule.
	Cluster uint64
	Rule    elect.Rule
	// OnDeposed is called at most once in a term of a cluster, when another node has
	// taken over; OnUploaded whenever the end of the chain has moved in it (nil for
	// nobody), also once after Resign if a PUT was in flight. They must not block.
	OnDeposed  func(sqllog.Epoch, error)
	OnUploaded func(epoch sqllog.Epoch, end sqllog.Head)

	// OnFatal is called once when this node must not go on: another one writes to
	// the prefix, or the chain is damaged. It must not block.
	OnFatal func(error)
	// Progress is told how far a restore at the start is; nil for nobody.
	Progress func(Progress)
	// Waiting is told why a start waits for object storage, and nil when it goes on;
	// nil for nobody.
	Waiting func(error)
	// Logger receives the messages; nil means logrus' standard logger.
	Logger logrus.FieldLogger

	minAge time.Duration                // tests make it short; 0 means MinChunkAge
	clock  func() (time.Duration, bool) // tests replace it; nil means bootClock
	pace   func() *pace                 // of work beside writes; tests replace it, nil means newPace
}

// withDefaults fills in what is not set.
func (c Config) withDefaults() Config {
	if c.UploadInterval <= 0 {
		c.UploadInterval = DefaultUploadInterval
	}
	if c.UploadBytes <= 0 {
		c.UploadBytes = DefaultUploadBytes
	}
	if c.SnapshotRetention < 1 {
		c.SnapshotRetention = 1
	}
	if c.Logger == nil {
		c.Logger = logrus.StandardLogger()
	}
	if c.OnFatal == nil {
		c.OnFatal = func(err error) { panic(err) }
	}
	if c.OnDeposed == nil {
		c.OnDeposed = func(_ sqllog.Epoch, err error) { c.OnFatal(err) }
	}
	if c.minAge == 0 {
		c.minAge = MinChunkAge
	}
	if c.clock == nil {
		c.clock = bootClock
	}
	if c.pace == nil {
		c.pace = newPace
	}
	return c
}

// validate refuses what would lose data in silence.
func (c Config) validate() error {
	if c.Store == nil || c.Path == "" {
		return errors.New("archive needs a store and a path")
	}
	return nil
}

// validateCluster is validate for one node of a cluster.
func (c Config) validateCluster() error {
	if c.Cluster == 0 {
		return errors.New("archive of a cluster needs its id")
	}
	if c.Rule < elect.Majority {
		return fmt.Errorf("%d is not a commit rule", c.Rule)
	}
	return c.validate()
}

// chain is the chain of this configuration's store, after its end.
func (c Config) chain(w Writer, end sqllog.Head) *Chain {
	chain := NewChain(c.Store, w, end, c.Logger)
	chain.clock, chain.trust = c.clock, c.minAge/4
	return chain
}
