package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kinsy/kinsy/pkg/server"
)

// Defaults of Config.
const (
	// DefaultMaxRequestBytes is the limit of gRPC requests.
	DefaultMaxRequestBytes = server.DefaultMaxRequestBytes
	// DefaultRequestTimeout is the time that a call may take.
	DefaultRequestTimeout = 15 * time.Second
	// DefaultPingInterval is the time between pings of a WebSocket.
	DefaultPingInterval = 30 * time.Second
	// DefaultWriteTimeout is the time in which a client must take one frame.
	DefaultWriteTimeout = time.Minute
	// DefaultMaxWatches is how many watches one connection may have.
	DefaultMaxWatches = 16 << 10
)

const defaultMergeBytes = 4 << 20

// bytesPerOp bounds the operations of a Txn by the size of the largest request: a
// dump of as many small keys as fit is loaded in one Txn.
const bytesPerOp = 128

// AnyOrigin in Config.Origins allows web pages of every origin.
const AnyOrigin = "*"

// Member is what status says of a node of a cluster.
type Member struct {
	ID        uint64
	Name, URL string
}

// Config describes a Gateway. Zero values mean the defaults above.
type Config struct {
	// KV, Lessor, Watcher and Admin are the engine, the same that gRPC clients
	// have; all are required.
	KV      server.KV
	Lessor  server.Lessor
	Watcher server.Watcher
	Admin   server.Admin
	// CompactRevision is the newest compacted revision; nil: 0.
	CompactRevision func() int64

	// MemberID is this node's. Leader is the member id of the Primary, 0 if none
	// is known; nil: this node is alone. Members, for a cluster, are its nodes, and
	// Epoch is the Primary's; neither blocks for long.
	MemberID uint64
	Leader   func() uint64
	Members  func(ctx context.Context) []Member
	Epoch    func() int64

	// Version is kinsy's, for status.
	Version string

	// MaxRequestBytes limits the encoded size of a write, as for gRPC. The JSON of
	// a request may be twice that and 512 KiB.
	MaxRequestBytes int
	// RequestTimeout ends a call with 503.
	RequestTimeout time.Duration
	// PingInterval is the time between pings. A client that answers none for two
	// of them, while nothing else moves, is gone.
	PingInterval time.Duration
	// WriteTimeout is how long a frame may wait for the client to take it.
	WriteTimeout time.Duration
	// MaxWatches limits the watches of one connection.
	MaxWatches int

	// Origins are the origins, such as https://example.com:8443, whose web pages
	// may call; AnyOrigin allows all. Without any, only those of the gateway's own
	// host may.
	Origins []string

	// Logger is where the gateway logs; nil is the logrus default.
	Logger *logrus.Logger

	// mergeBytes is how much may wait for the events of other watches of a
	// connection.
	mergeBytes int
}

// Validate says which field is missing or out of range.
func (c Config) Validate() error {
	switch {
	case c.KV == nil || c.Lessor == nil || c.Watcher == nil || c.Admin == nil:
		return errors.New("gateway: KV, Lessor, Watcher and Admin must be set")
	case c.MaxRequestBytes < 0 || c.MaxRequestBytes > 1<<30:
		return errors.New("gateway: MaxRequestBytes must be between 0 and 1 GiB")
	case c.RequestTimeout < 0 || c.PingInterval < 0 || c.WriteTimeout < 0:
		return errors.New("gateway: intervals must not be negative")
	case c.MaxWatches < 0:
		return errors.New("gateway: MaxWatches must not be negative")
	}
	for _, o := range c.Origins {
		if err := CheckOrigin(o); err != nil {
			return fmt.Errorf("gateway: %w", err)
		}
	}
	return nil
}

// CheckOrigin says what is wrong with an entry of Config.Origins.
func CheckOrigin(origin string) error {
	if origin == AnyOrigin {
		return nil
	}
	u, err := url.Parse(origin)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil ||
		u.Scheme+"://"+u.Host != origin || strings.ContainsAny(u.Host, `*?[\`) {
		return fmt.Errorf("%q is not an origin such as https://example.com:8443, nor *", origin)
	}
	return nil
}

func (c Config) withDefaults() Config {
	setDefault(&c.MaxRequestBytes, DefaultMaxRequestBytes)
	setDefault(&c.RequestTimeout, DefaultRequestTimeout)
	setDefault(&c.PingInterval, DefaultPingInterval)
	setDefault(&c.WriteTimeout, DefaultWriteTimeout)
	setDefault(&c.MaxWatches, DefaultMaxWatches)
	setDefault(&c.mergeBytes, defaultMergeBytes)
	if c.CompactRevision == nil {
		c.CompactRevision = func() int64 { return 0 }
	}
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

// limits are what a write is held to: gRPC's, but for the number of operations.
func (c Config) limits() server.Limits {
	return server.Limits{
		MaxRequestBytes: c.MaxRequestBytes,
		MaxTxnOps:       max(server.DefaultMaxTxnOps, c.MaxRequestBytes/bytesPerOp),
	}
}

// maxWide is how many operations of a Txn may be of a range of keys.
const maxWide = server.DefaultMaxTxnOps

// bodyLimit is the size of the largest body or message in bytes.
func (c Config) bodyLimit() int64 { return 2*int64(c.MaxRequestBytes) + 512<<10 }
