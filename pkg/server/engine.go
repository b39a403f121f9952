package server

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/replicate"
)

// KV is the key-value engine. Requests have passed the checks of this package.
// Response headers carry Revision only. All methods may block, may be called
// concurrently, and must not keep or change the request after they return.
type KV interface {
	// Range reads; linearizable unless r.Serializable.
	Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error)
	// RangeStream reads one snapshot in chunks and hands each to send, in key
	// order, from the calling goroutine. Header, count and more are on the
	// last chunk. An error of send ends the call and is returned.
	RangeStream(ctx context.Context, r *pb.RangeRequest, send func(*pb.RangeStreamResponse) error) error
	// Txn evaluates one transaction. On return without error a write is
	// durable by the commit rule in force.
	Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error)
	// Compact drops history below rev and returns the current revision. With
	// physical it returns after the rows are gone.
	Compact(ctx context.Context, rev int64, physical bool) (header int64, err error)
	// HashKV hashes the keys at rev; 0 is the current revision.
	HashKV(ctx context.Context, rev int64) (*pb.HashKVResponse, error)
}

// Lessor is the lease engine. Methods may block and may be called concurrently.
type Lessor interface {
	LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error)
	LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error)
	// LeaseKeepAlive renews a lease and returns its TTL in seconds.
	LeaseKeepAlive(ctx context.Context, id int64) (ttl int64, err error)
	LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error)
	LeaseLeases(ctx context.Context) (*pb.LeaseLeasesResponse, error)
}

// Watcher opens watch streams and knows the current revision. Neither method
// blocks; both may be called concurrently.
type Watcher interface {
	NewWatchStream() WatchStream
	// Revision is the newest revision that reads can see.
	Revision() int64
}

// WatchStream is the engine's side of one Watch RPC. Create, Cancel and
// Progress are called from one goroutine, Next from another.
type WatchStream interface {
	// Create starts a watch and queues its `created` response, before any
	// event of it. A refused watch queues created and canceled, with id -1
	// and the reason, and returns the error too. Only a closed stream
	// (mvcc.ErrClosed) queues nothing.
	Create(r WatchRequest) (id int64, err error)
	// Cancel ends a watch and queues its canceled response. An unknown id
	// is an error and queues nothing.
	Cancel(id int64) error
	// Progress queues one progress response with id -1 as soon as every watch
	// of the stream is synced.
	Progress()
	// Next blocks for the next response, in order.
	Next(ctx context.Context) (WatchResponse, error)
	// Close releases the stream. Next, if running, returns an error.
	Close()
}

// WatchRequest and WatchResponse are the engine's own.
type (
	WatchRequest  = mvcc.WatchRequest
	WatchResponse = mvcc.WatchResponse
)

// StoreWatcher is the Watcher of a store.
func StoreWatcher(store *mvcc.Store) Watcher { return storeWatcher{store} }

type storeWatcher struct{ *mvcc.Store }

// NewWatchStream opens a stream of the store.
func (w storeWatcher) NewWatchStream() WatchStream { return w.Store.NewWatchStream() }

// Admin is what maintenance and health need from the engine. Methods may be
// called concurrently; Status does not wait for writes.
type Admin interface {
	Status() Status
	// Hash is a checksum over the whole store, history included.
	Hash(ctx context.Context) (uint32, error)
	// Defragment gives unused space back to the file system.
	Defragment(ctx context.Context) error
}

// Snapshotter makes etcd database files.
type Snapshotter interface {
	// WriteSnapshot writes what is committed to a new file in dir, followed by
	// its SHA-256, and returns its path and etcd's version of its format. It
	// blocks until the file is complete or ctx ends; the caller removes dir. One
	// call at a time.
	WriteSnapshot(ctx context.Context, dir string) (path, version string, err error)
}

// Status is the state of the engine at one moment: sizes in bytes, whether the
// last commit went well (Healthy) and, if not, why (Errors, NoSpace).
type Status = replicate.Status

var (
	_ KV          = (*replicate.Primary)(nil)
	_ Lessor      = (*replicate.Primary)(nil)
	_ Admin       = (*replicate.Primary)(nil)
	_ WatchStream = (*mvcc.WatchStream)(nil)
)
