package node

import (
	"os"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/mvcc"
	"github.com/kinsy/kinsy/pkg/replicate"
	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/server"
)

// Defaults of Config. Values are kine's where kine has the same setting, but for these: nothing listens beyond loopback, and
// compaction is on, since the netsy profile leaves clients no way to compact.
const (
	DefaultDataDir               = "/var/lib/kinsy"
	DefaultDevDataDir            = "./kinsy-data"
	DefaultListenAddress         = "127.0.0.1:2379"
	DefaultMetricsBindAddress    = "127.0.0.1:8080"
	DefaultDevMetricsBindAddress = "127.0.0.1:2381"
	DefaultDevHTTPAddress        = "127.0.0.1:12379"
	DefaultName                  = "kinsy"
	DefaultEmulatedEtcdVersion   = server.DefaultEmulatedVersion
	DefaultMaxRequestBytes       = server.DefaultMaxRequestBytes
	DefaultValueCacheBytes       = mvcc.DefaultCacheBytes
	DefaultNotifyInterval        = mvcc.DefaultProgressInterval
	DefaultCompactInterval       = replicate.DefaultCompactInterval
	DefaultCompactTimeout        = replicate.DefaultCompactTimeout
	DefaultCompactMinRetain      = replicate.DefaultCompactMinRetain
	DefaultCompactBatchSize      = replicate.DefaultCompactBatchSize
	DefaultSlowSQLThreshold      = time.Second
	DefaultQuorum                = QuorumLocal
	DefaultObjectStoreTimeout    = object.DefaultTimeout
	DefaultUploadInterval        = s3snap.DefaultUploadInterval
	DefaultUploadBytes           = s3snap.DefaultUploadBytes
	DefaultSnapshotRows          = s3snap.DefaultSnapshotRows
	DefaultSnapshotInterval      = s3snap.DefaultSnapshotInterval
	DefaultSnapshotRetention     = s3snap.DefaultSnapshotRetention
	DefaultSnapshotRetentionTime = s3snap.DefaultRetentionTime
	DefaultHeartbeatInterval     = elect.DefaultHeartbeat
	DefaultSuspicionTime         = elect.DefaultSuspicion
	DefaultDeregisterAfter       = 3 * time.Minute
	DefaultMaxPendingUploadBytes = replicate.DefaultMaxPendingUpload
)

// Commit rules, Config.Quorum: where a write must be before it is acknowledged.
const (
	// QuorumLocal is the local disk of a node that is alone, and a majority of the nodes in a cluster.
	QuorumLocal = -1
	// QuorumObjectStore is object storage.
	QuorumObjectStore = 0
)

// API profiles: which remote procedure calls a node answers.
const (
	// APINetsy is the subset that kube-apiserver needs: single-key Txns, reads, watches, LeaseGrant.
	APINetsy = string(server.ProfileNetsy)
	// APIEtcd is everything the engine can do.
	APIEtcd = string(server.ProfileEtcd)
)

// MetricsOff as a Config.MetricsBindAddress starts no metrics listener.
const MetricsOff = "0"

// HTTPOff as a Config.HTTPAddress starts no REST listener, as an empty one does.
const HTTPOff = "0"

// logFileName is the log's file in the data folder.
const logFileName = "kinsy.db"

