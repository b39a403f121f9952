package s3snap

import (
	"context"
	"sync"

	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

// known is what a Control has last seen of the objects that an election changes. A
// compare-and-swap from it succeeds only if that is what is there still: no content
// of cluster.json or elector.json comes twice. So it takes the place of a read, and
// where it is old the read is made then.
type known struct {
	mu      sync.Mutex
	file    clusterFile
	version string // of file, empty if it is not known
	lock    Lock
	state   object.Info // of lock
	locked  bool        // lock is known
}

// cluster gives cluster.json and its version.
func (k *known) cluster() (clusterFile, string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.file, k.version
}

// setCluster notes what cluster.json was at a version; "" is for not known.
func (k *known) setCluster(file clusterFile, version string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.file, k.version = file, version
}

// lockState gives the state of the object that said that the lock is l.
func (k *known) lockState(l Lock) (object.Info, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state, k.locked && k.lock == l
}

func (k *known) setLock(l Lock, state object.Info) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lock, k.state, k.locked = l, state, true
}

// readCluster reads cluster.json, and notes what it is.
func (c *Control) readCluster(ctx context.Context) (clusterFile, object.Info, error) {
	file, info, err := readClusterInfo(ctx, c.store)
	if err == nil {
		c.known.setCluster(file, info.Version)
	}
	return file, info, err
}

// swapCluster changes cluster.json from a version.
func (c *Control) swapCluster(ctx context.Context, file clusterFile, from string) error {
	version, err := putJSONVersion(ctx, c.store, clusterKey, file, object.Condition{IfVersion: from})
	if err != nil {
		version = ""
	}
	c.known.setCluster(file, version)
	return swapped(err)
}
