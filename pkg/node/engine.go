package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc/credentials"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/replicate"
	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/server"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// engine is the log, the index, the commit pipeline and the gRPC server as one part.
type engine interface {
	// Serve answers clients of l until Drain, and then returns nil. Several listeners may be served at once.
	Serve(l net.Listener) error
	// ServeREST answers REST and WebSocket clients of l likewise.
	ServeREST(l net.Listener) error
	// Drain ends watches, lets requests under way finish, and cuts them off when ctx ends. It returns when none is left.
	Drain(ctx context.Context)
	// Status tells the health of the last commit. It may be called concurrently with everything, also after Close.
	Status() engineStatus
	// Collectors returns the metrics of every part.
	Collectors() []prometheus.Collector
	// Close stops the pipeline after its last group and closes the log. It is called after Drain.
	Close() error
}

// engineEnv is what an engine is given by the node.
type engineEnv struct {
	cfg Config
	tls *tls.Config // nil: no TLS
	// restTLS is for the REST listeners.
	restTLS *tls.Config
	log     *logrus.Logger
	// listen opens the client listeners, which is to be done once the index is loaded, and returns the URLs to advertise.
	listen func(ctx context.Context) ([]string, error)
	// progress is told how far a restore is.
	progress func(s3snap.Progress)
	// waiting tells what the opening waits for, nil when it goes on.
	waiting func(error)
	// fail reports that the engine has stopped by itself; it may be called from any goroutine and does not block.
	fail func(error)
}

// engineOpener opens an engine: it returns when the index is loaded, or with ctx's error when ctx ended first.
type engineOpener func(ctx context.Context, env engineEnv) (engine, error)

// parts is the engine of one node that keeps its log in SQLite.
type parts struct {
	objects *objects // nil without object storage
	log     *sqllog.Log
	store   *mvcc.Store
	primary *replicate.Primary
	server  *server.Server
	rest    *rest // nil without REST
}

var _ engine = (*parts)(nil)

// openEngine opens the log, loads the index and builds what stands on them. The parts are closed again when one of them
// does not open.
func openEngine(ctx context.Context, env engineEnv) (_ engine, err error) {
	if env.cfg.Clustered() {
		return openCluster(ctx, env)
	}
	p := &parts{}
	path := env.cfg.LogPath()
	defer func() {
		if err != nil {
			err = describeDamage(ctx, path, errors.Join(err, p.Close()))
		}
	}()
	if err = p.openLog(ctx, env); err != nil {
		return nil, err
	}
	p.store, err = mvcc.Open(ctx, p.log, mvcc.Config{
		CacheBytes:       orOff(env.cfg.ValueCacheBytes, -1),
		ProgressInterval: orOff(env.cfg.NotifyInterval, math.MaxInt64),
		Logger:           env.log,
	})
	if err != nil {
		return nil, fmt.Errorf("open log %s: %w", path, err)
	}
	p.primary = replicate.New(p.log, p.store, replicate.Config{
		Compaction: env.cfg.compaction(), Archive: p.objects.forPrimary(), OnFatal: env.fail, Logger: env.log,
	})
	p.objects.start(p.store)
	urls, err := env.listen(ctx)
	if err != nil {
		return nil, err
	}
	cfg := serverConfig(env, p, urls)
	if err = cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure server: %w", err)
	}
	if p.rest, err = newREST(env, restConfig(env, cfg, p.store)); err != nil {
		return nil, err
	}
	p.server = server.New(cfg)
	return p, nil
}

// openLog opens the log, and brings it together with object storage if there is
// any.
func (p *parts) openLog(ctx context.Context, env engineEnv) (err error) {
	if env.cfg.ObjectStore.URL != "" {
		p.objects, err = openObjects(ctx, env)
		if err != nil {
			return err
		}
		p.log = p.objects.log
		p.reserveWAL(env.log)
		return nil
	}
	path := env.cfg.LogPath()
	if err := createPrivate(path); err != nil {
		return err
	}
	p.log, err = sqllog.Open(ctx, sqllog.Config{Path: path, SlowThreshold: max(env.cfg.SlowSQLThreshold, 0), Logger: env.log})
	if errors.Is(err, sqllog.ErrForeign) {
		return fmt.Errorf("%w; give --data-dir or --endpoint another place", err)
	}
	if err == nil {
		p.reserveWAL(env.log)
	}
	return err
}