// Config says how a node runs. DefaultConfig gives one that is valid; Validate names the command-line flag of a field
// that is not. Start copies it.
type Config struct {
	// Dev marks a node for a laptop or a test. It changes nothing but the defaults given by DefaultConfig.
	Dev bool
	// DataDir is the folder of everything the node keeps; it is created if missing. Empty means the folder of the file
	// that Endpoint names, or DefaultDataDir.
	DataDir string
	// Endpoint is the datastore in kine's syntax: empty or "sqlite" or "sqlite://PATH?params".
	Endpoint string
	// API is the profile, APINetsy or APIEtcd.
	API string
	// Name is the node's name in the member list.
	Name string

	// ListenAddress is where clients connect: HOST:PORT or unix://PATH, several separated by commas. http://, https://
	// and tcp:// before HOST:PORT are taken off; https:// and unixs:// are refused without a certificate.
	ListenAddress string
	// AdvertiseClientURLs are the URLs given to clients in the member list, separated by commas; empty derives them from
	// the listeners.
	AdvertiseClientURLs string
	// HTTPAddress is where REST and WebSocket clients connect, in the syntax of ListenAddress; empty or HTTPOff: nowhere. API
	// does not limit what they may do.
	HTTPAddress string
	// CORS are the origins whose web pages may use HTTPAddress, separated by commas; * for all. Empty: none but its own.
	CORS string
	// MetricsBindAddress is HOST:PORT of the metrics and health listener; MetricsOff starts none.
	MetricsBindAddress string
	// MetricsIgnoreTLS serves the metrics listener in plain HTTP although there is a certificate.
	MetricsIgnoreTLS bool
	// EnablePprof serves /debug/pprof/ on the metrics listener.
	EnablePprof bool
	// AllowInsecureListen permits listening beyond loopback without TLS.
	AllowInsecureListen bool

	// CertFile and KeyFile are the PEM files of the server's certificate and key: both or neither.
	CertFile, KeyFile string
	// TrustedCAFile is a PEM file of certificate authorities; with it every client must present a certificate of theirs.
	TrustedCAFile string

	// EmulatedEtcdVersion is the etcd version that Status reports; clients decide by it which features they use.
	EmulatedEtcdVersion string
	// MaxRequestBytes is the size of the largest request in bytes.
	MaxRequestBytes int64
	// ValueCacheBytes bounds the memory that holds values in bytes; 0 holds none.
	ValueCacheBytes int64
	// NotifyInterval is the time between periodic progress notifications of a watch; 0 sends none.
	NotifyInterval time.Duration
	// SlowSQLThreshold is the time beyond which a statement is logged; 0 or less logs none.
	SlowSQLThreshold time.Duration

	// CompactInterval is the time between automatic compactions, and so the age of the history that is kept; 0 turns
	// automatic compaction off.
	CompactInterval time.Duration
	// CompactIntervalJitter spreads CompactInterval by up to this many percent either way, 0 to 99.
	CompactIntervalJitter int
	// CompactTimeout bounds one automatic compaction.
	CompactTimeout time.Duration
	// CompactMinRetain is the number of newest revisions that automatic compaction keeps.
	CompactMinRetain int64
	// CompactBatchSize is the number of rows deleted in one step.
	CompactBatchSize int64

	// ObjectStore is the object storage that the node keeps its log in too; without a URL there is none. Its Logger is not
	// used.
	ObjectStore object.Config
	// Quorum is the commit rule: QuorumLocal or QuorumObjectStore, or, in a cluster, how many other nodes hold a write.
	Quorum int
	// UploadInterval is how long a row that is committed locally waits for its upload at most.
	UploadInterval time.Duration
	// UploadBytes of keys and values waiting for their upload go up at once, whatever UploadInterval says.
	UploadBytes int64
	// SnapshotRows is the number of rows after which a snapshot is taken; 0 takes none for their number.
	SnapshotRows int64
	// SnapshotInterval is the time after which a snapshot is taken if there are new rows; 0 takes none for its age.
	SnapshotInterval time.Duration
	// SnapshotRetention is the number of newest snapshots that are kept, at least 1.
	SnapshotRetention int
	// SnapshotRetentionTime is how far back the store can be restored to any moment.
	SnapshotRetentionTime time.Duration
	// RestoreProgress is told how far a start from object storage is; nil tells nobody. It is called by one goroutine at
	// a time and must not block.
	RestoreProgress func(s3snap.Progress)

	// PeerListenAddress is HOST:PORT for the other nodes of a cluster; empty: the node is alone.
	PeerListenAddress string
	// PeerAdvertiseAddress is HOST:PORT where the others reach this node; empty means PeerListenAddress.
	PeerAdvertiseAddress string
	// NodeID names the node in its cluster: 1 to 63 letters, digits, dots, dashes, underscores; the CN of its peer
	// certificate. Empty means Name.
	NodeID string
	// ClusterID names the cluster; the same on all its nodes, and the O of their peer certificates.
	ClusterID string
	// PeerCertFile, PeerKeyFile and PeerCAFile are the PEM files with which nodes prove themselves to each other.
	PeerCertFile, PeerKeyFile, PeerCAFile string
	// InsecurePeers uses no TLS between nodes; on loopback addresses only.
	InsecurePeers bool
	// HeartbeatInterval is how often the Primary says that it is there, SuspicionTime how long it may be silent.
	HeartbeatInterval, SuspicionTime time.Duration
	// DeregisterAfter is for how long a node may be gone before its vote is taken away; 0: for ever.
	DeregisterAfter time.Duration
	// MaxPendingUploadBytes of keys and values may wait for object storage; beyond it writes are refused.
	MaxPendingUploadBytes int64
	// StaleRead serves linearizable reads as serializable ones.
	StaleRead bool

	// Version is kinsy's own version, reported by /version and in metrics.
	Version string
	// Logger receives the node's log; nil means logrus's standard logger.
	Logger *logrus.Logger
}

