package object

import (
	"context"
	"crypto/rand"
	"io/fs"
	"os"
	"path"
	"time"
)

// A snapshot in a folder may lie on the disk of the log that it is of, where much
// written or freed at once holds up the log's own syncs. So large files grow and
// shrink in steps.
const (
	// syncBytes is after how many bytes an Upload syncs its file.
	syncBytes = 1 << 20
	// shrinkBytes is what a Delete takes off a larger file at once; shrinkRest is how
	// long it then leaves the disk to others.
	shrinkBytes = 8 << 20
	shrinkRest  = 10 * time.Millisecond
)

// grower writes to a file and syncs it as it grows.
type grower struct {
	file  *os.File
	sync  func(*os.File) error
	dirty int // bytes since the last sync
}

// Write implements io.Writer.
func (g *grower) Write(b []byte) (int, error) {
	n, err := g.file.Write(b)
	g.dirty += n
	if err == nil && g.dirty >= syncBytes {
		g.dirty = 0
		err = g.sync(g.file)
	}
	return n, err
}

// setAside moves the file of an object among the temporary files, if it is a large
// one without another name: whoever has linked it keeps its content.
func (f *fileStore) setAside(key string, stat fs.FileInfo) (temp string, ok bool) {
	if stat.Size() <= shrinkBytes || !onlyName(stat) {
		return "", false
	}
	temp = path.Join(tempFolder, rand.Text())
	return temp, f.root.Rename(key, temp) == nil
}

// dissolve removes a file that was set aside, at once if ctx ends. Of what is left
// after an error the next start takes care.
func (f *fileStore) dissolve(ctx context.Context, temp string) {
	defer func() { _ = f.root.Remove(temp) }()
	file, err := f.root.OpenFile(temp, os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer file.Close()
	stat, err := file.Stat()
	if err != nil {
		return
	}
	for size := stat.Size() - shrinkBytes; size > 0; size -= shrinkBytes {
		if file.Truncate(size) != nil || f.rest(ctx, shrinkRest) != nil {
			return
		}
	}
}

// rest waits.
func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
