package cli

import "github.com/kinsy/kinsy/pkg/node"

func (f *flagSet) addCluster(c *node.Config) {
	f.addClusterID(c)
	f.text(&c.NodeID, spec{name: "node-id", category: categoryCluster, fallback: "--name",
		usage: "name of the node in its cluster; the CN of its peer certificate"})
	f.text(&c.PeerListenAddress, spec{name: "peer-listen-address", category: categoryCluster,
		usage: "HOST:PORT for the other nodes; makes the node one of a cluster"})
	f.text(&c.PeerAdvertiseAddress, spec{name: "peer-advertise-address", category: categoryCluster, fallback: "--peer-listen-address",
		usage: "HOST:PORT where the other nodes reach this one"})
	f.addPeerTLS(c)
	f.duration(&c.HeartbeatInterval, spec{name: "heartbeat-interval", category: categoryCluster,
		usage: "how often the primary says that it is there"})
	f.duration(&c.SuspicionTime, spec{name: "suspicion-time", category: categoryCluster,
		usage: "how long the primary may be silent before another one is elected"})
	f.duration(&c.DeregisterAfter, spec{name: "deregister-after", category: categoryCluster,
		usage: "how long a node may be gone before its vote is taken away; 0: for ever"})
	f.size(&c.MaxPendingUploadBytes, spec{name: "max-pending-upload-bytes", category: categoryCluster,
		usage: "bytes of keys and values that may wait for object storage; beyond it writes are refused"})
	f.boolean(&c.StaleRead, spec{name: "stale-read", category: categoryCluster,
		usage: "answer linearizable reads as serializable ones: fast, and perhaps not the newest"})
}

// addClusterID adds the flag that nodes and commands need to find each other.
func (f *flagSet) addClusterID(c *node.Config) {
	f.text(&c.ClusterID, spec{name: "cluster-id", category: categoryCluster,
		usage: "name of the cluster, the same on all its nodes"})
}

// addPeerTLS adds the flags by which a node, or a command, proves itself to nodes.
func (f *flagSet) addPeerTLS(c *node.Config) {
	f.text(&c.PeerCertFile, spec{name: "peer-cert-file", category: categoryCluster,
		usage: "PEM `FILE` with the certificate that other nodes are shown; read again when it changes"})
	f.text(&c.PeerKeyFile, spec{name: "peer-key-file", category: categoryCluster,
		usage: "PEM `FILE` with its key"})
	f.text(&c.PeerCAFile, spec{name: "peer-ca-file", category: categoryCluster,
		usage: "PEM `FILE` with the authorities of the nodes' certificates"})
	f.boolean(&c.InsecurePeers, spec{name: "insecure-peers", category: categoryCluster,
		usage: "no TLS between nodes; on loopback addresses only"})
}