// DefaultConfig returns the configuration of a node that nothing else was said about. With dev the data folder is
// DefaultDevDataDir, the profile is APIEtcd, the metrics listener is DefaultDevMetricsBindAddress, and REST is served on
// DefaultDevHTTPAddress.
func DefaultConfig(dev bool) Config {
	c := Config{
		Dev:                 dev,
		API:                 APINetsy,
		Name:                defaultName(),
		ListenAddress:       DefaultListenAddress,
		MetricsBindAddress:  DefaultMetricsBindAddress,
		EmulatedEtcdVersion: DefaultEmulatedEtcdVersion,
		MaxRequestBytes:     DefaultMaxRequestBytes,
		ValueCacheBytes:     DefaultValueCacheBytes,
		NotifyInterval:      DefaultNotifyInterval,
		SlowSQLThreshold:    DefaultSlowSQLThreshold,
		CompactInterval:     DefaultCompactInterval,
		CompactTimeout:      DefaultCompactTimeout,
		CompactMinRetain:    DefaultCompactMinRetain,
		CompactBatchSize:    DefaultCompactBatchSize,

		ObjectStore:           object.Config{Timeout: DefaultObjectStoreTimeout},
		Quorum:                DefaultQuorum,
		UploadInterval:        DefaultUploadInterval,
		UploadBytes:           DefaultUploadBytes,
		SnapshotRows:          DefaultSnapshotRows,
		SnapshotInterval:      DefaultSnapshotInterval,
		SnapshotRetention:     DefaultSnapshotRetention,
		SnapshotRetentionTime: DefaultSnapshotRetentionTime,

		HeartbeatInterval: DefaultHeartbeatInterval,
		SuspicionTime:     DefaultSuspicionTime,
		DeregisterAfter:   DefaultDeregisterAfter,

		MaxPendingUploadBytes: DefaultMaxPendingUploadBytes,
	}
	if dev {
		c.API = APIEtcd
		c.MetricsBindAddress = DefaultDevMetricsBindAddress
		c.HTTPAddress = DefaultDevHTTPAddress
	}
	return c
}

// DataFolder returns the data folder in force: DataDir, else the folder of the file that Endpoint names, else the
// default.
func (c Config) DataFolder() string {
	if c.DataDir != "" {
		return c.DataDir
	}
	if store, err := parseEndpoint(c.Endpoint); err == nil && store.path != "" {
		return filepath.Dir(store.path)
	}
	if c.Dev {
		return DefaultDevDataDir
	}
	return DefaultDataDir
}

// LogPath returns the path of the log's SQLite file.
func (c Config) LogPath() string {
	if store, err := parseEndpoint(c.Endpoint); err == nil && store.path != "" {
		return store.path
	}
	return filepath.Join(c.DataFolder(), logFileName)
}

// Clustered reports whether the node is one of a cluster.
func (c Config) Clustered() bool { return c.PeerListenAddress != "" }

// rest reports whether the node serves REST and WebSockets.
func (c Config) rest() bool { return c.HTTPAddress != "" && c.HTTPAddress != HTTPOff }

// TLS reports whether the node has a certificate and so serves TLS.
func (c Config) TLS() bool { return c.CertFile != "" && c.KeyFile != "" }

// metricsTLS reports whether the metrics listener serves TLS.
func (c Config) metricsTLS() bool { return c.TLS() && !c.MetricsIgnoreTLS }

// logger returns the configured logger or the standard one.
func (c Config) logger() *logrus.Logger {
	if c.Logger != nil {
		return c.Logger
	}
	return logrus.StandardLogger()
}

func defaultName() string {
	if name, err := os.Hostname(); err == nil && name != "" {
		return name
	}
	return DefaultName
}
