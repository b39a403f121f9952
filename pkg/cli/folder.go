package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/kinsy/kinsy/pkg/cli/newfile"
	"github.com/kinsy/kinsy/pkg/node"
)

// Names in a data folder.
const (
	lostFound     = "lost+found" // made by file systems in their root
	loadingSuffix = ".loading"   // of a log whose making was cut short
)

func newDataDirFlag(usage string) cli.Flag {
	return &cli.StringFlag{Name: "data-dir", Usage: usage, TakesFile: true}
}

// logPath is where a node keeps its log in a data folder.
func logPath(dir string) string { return node.Config{DataDir: dir}.LogPath() }

// lockFolder takes a data folder that has a log, for as long as no node uses it, and returns the log's path.
func lockFolder(dir string) (path string, release func() error, err error) {
	path = logPath(dir)
	if _, err := os.Stat(path); err != nil {
		return "", nil, fmt.Errorf("find log in data folder (--data-dir): %w", err)
	}
	release, err = node.LockDataDir(dir)
	return path, release, err
}

// newFolder is a data folder that is being filled.
type newFolder struct {
	path    string // of the log to be made
	dir     string
	hadLock bool
	created []string // folders that were made for it, the innermost first
	release func() error
}

// takeNewFolder takes a data folder that is empty or missing.
func takeNewFolder(dir string) (*newFolder, error) {
	created, err := missingFolders(dir)
	if err != nil {
		return nil, fmt.Errorf("find data folder (--data-dir): %w", err)
	}
	f := &newFolder{dir: dir, path: logPath(dir), created: created}
	if err := f.checkEmpty(); err != nil {
		return nil, err
	}
	_, err = os.Lstat(node.LockPath(dir))
	f.hadLock = err == nil
	if f.release, err = node.LockDataDir(dir); err != nil {
		return nil, errors.Join(err, removeFolders(f.created))
	}
	if err := f.checkEmpty(); err != nil { // somebody may have been faster
		return nil, errors.Join(err, f.release())
	}
	return f, nil
}

// checkEmpty passes over the lock, and over what a command that was killed has left: it is replaced.
func (f *newFolder) checkEmpty() error {
	entries, err := os.ReadDir(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read data folder (--data-dir): %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		lock, left := filepath.Base(node.LockPath(f.dir)), filepath.Base(f.path)+loadingSuffix
		if name != lostFound && name != lock && !strings.HasPrefix(name, left) {
			return fmt.Errorf("data folder %s is not empty: it has %s; nothing was changed", f.dir, name)
		}
	}
	return nil
}

// finish gives the folder to whoever uses it next or, after an error, removes what was made.
func (f *newFolder) finish(failed bool) error {
	if !failed {
		return f.release()
	}
	errs := []error{f.removeLog()}
	if !f.hadLock {
		errs = append(errs, newfile.RemoveIfThere(node.LockPath(f.dir)))
	}
	return errors.Join(append(errs, f.release(), removeFolders(f.created))...)
}

// removeLog removes the log and the files beside it.
func (f *newFolder) removeLog() error {
	entries, err := os.ReadDir(f.dir)
	errs := []error{err}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), filepath.Base(f.path)) {
			errs = append(errs, newfile.RemoveIfThere(filepath.Join(f.dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// missingFolders lists a folder and those above it as far as they are not there, the innermost first.
func missingFolders(dir string) (missing []string, err error) {
	at, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	for ; ; at = filepath.Dir(at) {
		if _, err := os.Lstat(at); !errors.Is(err, fs.ErrNotExist) {
			return missing, nil
		}
		missing = append(missing, at)
	}
}

// removeFolders removes folders that are there; each must be empty.
func removeFolders(dirs []string) error {
	for _, dir := range dirs {
		if err := newfile.RemoveIfThere(dir); err != nil {
			return err
		}
	}
	return nil
}
