package object

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// List implements Store.
func (f *fileStore) List(ctx context.Context, prefix, after string, fn func(Info) error) error {
	l := listing{store: f, ctx: ctx, prefix: prefix, after: after, fn: fn}
	return l.walk(".")
}

// listing is one List.
type listing struct {
	store         *fileStore
	ctx           context.Context
	prefix, after string
	fn            func(Info) error
}

// walk lists a folder. Folders are sorted as if their names ended with "/", since the keys in them go on so.
func (l *listing) walk(folder string) error {
	if err := l.ctx.Err(); err != nil {
		return fmt.Errorf("list objects: %w", err)
	}
	entries, err := l.read(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("list objects: %w", fileError(err))
	}
	for _, e := range entries {
		if err := l.visit(e); err != nil {
			return err
		}
	}
	return nil
}

// entry is a file or folder that may be or hold something to list.
type entry struct {
	key string // of a folder with a "/" at its end
	fs.DirEntry
}

// read returns the entries of a folder that matter, in order.
func (l *listing) read(folder string) ([]entry, error) {
	d, err := l.store.root.Open(folder)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	all, err := d.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	var entries []entry
	for _, e := range all {
		key := path.Join(folder, e.Name())
		if CheckKey(key) != nil {
			continue
		}
		if e.IsDir() {
			key += "/"
		}
		if l.wants(key) {
			entries = append(entries, entry{key: key, DirEntry: e})
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	return entries, nil
}

// wants says whether a key, or any key below a folder, is to be listed.
func (l *listing) wants(key string) bool {
	if !strings.HasSuffix(key, "/") {
		return strings.HasPrefix(key, l.prefix) && key > l.after
	}
	inside := strings.HasPrefix(key, l.prefix) || strings.HasPrefix(l.prefix, key)
	return inside && (key > l.after || strings.HasPrefix(l.after, key))
}

func (l *listing) visit(e entry) error {
	if e.IsDir() {
		return l.walk(strings.TrimSuffix(e.key, "/"))
	}
	if err := l.ctx.Err(); err != nil {
		return fmt.Errorf("list objects: %w", err)
	}
	stat, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("list objects: %w", fileError(err))
	}
	if !stat.Mode().IsRegular() {
		return nil
	}
	return l.fn(infoOf(e.key, stat))
}
