package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/sirupsen/logrus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/credentials"
)

// Defaults of Config; those that etcd has too are etcd's.
const (
	DefaultMaxRequestBytes      = 1536 * 1024
	DefaultMaxTxnOps            = 128
	DefaultMaxConcurrentStreams = math.MaxUint32
	DefaultKeepaliveMinTime     = 5 * time.Second
	DefaultKeepaliveInterval    = 2 * time.Hour
	DefaultKeepaliveTimeout     = 20 * time.Second
	DefaultEmulatedVersion      = "3.6.16"
	DefaultHealthInterval       = time.Second
)

// overheadBytes is what gRPC may receive beyond MaxRequestBytes, so that a
// request slightly too large gets etcd's own error and not gRPC's.
const overheadBytes = 512 * 1024

// Config describes a Server. Zero values mean the defaults above.
type Config struct {
	// KV, Lessor, Watcher and Admin are the engine; all are required.
	KV      KV
	Lessor  Lessor
	Watcher Watcher
	Admin   Admin

	// Snapshotter answers the Snapshot RPC of ProfileEtcd; without it the RPC is
	// refused. SnapshotDir is the folder in which the file is made, under a name
	// of the server's own; what a crash has left there is removed by New.
	Snapshotter Snapshotter
	SnapshotDir string

	// Profile chooses the RPCs that are answered; ProfileNetsy when empty.
	Profile Profile

	// MaxRequestBytes limits the encoded size of a write request.
	MaxRequestBytes int
	// MaxTxnOps limits compares and operations of a Txn, per list, as etcd does.
	MaxTxnOps int
	// MaxConcurrentStreams limits the streams of one client connection.
	MaxConcurrentStreams uint32

	// KeepaliveMinTime is the shortest time between two pings of a client.
	KeepaliveMinTime time.Duration
	// KeepaliveInterval is how long a connection may be silent before the
	// server pings, KeepaliveTimeout how long it then waits for the answer.
	KeepaliveInterval time.Duration
	KeepaliveTimeout  time.Duration

	// EmulatedVersion is the etcd version that Status reports, for example "3.6.16".
	EmulatedVersion string

	// ClusterID and MemberID go into every response header.
	ClusterID, MemberID uint64
	// Leader is the member id of the Primary, 0 if none is known; nil: this member.
	Leader func() uint64
	// Members are what MemberList answers; nil: this member alone.
	Members func(ctx context.Context) ([]*pb.Member, error)
	// MoveLeader makes another member Primary; nil: there is no other.
	MoveLeader func(ctx context.Context, target uint64) error
	// MemberName, ClientURLs and PeerURLs are what MemberList answers of this member.
	MemberName string
	ClientURLs []string
	PeerURLs   []string

	// TransportCredentials is the TLS of the listeners; nil is plain text.
	TransportCredentials credentials.TransportCredentials

	// HealthInterval is how often Admin.Status is looked at for grpc.health.v1
	// watchers and for streams that require a leader.
	HealthInterval time.Duration

	// Logger is where the server logs; nil is the logrus default.
	Logger *logrus.Logger
}

// Validate says which field is missing or out of range.
func (c Config) Validate() error {
	switch {
	case c.KV == nil || c.Lessor == nil || c.Watcher == nil || c.Admin == nil:
		return errors.New("server: KV, Lessor, Watcher and Admin must be set")
	case c.Snapshotter != nil && c.SnapshotDir == "":
		return errors.New("server: Snapshotter needs SnapshotDir")
	case c.Profile != "" && c.Profile != ProfileNetsy && c.Profile != ProfileEtcd:
		return fmt.Errorf("server: unknown API profile %q (--api)", c.Profile)
	case c.MaxRequestBytes < 0 || c.MaxRequestBytes > math.MaxInt32-overheadBytes:
		return errors.New("server: MaxRequestBytes must be between 0 and 2 GiB less 512 KiB")
	case c.MaxTxnOps < 0:
		return errors.New("server: MaxTxnOps must not be negative")
	case c.KeepaliveMinTime < 0 || c.KeepaliveInterval < 0 || c.KeepaliveTimeout < 0 || c.HealthInterval < 0:
		return errors.New("server: intervals must not be negative")
	}
	return nil
}

// withDefaults returns c with every zero value replaced by its default.
func (c Config) withDefaults() Config {
	setDefault(&c.Profile, ProfileNetsy)
	setDefault(&c.MaxRequestBytes, DefaultMaxRequestBytes)
	setDefault(&c.MaxTxnOps, DefaultMaxTxnOps)
	setDefault(&c.MaxConcurrentStreams, DefaultMaxConcurrentStreams)
	setDefault(&c.KeepaliveMinTime, DefaultKeepaliveMinTime)
	setDefault(&c.KeepaliveInterval, DefaultKeepaliveInterval)
	setDefault(&c.KeepaliveTimeout, DefaultKeepaliveTimeout)
	setDefault(&c.EmulatedVersion, DefaultEmulatedVersion)
	setDefault(&c.HealthInterval, DefaultHealthInterval)
	if c.Logger == nil {
		c.Logger = logrus.StandardLogger()
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