// walReserve is about how long the write-ahead log gets between two checkpoints under
// full load, in bytes. It is less than the 4062 frames of which SQLite's index in shared
// memory has room from the start: on a disk that is full to the last byte, a write must
// find the end of the log first, which is an error without consequences.
const walReserve = 8 << 20

// reserveWAL is only for speed, so that a disk without the room for it is no reason not
// to start.
func (p *parts) reserveWAL(log logrus.FieldLogger) {
	if err := p.log.ReserveWAL(walReserve); err != nil {
		log.WithError(err).Warn("commits are slower until the write-ahead log has grown")
	}
}

// describeDamage adds to the error of a log that is corrupt what is still readable of it. The log is closed.
func describeDamage(ctx context.Context, path string, err error) error {
	if !errors.Is(err, sqllog.ErrCorrupt) {
		return err
	}
	report, salvageErr := sqllog.Salvage(ctx, path)
	if salvageErr != nil {
		return errors.Join(err, salvageErr)
	}
	return fmt.Errorf("%w\n%s", err, report)
}

// createPrivate creates the log's file, if it is missing, for its owner only; SQLite would let everyone read it. The files
// beside it take its mode over.
func createPrivate(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	return f.Close()
}

// orOff returns v, or off for 0: a 0 in the parts' configurations means their default.
func orOff[T int64 | time.Duration](v, off T) T {
	if v == 0 {
		return off
	}
	return v
}

func (c Config) compaction() replicate.CompactionConfig {
	return replicate.CompactionConfig{
		Interval:  c.CompactInterval,
		Jitter:    c.CompactIntervalJitter,
		Timeout:   c.CompactTimeout,
		MinRetain: c.CompactMinRetain,
		BatchSize: int(c.CompactBatchSize),
		FollowKey: c.API == APINetsy,
	}
}

func serverConfig(env engineEnv, p *parts, urls []string) server.Config {
	c := commonServerConfig(env, urls, p.log, p.store)
	c.KV, c.Lessor, c.Admin = p.primary, p.primary, p.primary
	return c
}

// commonServerConfig is what does not depend on whether the node is alone.
func commonServerConfig(env engineEnv, urls []string, log *sqllog.Log, store *mvcc.Store) server.Config {
	id := log.Identity()
	c := server.Config{
		Watcher:     server.StoreWatcher(store),
		Snapshotter: snapshotter{log, store}, SnapshotDir: env.cfg.DataFolder(),
		Profile:         server.Profile(env.cfg.API),
		MaxRequestBytes: int(env.cfg.MaxRequestBytes),
		EmulatedVersion: env.cfg.EmulatedEtcdVersion,
		ClusterID:       id.Cluster,
		MemberID:        id.Node,
		MemberName:      env.cfg.Name,
		ClientURLs:      urls,
		Logger:          env.log,
	}
	if env.tls != nil {
		c.TransportCredentials = credentials.NewTLS(env.tls)
	}
	return c
}

// Serve implements engine.
func (p *parts) Serve(l net.Listener) error { return p.server.Serve(l) }

// ServeREST implements engine.
func (p *parts) ServeREST(l net.Listener) error { return p.rest.serve(l) }

// Drain implements engine.
func (p *parts) Drain(ctx context.Context) { drainFronts(ctx, p.server, p.rest) }

// Status implements engine.
func (p *parts) Status() engineStatus {
	s := p.primary.Status()
	return engineStatus{healthy: s.Healthy, noSpace: s.NoSpace, reasons: s.Errors}
}

// Collectors implements engine.
func (p *parts) Collectors() []prometheus.Collector {
	return append(p.objects.collectors(), p.rest.collectors(p.log, p.store, p.primary, p.server)...)
}

// Close implements engine: it stops the parts that were opened, the last first.
func (p *parts) Close() error {
	if p.primary != nil {
		expire := p.objects.limitCommit()
		p.primary.Close()
		expire()
	}
	return closeStorage(p.objects, p.store, p.log)
}

// closeStorage closes the parts that hold data, as far as they were opened: what is committed is uploaded first.
func closeStorage(o *objects, store *mvcc.Store, log *sqllog.Log) error {
	o.finish()
	if store != nil {
		store.Close()
	}
	if log == nil {
		return nil
	}
	err := log.Close()
	if err != nil {
		err = fmt.Errorf("close log: %w", err)
	}
	return errors.Join(err, o.release())
}
