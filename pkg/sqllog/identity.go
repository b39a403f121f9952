package sqllog

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
)

// Identity names a log: the cluster it belongs to and the node that keeps it.
// Both are chosen at random when the log is created, are never 0, and stay with
// the file.
type Identity struct {
	Cluster, Node uint64
}

// Identity is the same at every opening.
func (l *Log) Identity() Identity { return l.identity }

// loadIdentity reads the identity, and makes one for a log that has none.
func (w *writer) loadIdentity() (id Identity, err error) {
	for _, part := range []struct {
		name string
		into *uint64
	}{{metaClusterID, &id.Cluster}, {metaNodeID, &id.Node}} {
		value, err := w.readMeta(part.name)
		if err != nil {
			return Identity{}, err
		}
		if value == nil {
			return w.makeIdentity()
		}
		if err := checkID(value); err != nil {
			return Identity{}, fmt.Errorf("meta entry %s: %w", part.name, err)
		}
		*part.into = binary.BigEndian.Uint64(value)
	}
	return id, nil
}

// makeIdentity chooses an identity and records it durably.
func (w *writer) makeIdentity() (Identity, error) {
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		return Identity{}, fmt.Errorf("choose ids: %w", err)
	}
	cluster, node := random[:8], random[8:]
	cluster[7] |= 1
	node[7] |= 1
	err := w.tx(func() error {
		if err := w.putMeta(metaClusterID, cluster); err != nil {
			return err
		}
		return w.putMeta(metaNodeID, node)
	})
	if err != nil {
		return Identity{}, fmt.Errorf("record ids: %w", err)
	}
	return Identity{Cluster: binary.BigEndian.Uint64(cluster), Node: binary.BigEndian.Uint64(node)}, nil
}

func checkID(value []byte) error {
	if len(value) != 8 {
		return fmt.Errorf("%w: an id of %d bytes", ErrCorrupt, len(value))
	}
	return nil
}
