package node

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestDefaultsAreValid(t *testing.T) {
	for _, dev := range []bool{false, true} {
		c := DefaultConfig(dev)
		if err := c.Validate(); err != nil {
			t.Errorf("dev=%v: %v", dev, err)
		}
	}
	if c := DefaultConfig(true); c.API != APIEtcd || c.MetricsBindAddress != DefaultDevMetricsBindAddress || c.HTTPAddress != DefaultDevHTTPAddress || c.DataFolder() != DefaultDevDataDir {
		t.Errorf("development defaults: %+v", c)
	}
	if c := DefaultConfig(false); c.API != APINetsy || c.DataFolder() != DefaultDataDir || c.LogPath() != DefaultDataDir+"/kinsy.db" {
		t.Errorf("server defaults: %+v", c)
	}
}

func TestValidateSentences(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Config)
		want   string // the whole error; empty: valid
	}{
		{"unix socket", func(c *Config) { c.ListenAddress = "unix:///run/kinsy.sock" }, ""},
		{"schemes", func(c *Config) { c.ListenAddress = "http://127.0.0.1:1, tcp://[::1]:2,localhost:3" }, ""},
		{"insecure allowed", func(c *Config) { c.ListenAddress, c.AllowInsecureListen = "0.0.0.0:2379", true }, ""},
		{"tls beyond loopback", func(c *Config) { c.ListenAddress, c.CertFile, c.KeyFile = "https://:2379", "c", "k" }, ""},
		{"no metrics", func(c *Config) { c.MetricsBindAddress = MetricsOff }, ""},
		{"no compaction", func(c *Config) { c.CompactInterval = 0 }, ""},
		{"endpoint in the data folder", func(c *Config) { c.DataDir, c.Endpoint = "d", "sqlite://./d/x.db" }, ""},
		{"insecure", func(c *Config) { c.ListenAddress = "0.0.0.0:2379" },
			"--listen-address 0.0.0.0:2379 is open beyond loopback without TLS; give --server-cert-file and --server-key-file, or allow it with --allow-insecure-listen"},
		{"insecure by name", func(c *Config) { c.ListenAddress = "node-1:2379" },
			"--listen-address node-1:2379 is open beyond loopback without TLS; give --server-cert-file and --server-key-file, or allow it with --allow-insecure-listen"},
		{"insecure metrics", func(c *Config) { c.MetricsBindAddress = ":8080" },
			"--metrics-bind-address :8080 is open beyond loopback without TLS; give --server-cert-file and --server-key-file, or allow it with --allow-insecure-listen"},
		{"insecure metrics beside tls", func(c *Config) {
			c.MetricsBindAddress, c.CertFile, c.KeyFile, c.MetricsIgnoreTLS = ":8080", "c", "k", true
		}, "--metrics-bind-address :8080 is open beyond loopback without TLS; give --server-cert-file and --server-key-file, or allow it with --allow-insecure-listen"},
		{"https without certificate", func(c *Config) { c.ListenAddress = "https://127.0.0.1:2379" },
			"--listen-address 127.0.0.1:2379 asks for TLS, which needs --server-cert-file and --server-key-file"},
		{"no address", func(c *Config) { c.ListenAddress = " " }, "--listen-address must name at least one address"},
		{"empty field", func(c *Config) { c.ListenAddress = "127.0.0.1:1," }, `--listen-address: "" is not HOST:PORT`},
		{"no port", func(c *Config) { c.ListenAddress = "127.0.0.1" }, `--listen-address: "127.0.0.1" is not HOST:PORT`},
		{"bad port", func(c *Config) { c.ListenAddress = "127.0.0.1:65536" }, `--listen-address: "127.0.0.1:65536" has no port between 0 and 65535`},
		{"bad scheme", func(c *Config) { c.ListenAddress = "udp://127.0.0.1:1" }, `--listen-address: "udp://127.0.0.1:1" has an unknown scheme; use HOST:PORT or unix://PATH`},
		{"no socket path", func(c *Config) { c.ListenAddress = "unix://" }, `--listen-address: "unix://" has no path after unix://`},
		{"twice", func(c *Config) { c.ListenAddress = "127.0.0.1:1,http://127.0.0.1:1" }, "--listen-address names 127.0.0.1:1 twice"},
		{"metrics address", func(c *Config) { c.MetricsBindAddress = "x" }, `--metrics-bind-address: "x" is not HOST:PORT; 0 turns it off`},
		{"pprof without metrics", func(c *Config) { c.MetricsBindAddress, c.EnablePprof = "0", true }, "--metrics-enable-profiling needs a --metrics-bind-address other than 0"},
		{"certificate without key", func(c *Config) { c.CertFile = "c" }, "--server-cert-file needs --server-key-file"},
		{"key without certificate", func(c *Config) { c.KeyFile = "k" }, "--server-key-file needs --server-cert-file"},
		{"CA alone", func(c *Config) { c.TrustedCAFile = "ca" }, "--trusted-ca-file needs --server-cert-file and --server-key-file"},
		{"REST", func(c *Config) { c.HTTPAddress, c.CORS = "127.0.0.1:1,[::1]:1", "https://a.example, *" }, ""},
		{"REST exposed", func(c *Config) { c.HTTPAddress = ":1" }, "--http-address :1 is open beyond loopback without TLS; give --server-cert-file and --server-key-file, or allow it with --allow-insecure-listen"},
		{"REST with TLS", func(c *Config) { c.HTTPAddress = "https://127.0.0.1:1" }, "--http-address 127.0.0.1:1 asks for TLS, which needs --server-cert-file and --server-key-file"},
		{"origin", func(c *Config) { c.HTTPAddress, c.CORS = "127.0.0.1:1", "a.example" }, `--cors: "a.example" is not an origin such as https://example.com:8443, nor *`},
		{"profile", func(c *Config) { c.API = "rest" }, `--api must be netsy or etcd, not "rest"`},
		{"name", func(c *Config) { c.Name = "" }, "--name must not be empty"},
		{"etcd version", func(c *Config) { c.EmulatedEtcdVersion = "v3.6" }, `--emulated-etcd-version must be a version such as 3.6.16, not "v3.6"`},
		{"request size", func(c *Config) { c.MaxRequestBytes = 0 }, "--max-request-bytes must be between 1 and 1073741824"},
		{"cache size", func(c *Config) { c.ValueCacheBytes = -1 }, "--value-cache-bytes must not be negative"},
		{"progress", func(c *Config) { c.NotifyInterval = -1 }, "--watch-progress-notify-interval must not be negative"},
		{"interval", func(c *Config) { c.CompactInterval = -1 }, "--compact-interval must not be negative"},
		{"jitter", func(c *Config) { c.CompactIntervalJitter = 100 }, "--compact-interval-jitter must be between 0 and 99"},
		{"timeout", func(c *Config) { c.CompactTimeout = 0 }, "--compact-timeout must be more than 0"},
		{"retain", func(c *Config) { c.CompactMinRetain = -1 }, "--compact-min-retain must not be negative"},
		{"batch", func(c *Config) { c.CompactBatchSize = 0 }, "--compact-batch-size must be more than 0"},
		{"advertise", func(c *Config) { c.AdvertiseClientURLs = "localhost" }, `--advertise-client-urls: "localhost" is not a URL such as https://HOST:PORT`},
		{"folders", func(c *Config) { c.DataDir, c.Endpoint = "d", "sqlite:///e/x.db" }, "--data-dir and --endpoint name different folders; give only one of them, or the same folder in both"},
		{"commit by object storage", func(c *Config) { c.ObjectStore.URL, c.Quorum = "s3://bucket/prefix", 0 }, ""},
		{"uploads to a folder", func(c *Config) { c.ObjectStore.URL = "file:///var/backup" }, ""},
		{"no snapshots", func(c *Config) { c.SnapshotRows, c.SnapshotInterval, c.SnapshotRetentionTime = 0, 0, 0 }, ""},
		{"object store", func(c *Config) { c.ObjectStore.URL = "ftp://u:secret@h/" }, "--object-store must not hold credentials; use --s3-access-key and --s3-secret-key"},
		{"half a key", func(c *Config) { c.ObjectStore.URL, c.ObjectStore.S3.SecretKey = "s3://bucket", "secret" }, "--s3-access-key and --s3-secret-key must be set together"},
		{"S3 without a store", func(c *Config) { c.ObjectStore.S3.Region = "r" }, "the --s3- flags need --object-store s3://BUCKET/PREFIX"},
		{"quorum without a store", func(c *Config) { c.Quorum = 0 }, "--quorum 0 needs --object-store"},
		{"quorum of a cluster", func(c *Config) { c.Quorum = 1 }, "--quorum 1 and more needs a cluster: --peer-listen-address; a node that is alone has -1 or 0"},
		{"quorum of nothing", func(c *Config) { c.Quorum = -2 }, "--quorum must not be less than -1"},
		{"upload interval", func(c *Config) { c.UploadInterval = 0 }, "--upload-interval must be more than 0"},
		{"no upload bytes", func(c *Config) { c.UploadBytes = 0 }, "--upload-bytes must be between 1 and 67108864"},
		{"upload bytes", func(c *Config) { c.UploadBytes = 1 << 40 }, "--upload-bytes must be between 1 and 67108864"},
		{"snapshot rows", func(c *Config) { c.SnapshotRows = -1 }, "--snapshot-rows must not be negative"},
		{"snapshot interval", func(c *Config) { c.SnapshotInterval = -1 }, "--snapshot-interval must not be negative"},
		{"retention", func(c *Config) { c.SnapshotRetention = 0 }, "--snapshot-retention must be at least 1"},
		{"retention time", func(c *Config) { c.SnapshotRetentionTime = -1 }, "--snapshot-retention-time must not be negative"},
		{"two at once", func(c *Config) { c.API, c.Name = "rest", "" }, "--api must be netsy or etcd, not \"rest\"\n--name must not be empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := DefaultConfig(false)
			tt.change(&c)
			got := ""
			if err := c.Validate(); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestEndpoint(t *testing.T) {
	tests := []struct {
		endpoint string
		path     string
		ignored  []string
		err      string
	}{
		{"", "", nil, ""},
		{"sqlite", "", nil, ""},
		{"sqlite://", "", nil, ""},
		{"sqlite://./db/state.db", "./db/state.db", nil, ""},
		{"sqlite:///var/x.db?_journal_mode=WAL&cache=shared", "/var/x.db", []string{"_journal_mode", "cache"}, ""},
		{"sqlite://file:/var/x.db", "/var/x.db", nil, ""},
		{"sqlite:///var/x.db?mode=ro", "", nil, `parameter "mode"`},
		{"sqlite:///var/x.db?%zz=1", "", nil, "percent-encoded"},
		{"sqlite://:memory:", "", nil, "in memory"},
		{"sqlit", "", nil, "--endpoint must be sqlite"},
		{"postgres://user:secret@db/kine", "", nil, "--endpoint postgres:// is not supported"},
		{"mysql://user:secret@tcp(db)/kine", "", nil, "--endpoint mysql:// is not supported"},
		{"nats://user:secret@db", "", nil, "SQLite only"},
		{"https://user:secret@etcd:2379", "", nil, "SQLite only"},
	}
	for _, tt := range tests {
		got, err := parseEndpoint(tt.endpoint)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: error %v, want one with %q and without the password", tt.endpoint, err, tt.err)
			}
			continue
		}
		if err != nil || got.path != tt.path || !slices.Equal(got.ignored, tt.ignored) {
			t.Errorf("%s: got %+v, %v", tt.endpoint, got, err)
		}
	}
}

