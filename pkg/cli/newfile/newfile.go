// Package newfile writes files that appear complete or not at all.
package newfile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// ForceFlag is the flag that lets a command replace a file.
const ForceFlag = "force"

// outputBuffer is what is written to a file at a time.
const outputBuffer = 1 << 20

// Write has write make a file beside path, syncs it and gives it its name. Unless force is set a file that is there
// is never replaced. After an error nothing has changed.
func Write(path string, force bool, write func(temp string) error) (err error) {
	if !force {
		if err := absent(path); err != nil {
			return err
		}
	}
	temp := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%016x.partial", filepath.Base(path), rand.Uint64()))
	defer func() {
		if err != nil {
			err = errors.Join(err, RemoveIfThere(temp))
		}
	}()
	if err := write(temp); err != nil {
		return err
	}
	if err := syncPath(temp); err != nil {
		return err
	}
	if err := giveName(temp, path, force); err != nil {
		return err
	}
	return syncPath(filepath.Dir(path))
}

// Stream is Write for what is written in order.
func Stream(path string, force bool, write func(w io.Writer) error) error {
	return Write(path, force, func(temp string) (err error) {
		f, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		w := bufio.NewWriterSize(f, outputBuffer)
		if err := write(w); err != nil {
			return err
		}
		return w.Flush()
	})
}

func absent(path string) error {
	_, err := os.Lstat(path)
	switch {
	case err == nil:
		return fmt.Errorf("%s exists; give --%s to replace it", path, ForceFlag)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return err
}

// giveName gives a file its name. A link fails where the name is taken, even if that was just now; where the file system has
// no links the name is looked at before.
func giveName(temp, path string, force bool) error {
	if force {
		return os.Rename(temp, path)
	}
	err := os.Link(temp, path)
	if err == nil {
		return os.Remove(temp)
	}
	if err := absent(path); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// RemoveIfThere removes a file; that it is not there is no error.
func RemoveIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// syncPath syncs a file, or a folder with its names.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
