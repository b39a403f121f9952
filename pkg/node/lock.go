package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// lockFileName is the lock's file in the data folder.
const lockFileName = "kinsy.lock"

// ErrDataDirInUse refuses a data folder that another process uses.
var ErrDataDirInUse = errors.New("data folder is in use")

// lockInfo is the text of the lock file: who holds it.
type lockInfo struct {
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	Listen  string    `json:"listen"` // empty: it is not a node
}

// LockPath returns the path of a data folder's lock file. The file may be there although nobody holds the lock.
func LockPath(dir string) string { return filepath.Join(dir, lockFileName) }

// LockDataDir takes the exclusive use of a data folder, which it creates if it is missing, until release is called: for
// commands that work on it while no node does. It never waits: a folder in use is ErrDataDirInUse.
func LockDataDir(dir string) (release func() error, err error) {
	lock, err := lockFolder(dir, "")
	if err != nil {
		return nil, err
	}
	return lock.release, nil
}

// folderLock is the exclusive use of a data folder; the kernel gives it up when the process ends, however it ends.
type folderLock struct {
	file *flock.Flock
}

// lockFolder creates dir if it is missing and locks it. It never waits: a folder in use is ErrDataDirInUse, and the
// error names the process that uses it.
func lockFolder(dir, listen string) (*folderLock, error) {
	if err := makeFolder(dir); err != nil {
		return nil, fmt.Errorf("create data folder (--data-dir): %w", err)
	}
	path := LockPath(dir)
	lock := flock.New(path)
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	if !ok {
		return nil, fmt.Errorf("%w: %s is used by %s", ErrDataDirInUse, dir, describeHolder(path))
	}
	if err := writeLockInfo(path, listen); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return &folderLock{file: lock}, nil
}

// makeFolder creates dir and what is missing above it, and makes that durable: a log that survives a power failure must
// not be lost with its folder.
func makeFolder(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if parent != dir {
		if err := makeFolder(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return fmt.Errorf("%s is not a folder", dir)
	}
	return syncFolder(parent)
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// release ends the use of the folder. The file stays, since removing it would let two processes lock two files of one
// name.
func (l *folderLock) release() error {
	_ = os.Truncate(l.file.Path(), 0)
	if err := l.file.Close(); err != nil {
		return fmt.Errorf("unlock data folder: %w", err)
	}
	return nil
}

func writeLockInfo(path, listen string) error {
	text, err := json.Marshal(lockInfo{PID: os.Getpid(), Started: time.Now().UTC().Truncate(time.Second), Listen: listen})
	if err != nil {
		return fmt.Errorf("encode lock file: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write lock file: %w", err)
	}
	return nil
}

// describeHolder names the process that holds the lock, as far as the file says.
func describeHolder(path string) string {
	var info lockInfo
	text, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(text, &info) != nil || info.PID == 0 {
		return "another kinsy process"
	}
	holder := fmt.Sprintf("kinsy process %d, started %s", info.PID, info.Started.Format(time.RFC3339))
	if info.Listen == "" {
		return holder
	}
	return holder + ", listening on " + info.Listen
}
