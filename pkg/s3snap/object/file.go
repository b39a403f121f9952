package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"
	"time"
)

// Names in the folder of a file store that are no objects: keys have no element that begins with a dot.
const (
	lockFile   = ".lock"
	tempFolder = ".tmp"
)

// tempMaxAge is the age at which a temporary file belongs to nobody any more.
const tempMaxAge = 24 * time.Hour

// maxHashed is the size of the largest file whose version is the hash of its content.
const maxHashed = 1 << 20

// fileStore keeps objects as files of a folder, see the package documentation.
type fileStore struct {
	root *os.Root // nothing outside of the folder is reached, through links neither

	// Tests replace these.
	sync func(*os.File) error
	rest func(ctx context.Context, d time.Duration) error
}

var (
	_ Store     = (*fileStore)(nil)
	_ io.Closer = (*fileStore)(nil)
)

// openFile opens the store in a folder, which it creates.
func openFile(folder string) (*fileStore, error) {
	if err := makeFolder(folder); err != nil {
		return nil, fmt.Errorf("create folder of object store: %w", fileError(err))
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("open folder of object store: %w", fileError(err))
	}
	f := &fileStore{root: root, sync: (*os.File).Sync, rest: rest}
	if err := f.makeFolder(tempFolder); err != nil {
		return nil, errors.Join(fmt.Errorf("create folder of object store: %w", fileError(err)), root.Close())
	}
	f.sweep(time.Now().Add(-tempMaxAge))
	return f, nil
}

// makeFolder creates a folder and what is missing above it, durably.
func makeFolder(folder string) error {
	switch err := os.Mkdir(folder, 0o700); {
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		if err := makeFolder(filepath.Dir(folder)); err != nil {
			return err
		}
		if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	case err != nil:
		return err
	}
	parent, err := os.Open(filepath.Dir(folder))
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}

// makeFolder creates a folder below the root and what is missing above it, durably.
func (f *fileStore) makeFolder(folder string) error {
	if folder == "." {
		return nil
	}
	if err := f.makeFolder(path.Dir(folder)); err != nil {
		return err
	}
	if err := f.root.Mkdir(folder, 0o700); errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	return f.syncFolder(path.Dir(folder))
}

// syncFolder makes the names in a folder durable.
func (f *fileStore) syncFolder(folder string) error {
	d, err := f.root.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sweep removes temporary files last written before a time, which processes that were killed left. What cannot be
// removed stays.
func (f *fileStore) sweep(before time.Time) {
	d, err := f.root.Open(tempFolder)
	if err != nil {
		return
	}
	defer d.Close()
	entries, _ := d.ReadDir(-1)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.ModTime().Before(before) {
			_ = f.root.Remove(path.Join(tempFolder, e.Name()))
		}
	}
}

// Close implements io.Closer.
func (f *fileStore) Close() error { return f.root.Close() }

// Get implements Store.
func (f *fileStore) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, Info, error) {
	if err := begin(ctx, OpGet, key); err != nil {
		return nil, Info{}, err
	}
	r, info, err := f.open(key)
	if err != nil {
		return nil, Info{}, fmt.Errorf("get object %s: %w", key, fileError(err))
	}
	end, err := rangeEnd(offset, length, info.Size)
	if err == nil {
		_, err = r.Seek(offset, io.SeekStart)
	}
	if err != nil {
		_ = r.Close()
		return nil, Info{}, fmt.Errorf("get object %s: %w", key, fileError(err))
	}
	return &bodyReader{ctx: ctx, key: key, r: limit(r, end-offset), left: end - offset, classify: fileError}, info, nil
}

// open opens the file of an object.
func (f *fileStore) open(key string) (*os.File, Info, error) {
	r, err := f.root.Open(key)
	if err != nil {
		return nil, Info{}, err
	}
	info, err := describe(key, r)
	if err != nil {
		_ = r.Close()
		return nil, Info{}, err
	}
	return r, info, nil
}

// describe returns the Info of an open file; its position is at the start then.
func describe(key string, r *os.File) (Info, error) {
	stat, err := r.Stat()
	if err != nil {
		return Info{}, err
	}
	if !stat.Mode().IsRegular() {
		return Info{}, ErrNotFound
	}
	info := infoOf(key, stat)
	if info.Size > maxHashed {
		info.Version = fmt.Sprintf("%x-%x", stat.ModTime().UnixNano(), info.Size)
		return info, nil
	}
	body, err := io.ReadAll(io.LimitReader(r, maxHashed+1))
	if err != nil {
		return Info{}, err
	}
	info.Version = contentVersion(body)
	_, err = r.Seek(0, io.SeekStart)
	return info, err
}

// infoOf returns what a file's attributes say of an object, without its version.
func infoOf(key string, stat fs.FileInfo) Info {
	return Info{Key: key, Size: stat.Size(), Modified: stat.ModTime()}
}

// fileError turns an error of the file system into one of the package.
func fileError(err error) error {
	switch {
	case err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrOffset) || errors.Is(err, ErrPrecondition) || errors.Is(err, ErrBadKey):
		return err
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		return ErrNotFound
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w", ErrDenied, err)
	default:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
}

// versionOf returns the version that the file of a key has, "" if there is none.
func (f *fileStore) versionOf(key string) (string, error) {
	r, info, err := f.open(key)
	if errors.Is(fileError(err), ErrNotFound) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	return info.Version, r.Close()
}
