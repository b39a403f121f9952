package transfer

import (
	"crypto/sha256"
	"encoding/binary"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// The buckets of etcd 3.6 and 3.7, and the entries of meta, auth and cluster
// that matter here.
const (
	bucketKey   = "key"
	bucketLease = "lease"
	bucketMeta  = "meta"
	bucketAlarm = "alarm"
	bucketAuth  = "auth"
	bucketUsers = "authUsers"
	bucketRoles = "authRoles"

	metaScheduled = "scheduledCompactRev"
	metaFinished  = "finishedCompactRev"
	metaIndex     = "consistent_index"
	metaTerm      = "term"
	metaVersion   = "storageVersion"
	authEnabled   = "authEnabled"
)

// etcdBuckets are all that etcd 3.6 and 3.7 have.
var etcdBuckets = []string{
	bucketKey, bucketMeta, bucketLease, bucketAlarm, "cluster", "members", "members_removed",
	bucketAuth, bucketUsers, bucketRoles,
}

// EtcdStorageVersion is the storage version of the files that WriteEtcdDB makes.
// etcd 3.6 and 3.7 take it.
const EtcdStorageVersion = "3.6.0"

// checksumSize is what `etcdctl snapshot save` adds to a database, whose size is
// a multiple of sectorSize.
const (
	checksumSize = sha256.Size
	sectorSize   = 512
)

// minLeaseTTL, in seconds, is what etcd and kinsy raise shorter TTLs to.
const minLeaseTTL = 2

// revisionBytes is etcd's form of a revision and a position in it; deletes have
// a letter more.
const (
	revisionBytes = 17
	deleteMark    = 't'
)

func appendRevision(b []byte, rev sqllog.Revision, sub int64, deleted bool) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(rev))
	b = append(b, '_')
	b = binary.BigEndian.AppendUint64(b, uint64(sub))
	if deleted {
		b = append(b, deleteMark)
	}
	return b
}

func parseRevision(b []byte) (rev sqllog.Revision, sub int64, deleted bool, err error) {
	deleted = len(b) == revisionBytes+1 && b[revisionBytes] == deleteMark
	if len(b) != revisionBytes && !deleted || b[8] != '_' {
		return 0, 0, false, damaged("%x is no revision", b)
	}
	r, s := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[9:])
	if r > math.MaxInt64-1 || s > math.MaxInt64-1 {
		return 0, 0, false, damaged("revision %d is out of range", r)
	}
	return sqllog.Revision(r), int64(s), deleted, nil
}

// Fields of leasepb.Lease.
const (
	leaseFieldID  = 1
	leaseFieldTTL = 2
)

func appendLease(b []byte, id, ttl int64) []byte {
	b = protowire.AppendTag(b, leaseFieldID, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(id))
	b = protowire.AppendTag(b, leaseFieldTTL, protowire.VarintType)
	return protowire.AppendVarint(b, uint64(ttl))
}

// parseLease reads a leasepb.Lease and passes over the remaining TTL.
func parseLease(b []byte) (id, ttl int64, err error) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, 0, damaged("a lease is cut short")
		}
		b = b[n:]
		if typ == protowire.VarintType {
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return 0, 0, damaged("a lease is cut short")
			}
			switch num {
			case leaseFieldID:
				id = int64(v)
			case leaseFieldTTL:
				ttl = int64(v)
			}
			b = b[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return 0, 0, damaged("a lease is cut short")
		}
		b = b[n:]
	}
	if id == 0 {
		return 0, 0, damaged("a lease has no id")
	}
	return id, max(ttl, minLeaseTTL), nil
}

func appendLeaseKey(b []byte, id int64) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(id))
}
