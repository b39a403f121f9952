package sqllog

import (
	"fmt"
	"strconv"
)

// ID is the position of a row in the log: contiguous, from 1.
type ID int64

// Epoch numbers the appointments of a Primary. A row carries the epoch of the
// Primary that wrote it.
type Epoch int64

// Revision is the etcd revision. A fresh store is at revision 1.
type Revision int64

func (i ID) String() string       { return strconv.FormatInt(int64(i), 10) }
func (e Epoch) String() string    { return strconv.FormatInt(int64(e), 10) }
func (r Revision) String() string { return strconv.FormatInt(int64(r), 10) }

// Kind says what a row is. Zero is no kind.
type Kind uint8

// The kinds of rows. Their numbers are part of the disk format.
const (
	KindPut     Kind = 1
	KindDelete  Kind = 2
	KindLease   Kind = 3
	KindCompact Kind = 4
	KindEpoch   Kind = 5
	KindMember  Kind = 6
)

var kindNames = [...]string{"", "put", "delete", "lease", "compact", "epoch", "member"}

// Valid reports whether k is one of the kinds above.
func (k Kind) Valid() bool { return k >= KindPut && k <= KindMember }

func (k Kind) String() string {
	if !k.Valid() {
		return fmt.Sprintf("kind(%d)", uint8(k))
	}
	return kindNames[k]
}

// Changes reports whether rows of this kind carry a change of a key, and so a
// revision of their own.
func (k Kind) Changes() bool { return k == KindPut || k == KindDelete }

// Row is one entry of the log. doc.go says which fields each kind uses.
type Row struct {
	ID             ID
	Epoch          Epoch
	Revision       Revision
	Sub            int64 // position among the changes of one revision, from 0
	Kind           Kind
	Key            []byte
	Value          []byte
	CreateRevision Revision
	PrevRevision   Revision
	Version        int64
	Lease          int64
	WrittenAt      int64 // milliseconds since the Unix epoch
	// ValueSize is the length of the value in bytes. ScanKeys sets it and
	// leaves Value nil; Append ignores it.
	ValueSize int64
}

// Head names the newest row ever appended.
type Head struct {
	ID       ID
	Epoch    Epoch
	Revision Revision
}

// Validate checks a row by itself: one that fails is refused by Append and reported
// as corruption by the scans.
func (r *Row) Validate() error {
	switch {
	case r.ID < 1 || r.ID > maxID:
		return fmt.Errorf("id %d is out of range", r.ID)
	case !r.Kind.Valid():
		return fmt.Errorf("row %d has unknown kind %d", r.ID, uint8(r.Kind))
	case r.Epoch < 1 || r.Epoch > maxID || r.Revision < 1 || r.Revision > maxID:
		return fmt.Errorf("row %d has epoch %d and revision %d", r.ID, r.Epoch, r.Revision)
	case r.Kind.Changes() && len(r.Key) == 0:
		return fmt.Errorf("%s row %d has no key", r.Kind, r.ID)
	case r.Kind == KindPut && (r.CreateRevision < 1 || r.CreateRevision > r.Revision || r.Version < 1):
		return fmt.Errorf("put row %d has create revision %d and version %d", r.ID, r.CreateRevision, r.Version)
	case r.Sub < 0 || r.PrevRevision < 0 || r.PrevRevision > r.Revision:
		return fmt.Errorf("row %d has sub %d and previous revision %d", r.ID, r.Sub, r.PrevRevision)
	case r.Kind == KindLease && (r.Lease == 0 || r.Version < 0):
		return fmt.Errorf("lease row %d has lease %d and TTL %d", r.ID, r.Lease, r.Version)
	case r.Kind == KindCompact && (r.CreateRevision < 1 || r.CreateRevision > r.Revision):
		return fmt.Errorf("compact row %d compacts to %d at revision %d", r.ID, r.CreateRevision, r.Revision)
	}
	return nil
}
