package sqllog

import (
	"database/sql/driver"
	"encoding/binary"
	"fmt"
	"strconv"
)

// Names of the entries of meta.
const (
	metaSchemaVersion = "schema_version"
	metaHead          = "head"         // written by Truncate
	metaRemovedHead   = "removed_head" // the newest row that Remove has deleted
	metaCompaction    = "compaction"   // written by Remove
	metaRecovered     = "recovered_at" // written by Recover
	metaClusterID     = "cluster_id"   // written once, like node_id: 8 bytes, big endian
	metaNodeID        = "node_id"
	metaCommitted     = "committed" // a head: rows up to it are committed
	metaPromise       = "promise"   // the highest epoch promised: 8 bytes, big endian
)

// state is what the database says beside the rows.
type state struct {
	head       Head
	removed    Head  // the newest row that was removed; the zero Head if none was
	promise    Epoch // as recorded; 0 for none
	compaction Compaction
}

// loadState reads the state through the writer.
func (w *writer) loadState() (state, error) {
	var s state
	var err error
	if s.head, err = lastRow(w.last, maxID); err != nil {
		return state{}, err
	}
	truncated, err := w.recordedHead(metaHead)
	if err != nil {
		return state{}, err
	}
	if s.removed, err = w.recordedHead(metaRemovedHead); err != nil {
		return state{}, err
	}
	for _, h := range []Head{truncated, s.removed} {
		if h.ID > s.head.ID {
			s.head = h
		}
	}
	if s.promise, err = w.readPromise(); err != nil {
		return state{}, fmt.Errorf("meta entry %s: %w", metaPromise, err)
	}
	value, err := w.readMeta(metaCompaction)
	if err != nil || value == nil {
		return s, err
	}
	s.compaction, err = decodeCompaction(value)
	return s, err
}

// lastRow runs dialect.lastUpTo: it names the last row whose id is not above
// upTo; for none, the head of an empty log.
func lastRow(s *stmt, upTo ID) (Head, error) {
	row, err := s.bind(int64(upTo)).first()
	if err != nil {
		return Head{}, fmt.Errorf("read last row: %w", err)
	}
	if row == nil {
		return Head{Revision: 1}, nil
	}
	n, err := integers(row, 3)
	if err != nil {
		return Head{}, fmt.Errorf("%w: last row: %w", ErrCorrupt, err)
	}
	return checkedHead(n[0], n[1], n[2])
}

// recordedHead gives the head that meta holds under a name, the zero Head if
// there is none.
func (w *writer) recordedHead(name string) (Head, error) {
	value, err := w.readMeta(name)
	if err != nil || value == nil {
		return Head{}, err
	}
	h, err := decodeHead(value)
	if err != nil {
		return Head{}, fmt.Errorf("meta entry %s: %w", name, err)
	}
	return h, nil
}

// readMeta gives an entry of meta, nil if there is none.
func (w *writer) readMeta(name string) ([]byte, error) {
	value, err := metaValue(w.getMeta.bind(name).first())
	if err != nil {
		return nil, fmt.Errorf("read meta entry %s: %w", name, err)
	}
	return value, nil
}

// metaValue takes the value out of a row of meta; no row gives nil, and no entry
// is empty.
func metaValue(row []driver.Value, err error) ([]byte, error) {
	if err != nil || row == nil {
		return nil, err
	}
	value, ok := row[0].([]byte)
	if !ok || len(value) == 0 {
		return nil, fmt.Errorf("%w: entry has no value but a %T", ErrCorrupt, row[0])
	}
	return value, nil
}

func (w *writer) putMeta(name string, value []byte) error {
	defer w.setMeta.release()
	return w.setMeta.bind(name, value).exec()
}

func parseVersion(value []byte) (int, error) {
	version, err := strconv.Atoi(string(value))
	if err != nil || version < 1 {
		return 0, fmt.Errorf("%w: schema version is %q", ErrCorrupt, value)
	}
	return version, nil
}

func encodeHead(h Head) []byte {
	b := binary.AppendUvarint(nil, uint64(h.ID))
	b = binary.AppendUvarint(b, uint64(h.Epoch))
	return binary.AppendUvarint(b, uint64(h.Revision))
}

func decodeHead(b []byte) (Head, error) {
	var v [3]int64
	for i := range v {
		u, n := binary.Uvarint(b)
		if n <= 0 || u > maxID {
			return Head{}, fmt.Errorf("%w: head is cut short or out of range", ErrCorrupt)
		}
		v[i], b = int64(u), b[n:]
	}
	if len(b) > 0 {
		return Head{}, fmt.Errorf("%w: head is followed by %d bytes", ErrCorrupt, len(b))
	}
	return checkedHead(v[0], v[1], v[2])
}

// checkedHead refuses numbers that no head has.
func checkedHead(id, epoch, revision int64) (Head, error) {
	if id < 0 || id > maxID || epoch < 0 || epoch > maxID || revision < 1 || revision > maxID {
		return Head{}, fmt.Errorf("%w: head has id %d, epoch %d and revision %d", ErrCorrupt, id, epoch, revision)
	}
	return Head{ID: ID(id), Epoch: Epoch(epoch), Revision: Revision(revision)}, nil
}
