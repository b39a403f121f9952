package replicate

import (
	"errors"
	"fmt"

	"github.com/kinsy/kinsy/pkg/sqllog"
)

// The errors of this package, matched with errors.Is.
var (
	// ErrNoSpace: the disk is full; the write was not done.
	ErrNoSpace = errors.New("no space to write")
	// ErrUnavailable: the write could not be made durable. Whether it will appear
	// is not known to the client.
	ErrUnavailable = errors.New("write could not be committed")
	// ErrStopped: the node is shutting down.
	ErrStopped = errors.New("node is stopping")
	// ErrDeposed: another node became Primary before the write was known to be
	// committed. Whether it will appear is not known to the client.
	ErrDeposed = errors.New("primary has changed")
	// ErrNoSuccessor: no other voter can become Primary now.
	ErrNoSuccessor = errors.New("no other node can become primary")
	// ErrNotPrimary: this node does not order writes.
	ErrNotPrimary = errors.New("node is not the primary")
)

// commitError turns an append's error into what its clients are told.
func commitError(err error) error {
	if errors.Is(err, sqllog.ErrFull) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
