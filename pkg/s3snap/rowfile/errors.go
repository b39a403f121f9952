package rowfile

import (
	"errors"
	"fmt"
)

// The errors of this package. All are matched with errors.Is.
var (
	// ErrCorrupt: the bytes are not what was written. The error is a
	// *CorruptError, which says where.
	ErrCorrupt = errors.New("row file is corrupt")
	// ErrInvalid: the header or a row breaks an invariant and is not written.
	ErrInvalid = errors.New("invalid row file")
	// ErrNewer: the file was written by a newer version.
	ErrNewer = errors.New("row file was written by a newer version of kinsy")
	// ErrEncrypted: the file is inside the encryption envelope of package
	// object, and was read without a key file.
	ErrEncrypted = errors.New("file is encrypted and was read without a key")
)

// CorruptError says where a file is damaged. It matches ErrCorrupt.
type CorruptError struct {
	// Offset is in bytes from the start of the file: that of the part that does
	// not hold (header, block, trailer), or the end of a file that is cut short.
	Offset int64
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%v at byte %d: %s", ErrCorrupt, e.Offset, e.Reason)
}

// Is makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

func corruptf(offset int64, format string, args ...any) error {
	return &CorruptError{Offset: offset, Reason: fmt.Sprintf(format, args...)}
}
