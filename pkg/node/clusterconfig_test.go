package node

import "testing"

// clustered is a valid node of a cluster, but for what change does to it.
func clustered(change func(*Config)) Config {
	c := DefaultConfig(false)
	c.ObjectStore.URL, c.ClusterID, c.NodeID = "s3://bucket/prefix", "prod", "n1"
	c.PeerListenAddress = "10.0.0.1:2380"
	c.PeerCertFile, c.PeerKeyFile, c.PeerCAFile = "c", "k", "ca"
	change(&c)
	return c
}

// withoutTLS makes the configuration one without TLS between nodes.
func withoutTLS(c *Config) {
	c.PeerListenAddress, c.InsecurePeers = "127.0.0.1:2380", true
	c.PeerCertFile, c.PeerKeyFile, c.PeerCAFile = "", "", ""
}

const (
	aloneSentence     = "the --peer- flags and --insecure-peers need --peer-listen-address"
	suspicionSentence = "--suspicion-time must be at least 50ms and three times --heartbeat-interval"
	filesSentence     = "--peer-cert-file, --peer-key-file and --peer-ca-file are needed together; --insecure-peers does without on loopback addresses"
)

func TestValidateClusterSentences(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Config)
		want   string // the whole error; empty: valid
	}{
		{"as it is", func(*Config) {}, ""},
		{"without TLS on loopback", withoutTLS, ""},
		{"named by --name", func(c *Config) { c.NodeID, c.Name = "", "host-1" }, ""},
		{"quorum of receipts", func(c *Config) { c.Quorum = 1 }, ""},
		{"quorum of object storage", func(c *Config) { c.Quorum = 0 }, ""},
		{"never deregistered", func(c *Config) { c.DeregisterAfter = 0 }, ""},
		{"other times", func(c *Config) { c.HeartbeatInterval, c.SuspicionTime = MinSuspicionTime/3, MinSuspicionTime }, ""},
		{"elsewhere advertised", func(c *Config) { c.PeerListenAddress, c.PeerAdvertiseAddress = ":2380", "n1.example:2380" }, ""},
		{"cluster id alone", func(c *Config) { *c = DefaultConfig(false); c.ClusterID, c.NodeID = "prod", "n1" }, ""},

		{"advertise alone", func(c *Config) { *c = DefaultConfig(false); c.PeerAdvertiseAddress = "10.0.0.1:2380" }, aloneSentence},
		{"certificate alone", func(c *Config) { *c = DefaultConfig(false); c.PeerCertFile = "c" }, aloneSentence},
		{"key alone", func(c *Config) { *c = DefaultConfig(false); c.PeerKeyFile = "k" }, aloneSentence},
		{"authorities alone", func(c *Config) { *c = DefaultConfig(false); c.PeerCAFile = "ca" }, aloneSentence},
		{"insecure alone", func(c *Config) { *c = DefaultConfig(false); c.InsecurePeers = true }, aloneSentence},

		{"no object store", func(c *Config) { c.ObjectStore.URL = "" }, "--peer-listen-address needs --object-store: nodes find each other through it"},
		{"no cluster id", func(c *Config) { c.ClusterID = "" }, "--peer-listen-address needs --cluster-id, the same on all nodes"},
		{"neither", func(c *Config) { c.ObjectStore.URL, c.ClusterID = "", "" },
			"--peer-listen-address needs --object-store: nodes find each other through it\n--peer-listen-address needs --cluster-id, the same on all nodes"},
		{"no heartbeats", func(c *Config) { c.HeartbeatInterval = 0 }, suspicionSentence},
		{"too suspicious", func(c *Config) { c.HeartbeatInterval, c.SuspicionTime = 1, MinSuspicionTime-1 }, suspicionSentence},
		{"two heartbeats", func(c *Config) { c.SuspicionTime = 2 * c.HeartbeatInterval }, suspicionSentence},
		{"deregistered before", func(c *Config) { c.DeregisterAfter = -1 }, "--deregister-after must not be negative"},
		{"nothing may wait", func(c *Config) { c.MaxPendingUploadBytes = 0 }, "--max-pending-upload-bytes must be more than 0"},
		{"node id", func(c *Config) { c.NodeID = "n/1" }, `--node-id "n/1" is not 1 to 63 letters, digits, dots, dashes or underscores`},
		{"name as node id", func(c *Config) { c.NodeID, c.Name = "", "n 1" }, `--node-id "n 1" is not 1 to 63 letters, digits, dots, dashes or underscores`},
		{"no certificate", func(c *Config) { c.PeerCertFile = "" }, filesSentence},
		{"no key", func(c *Config) { c.PeerKeyFile = "" }, filesSentence},
		{"no authorities", func(c *Config) { c.PeerCAFile = "" }, filesSentence},
		{"insecure with files", func(c *Config) { c.InsecurePeers = true },
			"--insecure-peers and --peer-cert-file, --peer-key-file, --peer-ca-file exclude each other"},
		{"listen address", func(c *Config) { c.PeerListenAddress = "10.0.0.1" }, `--peer-listen-address "10.0.0.1" is not HOST:PORT`},
		{"insecure beyond loopback", func(c *Config) { withoutTLS(c); c.PeerListenAddress = "10.0.0.1:2380" },
			"--peer-listen-address 10.0.0.1:2380 is not a loopback address, which --insecure-peers needs; give --peer-cert-file, --peer-key-file and --peer-ca-file"},
		{"advertised beyond loopback", func(c *Config) { withoutTLS(c); c.PeerAdvertiseAddress = "10.0.0.1:2380" },
			"--peer-advertise-address 10.0.0.1:2380 is not a loopback address, which --insecure-peers needs; give --peer-cert-file, --peer-key-file and --peer-ca-file"},
		{"advertise address", func(c *Config) { c.PeerAdvertiseAddress = "n1" }, `--peer-advertise-address "n1" is not HOST:PORT`},
		{"nobody's address", func(c *Config) { c.PeerAdvertiseAddress = "0.0.0.0:2380" }, "--peer-advertise-address 0.0.0.0:2380 is no address that others can reach"},
		{"everybody's address", func(c *Config) { c.PeerListenAddress = ":2380" },
			"--peer-listen-address :2380 is no address that others can reach; give --peer-advertise-address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if err := clustered(tt.change).Validate(); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}
