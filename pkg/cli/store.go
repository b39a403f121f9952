package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

const (
	fileScheme = "file://"
	s3Scheme   = "s3://"
)

// errFound ends a list at its first object.
var errFound = errors.New("found")

// folderOf returns the folder of a file:// URL, "" for other URLs.
func folderOf(store string) string {
	if !strings.HasPrefix(store, fileScheme) {
		return ""
	}
	u, err := url.Parse(store)
	if err != nil {
		return ""
	}
	return filepath.FromSlash(u.Path)
}

// openStore opens object storage that must be there, and looks once whether it answers.
func (s *session) openStore(ctx context.Context, cfg object.Config) (object.Store, error) {
	if folder := folderOf(cfg.URL); folder != "" {
		if _, err := os.Stat(folder); err != nil {
			return nil, fmt.Errorf("open object store: %w", err)
		}
	}
	cfg.Logger = s.log
	store, err := object.Open(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open object store: %w", err)
	}
	if _, err := hasObjects(ctx, store); err != nil {
		return nil, errors.Join(err, object.Close(store))
	}
	return store, nil
}

// hasObjects reports whether there is anything under the prefix.
func hasObjects(ctx context.Context, store object.Store) (bool, error) {
	err := store.List(ctx, "", "", func(object.Info) error { return errFound })
	if errors.Is(err, errFound) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look into object store: %w", err)
	}
	return false, nil
}

// withStore opens the object storage that the flags name for the time of f.
func (s *session) withStore(ctx context.Context, settings *storeSettings, f func(object.Store) error) (err error) {
	cfg, err := settings.config()
	if err != nil {
		return err
	}
	store, err := s.openStore(ctx, cfg)
	if err != nil {
		return err
	}
	defer closing(&err, func() error { return object.Close(store) })
	return f(store)
}

// emptyStore opens object storage that must be empty. A folder that is missing is created.
func (s *session) emptyStore(ctx context.Context, cfg object.Config) (object.Store, error) {
	cfg.Logger = s.log
	store, err := object.Open(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open object store: %w", err)
	}
	there, err := hasObjects(ctx, store)
	if err == nil && there {
		err = fmt.Errorf("%s is not empty; nothing was changed", cfg.URL)
	}
	if err != nil {
		return nil, errors.Join(err, object.Close(store))
	}
	return store, nil
}

// checkEmptyStore is emptyStore, but leaves nothing open and nothing behind.
func (s *session) checkEmptyStore(ctx context.Context, cfg object.Config) error {
	if folder := folderOf(cfg.URL); folder != "" {
		if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	store, err := s.emptyStore(ctx, cfg)
	if err != nil {
		return err
	}
	return object.Close(store)
}

// download makes a log of what object storage holds and opens it.
func (s *session) download(ctx context.Context, cfg s3snap.RestoreConfig) (*sqllog.Log, s3snap.Restored, error) {
	cfg.Progress, cfg.Logger = restoringOn(s.line), s.log
	restored, err := s3snap.Restore(ctx, cfg)
	s.line.Clear()
	if err != nil {
		return nil, restored, err
	}
	log, err := sqllog.Open(ctx, sqllog.Config{Path: cfg.Path, Logger: s.log})
	return log, restored, err
}
