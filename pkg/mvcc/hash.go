package mvcc

import (
	"context"
	"encoding/binary"
	"hash"
	"hash/crc32"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// HashKV is etcd's hash of the history up to a revision (0: the current one):
// the same for the same history. It is CRC-32C over the word "key" and then, in
// order of revision, etcd's 17 byte form of each revision ('t' added for a
// delete) and the mvccpb.KeyValue stored under it. Of the revisions up to the
// compacted one only those count that are visible at the revision asked for.
func (s *Store) HashKV(ctx context.Context, rev int64) (*pb.HashKVResponse, error) {
	pin := s.pins.enter()
	defer s.pins.leave(pin)
	current, compacted, head := s.committed.Load(), s.compacted.Load(), s.Head().ID
	if err := s.checkRevision(rev, current); err != nil {
		return nil, err
	}
	if rev == 0 {
		rev = current
	}
	visible, err := s.visibleAt(ctx, rev, compacted)
	if err != nil {
		return nil, err
	}
	h := kvHash{Hash32: crc32.New(crc32.MakeTable(crc32.Castagnoli))}
	h.Write([]byte("key"))
	err = s.log.Scan(ctx, 0, sqllog.ID(head), func(r *sqllog.Row) error {
		mod := int64(r.Revision)
		if !r.Kind.Changes() || mod > rev {
			return nil
		}
		if mod <= compacted && !s.isVisible(r, visible) {
			return nil
		}
		return h.row(r)
	})
	if err != nil {
		return nil, s.noteDamage(err)
	}
	return &pb.HashKVResponse{
		Header: &pb.ResponseHeader{Revision: current}, Hash: h.Sum32(),
		CompactRevision: compacted, HashRevision: rev,
	}, nil
}

// visibleAt is the revision at which compacted rows must be visible to count:
// rev, unless that leaves no key.
func (s *Store) visibleAt(ctx context.Context, rev, compacted int64) (int64, error) {
	live, err := s.collect(ctx, span{key: []byte{0}, toLast: true}, rev, 0, nil)
	if err != nil {
		return 0, err
	}
	for _, r := range live {
		if !deletedAt(r, rev) {
			return rev, nil
		}
	}
	return compacted, nil
}

// deletedAt tells whether a key was deleted at just this revision, even where
// the same Txn has put it again: etcd does not count it then.
func deletedAt(r *record, rev int64) bool {
	for ; r != nil && r.mod == rev; r = r.prev.Load() {
		if r.tombstone {
			return true
		}
	}
	return false
}

func (s *Store) isVisible(row *sqllog.Row, rev int64) bool {
	r := s.find(row.Key, rev)
	return r != nil && r.id == row.ID && !deletedAt(r, rev)
}

type kvHash struct {
	hash.Hash32
	buf []byte
}

func (h *kvHash) row(r *sqllog.Row) error {
	h.buf = binary.BigEndian.AppendUint64(h.buf[:0], uint64(r.Revision))
	h.buf = append(h.buf, '_')
	h.buf = binary.BigEndian.AppendUint64(h.buf, uint64(r.Sub))
	kv := mvccpb.KeyValue{Key: r.Key}
	if r.Kind == sqllog.KindDelete {
		h.buf = append(h.buf, 't')
	} else {
		kv.Value, kv.Lease, kv.Version = r.Value, r.Lease, r.Version
		kv.CreateRevision, kv.ModRevision = int64(r.CreateRevision), int64(r.Revision)
	}
	var err error
	if h.buf, err = (proto.MarshalOptions{}).MarshalAppend(h.buf, &kv); err != nil {
		return err
	}
	h.Write(h.buf)
	return nil
}

// Hash is CRC-32C over every row that the log keeps.
func (s *Store) Hash(ctx context.Context) (uint32, error) {
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	var buf []byte
	err := s.log.Scan(ctx, 0, s.Head().ID, func(r *sqllog.Row) error {
		buf = buf[:0]
		for _, n := range []int64{int64(r.ID), int64(r.Epoch), int64(r.Revision), r.Sub, int64(r.Kind),
			int64(r.CreateRevision), int64(r.PrevRevision), r.Version, r.Lease, int64(len(r.Key)), int64(len(r.Value))} {
			buf = binary.BigEndian.AppendUint64(buf, uint64(n))
		}
		h.Write(append(buf, r.Key...))
		h.Write(r.Value)
		return nil
	})
	return h.Sum32(), s.noteDamage(err)
}
