package node

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/kinsy/kinsy/pkg/peer"
)

// The errors of a node that must not take part in its cluster.
var (
	// ErrCloned: another process that is alive has this node's name, or its disk.
	ErrCloned = errors.New("another process is this node")
	// ErrOldDisk: the log is older than it once was: a backup that was brought back. What it had promised and
	// acknowledged since is forgotten.
	ErrOldDisk = errors.New("the log is an old copy")

	errLoading = errors.New("this node is loading")
)

// MinSuspicionTime is the least time of silence that a Primary is granted.
const MinSuspicionTime = 50 * time.Millisecond

func (c Config) validateCluster() error {
	if !c.Clustered() {
		if c.PeerAdvertiseAddress != "" || c.PeerCertFile != "" || c.PeerKeyFile != "" || c.PeerCAFile != "" || c.InsecurePeers {
			return errors.New("the --peer- flags and --insecure-peers need --peer-listen-address")
		}
		return nil
	}
	var errs []error
	if c.ObjectStore.URL == "" {
		errs = append(errs, errors.New("--peer-listen-address needs --object-store: nodes find each other through it"))
	}
	if c.ClusterID == "" {
		errs = append(errs, errors.New("--peer-listen-address needs --cluster-id, the same on all nodes"))
	}
	if c.HeartbeatInterval <= 0 || c.SuspicionTime < MinSuspicionTime || c.SuspicionTime < 3*c.HeartbeatInterval {
		errs = append(errs, fmt.Errorf("--suspicion-time must be at least %s and three times --heartbeat-interval", MinSuspicionTime))
	}
	if c.DeregisterAfter < 0 {
		errs = append(errs, errors.New("--deregister-after must not be negative"))
	}
	if c.MaxPendingUploadBytes <= 0 {
		errs = append(errs, errors.New("--max-pending-upload-bytes must be more than 0"))
	}
	if c.ClusterID != "" {
		errs = append(errs, peer.Config{
			Self: 1, Name: c.nodeID(), Cluster: peer.ClusterID(c.ClusterID),
			ListenAddress: c.PeerListenAddress, AdvertiseAddress: c.PeerAdvertiseAddress,
			CertFile: c.PeerCertFile, KeyFile: c.PeerKeyFile, CAFile: c.PeerCAFile, Insecure: c.InsecurePeers,
			Handler: (*clusterParts)(nil), // it is only looked whether there is one
		}.Validate())
	}
	if host, _, err := net.SplitHostPort(c.PeerListenAddress); err == nil && c.PeerAdvertiseAddress == "" && (host == "" || net.ParseIP(host).IsUnspecified()) {
		errs = append(errs, fmt.Errorf("--peer-listen-address %s is no address that others can reach; give --peer-advertise-address", c.PeerListenAddress))
	}
	return errors.Join(errs...)
}

// nodeID is the name of the node in its cluster.
func (c Config) nodeID() string {
	if c.NodeID != "" {
		return c.NodeID
	}
	return c.Name
}
