package s3snap

import (
	"errors"
	"fmt"
	"os"
)

// A node that takes over rows of the chain appends them with their epochs, which
// are those of other Primaries, and may write only in one of its own. Should it
// stop in between, a file beside the log tells the next start: that must become
// Primary of a new epoch whatever the commit rule is, and not without object
// storage.

// adoptingSuffix is of that file's name.
const adoptingSuffix = ".adopting"

// beginAdoption notes, durably, that the log gets rows of other Primaries.
func (s *starter) beginAdoption() error {
	if s.cluster {
		return nil // only Lead makes a Primary, and always of a new epoch
	}
	s.adopted = true
	f, err := os.OpenFile(s.cfg.Path+adoptingSuffix, os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close(), syncFolder(s.cfg.Path))
	}
	if err != nil {
		return fmt.Errorf("note that rows are taken over: %w", err)
	}
	return nil
}

// resumeAdoption finds out whether a start before this one has taken over rows and
// went no further.
func (s *starter) resumeAdoption() error {
	_, err := os.Stat(s.cfg.Path + adoptingSuffix)
	switch {
	case err == nil:
		s.adopted = true
		return nil
	case errors.Is(err, os.ErrNotExist):
		return nil
	}
	return fmt.Errorf("find out whether rows were taken over: %w", err)
}

// endAdoption notes that the log's newest epoch is this node's own.
func (s *starter) endAdoption() error {
	if !s.adopted {
		return nil
	}
	err := os.Remove(s.cfg.Path + adoptingSuffix)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("note that this node leads: %w", err)
	}
	return nil
}
