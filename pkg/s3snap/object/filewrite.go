package object

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// lockPoll is how often a lock held by somebody else is tried again. It is held for a few system calls only.
const lockPoll = 2 * time.Millisecond

// deleteBatch is how many files are removed under one hold of the lock.
const deleteBatch = 256

// Put implements Store.
func (f *fileStore) Put(ctx context.Context, key string, body []byte, cond Condition) (string, error) {
	if err := cond.check(); err != nil {
		return "", fmt.Errorf("put object %s: %w", key, err)
	}
	if err := begin(ctx, OpPut, key); err != nil {
		return "", err
	}
	info, err := f.write(ctx, key, bytes.NewReader(body), cond, false)
	if err != nil {
		return "", fmt.Errorf("put object %s: %w", key, err)
	}
	return info.Version, nil
}

// Upload implements Store.
func (f *fileStore) Upload(ctx context.Context, key string, r io.Reader) (Info, error) {
	if err := begin(ctx, OpUpload, key); err != nil {
		return Info{}, err
	}
	info, err := f.write(ctx, key, r, Condition{}, true)
	if err != nil {
		return Info{}, fmt.Errorf("upload object %s: %w", key, err)
	}
	return info, nil
}

// write puts a stream into a temporary file, and that in its place. A large one is synced as it grows.
func (f *fileStore) write(ctx context.Context, key string, r io.Reader, cond Condition, large bool) (Info, error) {
	temp := path.Join(tempFolder, rand.Text())
	info, err := f.writeTemp(ctx, temp, key, r, large)
	if err != nil {
		return Info{}, errors.Join(err, f.discard(temp))
	}
	if err := f.makeFolder(path.Dir(key)); err != nil {
		return Info{}, errors.Join(keyError(err), f.discard(temp))
	}
	if err := f.commit(ctx, temp, key, cond); err != nil {
		return Info{}, errors.Join(err, f.discard(temp))
	}
	if err := f.syncFolder(path.Dir(key)); err != nil {
		return Info{}, fileError(err)
	}
	return info, nil
}

// writeTemp writes a temporary file durably and describes it as the object that it will be.
func (f *fileStore) writeTemp(ctx context.Context, temp, key string, r io.Reader, large bool) (Info, error) {
	w, err := f.root.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Info{}, fileError(err)
	}
	defer w.Close()
	source := &sourceReader{ctx: ctx, r: r}
	var out io.Writer = w
	if large {
		out = &grower{file: w, sync: f.sync}
	}
	if _, err := io.Copy(out, source); source.err != nil {
		return Info{}, source.err
	} else if err != nil {
		return Info{}, fileError(err)
	}
	if err := f.stamp(temp); err != nil {
		return Info{}, fileError(err)
	}
	if err := f.sync(w); err != nil {
		return Info{}, fileError(err)
	}
	if _, err := w.Seek(0, io.SeekStart); err != nil {
		return Info{}, fileError(err)
	}
	info, err := describe(key, w)
	if err != nil {
		return Info{}, fileError(err)
	}
	return info, fileError(w.Close())
}

// stamp gives a file a time of its own: the clock of a file system is too coarse to tell two versions of a large object
// apart, for which the time stands.
func (f *fileStore) stamp(name string) error {
	fraction, err := rand.Int(rand.Reader, big.NewInt(int64(time.Millisecond)))
	if err != nil {
		return err
	}
	at := time.Now().Truncate(time.Millisecond).Add(-time.Duration(fraction.Int64()))
	return f.root.Chtimes(name, at, at)
}

// discard removes a temporary file that may have been moved.
func (f *fileStore) discard(temp string) error {
	if err := f.root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fileError(err)
	}
	return nil
}

// commit makes a temporary file the object of a key if cond holds. The lock of the folder is held exclusively while a
// version is compared, and shared by all other changes, so that none comes between comparison and rename.
func (f *fileStore) commit(ctx context.Context, temp, key string, cond Condition) error {
	unlock, err := f.lock(ctx, cond.IfVersion != "")
	if err != nil {
		return err
	}
	defer unlock()
	if cond.IfAbsent {
		return f.link(temp, key)
	}
	if cond.IfVersion != "" {
		version, err := f.versionOf(key)
		if err != nil {
			return fileError(err)
		}
		if version != cond.IfVersion {
			return ErrPrecondition
		}
	}
	return keyError(f.root.Rename(temp, key))
}

// link gives a temporary file a name that must be free.
func (f *fileStore) link(temp, key string) error {
	err := f.root.Link(temp, key)
	if errors.Is(err, fs.ErrExist) {
		there, err := f.root.Lstat(key)
		if err != nil {
			return fileError(err)
		}
		if there.IsDir() {
			return fmt.Errorf("%w: there are objects below it", ErrBadKey)
		}
		// A network file system may have lost the answer of this very link.
		if own, err := f.root.Lstat(temp); err != nil || !os.SameFile(own, there) {
			return ErrPrecondition
		}
	} else if err != nil {
		return keyError(err)
	}
	return f.discard(temp)
}

// keyError is fileError for changes of names: what stands in the way is another key.
func keyError(err error) error {
	if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR) || errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: an object stands where a folder is needed, or the other way round", ErrBadKey)
	}
	return fileError(err)
}

// lock takes the lock of the folder, which holds between processes too.
func (f *fileStore) lock(ctx context.Context, exclusive bool) (unlock func(), err error) {
	l := flock.New(filepath.Join(f.root.Name(), lockFile), flock.SetPermissions(0o600))
	if exclusive {
		_, err = l.TryLockContext(ctx, lockPoll)
	} else {
		_, err = l.TryRLockContext(ctx, lockPoll)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, fmt.Errorf("lock folder: %w", fileError(err))
	}
	return func() { _ = l.Close() }, nil
}

// Delete implements Store.
func (f *fileStore) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := begin(ctx, OpDelete, key); err != nil {
			return err
		}
	}
	gone := removed{folders: make(map[string]bool)}
	defer func() {
		for _, temp := range gone.aside {
			f.dissolve(ctx, temp)
		}
	}()
	for len(keys) > 0 {
		n := min(len(keys), deleteBatch)
		if err := f.remove(ctx, keys[:n], &gone); err != nil {
			return err
		}
		keys = keys[n:]
	}
	for folder := range gone.folders {
		if err := f.syncFolder(folder); err != nil {
			return fmt.Errorf("delete objects: %w", fileError(err))
		}
	}
	return nil
}

// removed is what a Delete has done: the folders that the files were in, and the large ones that are yet to dissolve.
type removed struct {
	folders map[string]bool
	aside   []string
}

// remove removes files, and adds to what is removed.
func (f *fileStore) remove(ctx context.Context, keys []string, gone *removed) error {
	unlock, err := f.lock(ctx, false)
	if err != nil {
		return fmt.Errorf("delete objects: %w", err)
	}
	defer unlock()
	for _, key := range keys {
		stat, err := f.root.Lstat(key)
		if err == nil && stat.Mode().IsRegular() {
			if temp, ok := f.setAside(key, stat); ok {
				gone.aside = append(gone.aside, temp)
			} else {
				err = f.root.Remove(key)
			}
			gone.folders[path.Dir(key)] = true
		}
		if err = fileError(err); err != nil && !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("delete object %s: %w", key, err)
		}
	}
	return nil
}
