package node

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/replicate"
	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Times that a stop gives object storage. Together with the draining of requests
// they are less than what a stop may take.
const (
	commitPatience = 700 * time.Millisecond  // for the last group's chunk
	uploadPatience = 1000 * time.Millisecond // for the rows not yet uploaded
)

// objects is a node's object storage. A nil one is a node without: its methods do
// nothing.
type objects struct {
	store   object.Store
	metrics prometheus.Collector
	log     *sqllog.Log
	archive *s3snap.Archive
	byChunk bool // a write is committed by its chunk
}

// openObjects opens the log at the configured path together with object storage.
func openObjects(ctx context.Context, env engineEnv) (*objects, error) {
	config := env.cfg.ObjectStore
	config.Logger = env.log
	store, err := object.Open(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open object store: %w", err)
	}
	o := &objects{byChunk: env.cfg.Quorum == QuorumObjectStore}
	o.store, o.metrics = object.Instrument(store)
	o.log, o.archive, err = s3snap.Open(ctx, env.cfg.archive(env, o.store))
	if err != nil {
		_ = object.Close(store)
		return nil, err
	}
	return o, nil
}

func (c Config) archive(env engineEnv, store object.Store) s3snap.Config {
	return s3snap.Config{
		Store: store, Path: c.LogPath(), SlowThreshold: max(c.SlowSQLThreshold, 0),
		CommitByChunk:  c.Quorum == QuorumObjectStore,
		UploadInterval: c.UploadInterval, UploadBytes: int(c.UploadBytes),
		SnapshotRows: c.SnapshotRows, SnapshotInterval: c.SnapshotInterval,
		SnapshotRetention: c.SnapshotRetention, RetentionTime: c.SnapshotRetentionTime,
		OnFatal: env.fail, Waiting: env.waiting, Progress: env.progress, Logger: env.log,
	}
}

// forPrimary is object storage as the commit pipeline wants it.
func (o *objects) forPrimary() replicate.Archive {
	if o == nil {
		return nil
	}
	return o.archive
}

// start begins the background work.
func (o *objects) start(store *mvcc.Store) {
	if o != nil {
		o.archive.Start(store.Head)
	}
}

func (o *objects) collectors() []prometheus.Collector {
	if o == nil {
		return nil
	}
	return []prometheus.Collector{o.archive, o.metrics}
}

// limitCommit ends what the commit pipeline would wait for while it is closed:
// snapshots at once, and the last group's chunk after a while, until the function
// that it returns is called.
func (o *objects) limitCommit() (expire func()) {
	if o == nil {
		return func() {}
	}
	o.archive.Quiesce()
	if !o.byChunk { // the pipeline waits for no upload, and the last one is still to come
		return func() {}
	}
	timer := time.AfterFunc(commitPatience, o.archive.Interrupt)
	return func() { timer.Stop() }
}

// finish uploads what is committed, as far as time allows, and ends the background
// work.
func (o *objects) finish() {
	if o == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), uploadPatience)
	defer cancel()
	o.archive.Close(ctx)
}

// release gives the store's connections back.
func (o *objects) release() error {
	if o == nil {
		return nil
	}
	if err := object.Close(o.store); err != nil {
		return fmt.Errorf("close object store: %w", err)
	}
	return nil
}