func TestEndpointGivesDataFolder(t *testing.T) {
	dir := t.TempDir()
	c := DefaultConfig(false)
	c.Endpoint = "sqlite://" + filepath.Join(dir, "state.db")
	if c.DataFolder() != dir || c.LogPath() != filepath.Join(dir, "state.db") {
		t.Errorf("folder %s, log %s", c.DataFolder(), c.LogPath())
	}
}

func TestAddressURL(t *testing.T) {
	tests := []struct {
		in   string
		tls  bool
		want string
	}{
		{"127.0.0.1:2379", false, "http://127.0.0.1:2379"},
		{"https://127.0.0.1:2379/", true, "https://127.0.0.1:2379"},
		{"unix://k.sock", false, "unix://k.sock"},
		{"unixs:///run/k.sock", true, "unixs:///run/k.sock"},
	}
	for _, tt := range tests {
		a, err := parseAddress(tt.in)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.url(tt.tls); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.in, got, tt.want)
		}
	}
}

func TestReachableAddress(t *testing.T) {
	for in, want := range map[string]string{
		"127.0.0.1:1": "http://127.0.0.1:1", "0.0.0.0:1": "http://node-1:1", "[::]:1": "http://node-1:1", ":1": "http://node-1:1",
		"db.example:1": "http://db.example:1", "unix://k.sock": "unix://k.sock",
	} {
		a, err := parseAddress(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.reachable("node-1").url(false); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}
