package sqllog

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
)

// Identity names a log: the cluster it belongs to and the node that keeps it.
// Both are never 0 and stay with the file. The node's is chosen at random when
// the log is created, and so is the cluster's where Config has none.
type Identity struct {
	Cluster, Node uint64
}

// Identity is the same at every opening.
func (l *Log) Identity() Identity { return l.identity }

// loadIdentity reads the identity, and makes one, of the given cluster unless
// that is 0, for a log that has none.
func (w *writer) loadIdentity(cluster uint64) (id Identity, err error) {
	for _, part := range []struct {
		name string
		into *uint64
	}{{metaClusterID, &id.Cluster}, {metaNodeID, &id.Node}} {
		value, err := w.readMeta(part.name)
		if err != nil {
			return Identity{}, err
		}
		if value == nil {
			return w.makeIdentity(cluster)
		}
		if err := checkID(value); err != nil {
			return Identity{}, fmt.Errorf("meta entry %s: %w", part.name, err)
		}
		*part.into = binary.BigEndian.Uint64(value)
	}
	return id, nil
}

// makeIdentity chooses an identity and records it durably.
func (w *writer) makeIdentity(cluster uint64) (id Identity, err error) {
	if id, err = newIdentity(cluster); err != nil {
		return Identity{}, err
	}
	if err := w.tx(func() error { return w.putIdentity(id) }); err != nil {
		return Identity{}, fmt.Errorf("record ids: %w", err)
	}
	return id, nil
}

func newIdentity(cluster uint64) (Identity, error) {
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		return Identity{}, fmt.Errorf("choose ids: %w", err)
	}
	if cluster == 0 {
		cluster = binary.BigEndian.Uint64(random[:8]) | 1
	}
	return Identity{Cluster: cluster, Node: binary.BigEndian.Uint64(random[8:]) | 1}, nil
}

func (w *writer) putIdentity(id Identity) error {
	if err := w.putMeta(metaClusterID, binary.BigEndian.AppendUint64(nil, id.Cluster)); err != nil {
		return err
	}
	return w.putMeta(metaNodeID, binary.BigEndian.AppendUint64(nil, id.Node))
}

func checkID(value []byte) error {
	if len(value) != 8 {
		return fmt.Errorf("%w: an id of %d bytes", ErrCorrupt, len(value))
	}
	return nil
}
