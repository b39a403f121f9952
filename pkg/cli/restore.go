package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

const restoreDescription = `The history comes from object storage, up to a point in time or to its end, or from the file of a snapshot. It goes into a
folder, or a prefix of object storage, which must be empty. The result is always a new cluster: no node of the old one takes
part in it, and it never writes to the old one's prefix. The flags of S3, and the key file, are those of both sides.`

// restoration is what the flags of kinsy restore say.
type restoration struct {
	store  object.Config // where from, if not from a file
	file   string
	target s3snap.Target
	dir    string        // where to, if not to object storage
	to     object.Config // without a URL: to dir
}

func newRestoreCommand() *cli.Command {
	settings, flags := newStoreFlags()
	return &cli.Command{
		Name: "restore", Usage: "make a new cluster of what object storage or a snapshot holds", Description: restoreDescription,
		OnUsageError: usageError,
		Flags: append(flags,
			&cli.StringFlag{Name: "from", Usage: "`FILE` of a snapshot to restore, instead of object storage", TakesFile: true},
			&cli.BoolFlag{Name: "latest", Usage: "restore all that there is", HideDefault: true},
			&cli.Int64Flag{Name: "at-revision", Usage: "restore up to this revision", HideDefault: true},
			&cli.StringFlag{Name: "at-time", Usage: "restore what was written up to a `TIME` such as 2006-01-02T15:04:05Z (RFC 3339)"},
			newDataDirFlag("`FOLDER` to restore into; it is empty or missing"),
			&cli.StringFlag{Name: "to-object-store", Usage: "`URL` to restore into; nothing is there"}),
		Action: offline(func(ctx context.Context, s *session) error {
			if err := s.flagsOnly(); err != nil {
				return err
			}
			r, err := s.restoration(settings)
			if err != nil {
				return err
			}
			if r.to.URL != "" {
				return s.restoreToStore(ctx, r)
			}
			return s.restoreToFolder(ctx, r)
		}),
	}
}

// restoration reads the flags.
func (s *session) restoration(settings *storeSettings) (r restoration, err error) {
	from, err := s.choose("from", "object-store")
	if err != nil {
		return r, err
	}
	if from == "from" {
		r.file = s.cmd.String("from")
		err = s.useless("--object-store", "latest", "at-revision", "at-time")
	} else {
		r.target, err = s.target()
	}
	if err != nil {
		return r, err
	}
	to, err := s.choose("data-dir", "to-object-store")
	if err != nil {
		return r, err
	}
	if err := settings.file.load(); err != nil {
		return r, err
	}
	if to == "data-dir" {
		r.dir = s.cmd.String("data-dir")
	} else if r.to, err = settings.of(s.cmd.String("to-object-store"), settings.object.URL); err != nil {
		return r, fmt.Errorf("--to-object-store: %w", err)
	}
	if from == "object-store" {
		r.store, err = settings.of(settings.object.URL, r.to.URL)
	}
	return r, err
}

// of is the configuration of one of two stores. The flags of S3 are for the one that is on S3.
func (s *storeSettings) of(url, other string) (object.Config, error) {
	cfg := s.object
	cfg.URL = url
	if !strings.HasPrefix(url, s3Scheme) && strings.HasPrefix(other, s3Scheme) {
		cfg.S3 = object.S3Config{}
	}
	return cfg, cfg.Validate()
}

// target reads how far to restore.
func (s *session) target() (t s3snap.Target, err error) {
	which, err := s.choose("latest", "at-revision", "at-time")
	if err != nil {
		return t, err
	}
	switch which {
	case "at-revision":
		t.Revision = sqllog.Revision(s.cmd.Int64(which))
		if t.Revision < 1 {
			return t, errors.New("--at-revision must be 1 or more")
		}
	case "at-time":
		t.Time, err = time.Parse(time.RFC3339, s.cmd.String(which))
		if err != nil || t.Time.UnixMilli() < 1 {
			return t, fmt.Errorf("--at-time must be a time such as 2006-01-02T15:04:05Z (RFC 3339), not %q", s.cmd.String(which))
		}
	}
	return t, nil
}

func (s *session) restoreToFolder(ctx context.Context, r restoration) (err error) {
	folder, err := takeNewFolder(r.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.finish(err != nil)) }()
	log, err := s.restore(ctx, r, folder.path)
	if err != nil {
		return err
	}
	defer closing(&err, log.Close)
	f, err := s.restored(ctx, log)
	if err != nil {
		return err
	}
	f.line("log", "%s", folder.path)
	f.line("start it", "kinsy server --data-dir %s", quote(r.dir))
	return f.err
}

func (s *session) restoreToStore(ctx context.Context, r restoration) (err error) {
	if err := s.checkEmptyStore(ctx, r.to); err != nil {
		return err
	}
	dir, remove, err := tempFolder()
	if err != nil {
		return err
	}
	defer closing(&err, remove)
	log, err := s.restore(ctx, r, filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	defer closing(&err, log.Close)
	if err := s.seed(ctx, r.to, log); err != nil {
		return err
	}
	f, err := s.restored(ctx, log)
	if err != nil {
		return err
	}
	f.line("prefix", "%s", r.to.URL)
	f.line("start it", "kinsy server --data-dir FOLDER --object-store %s", quote(r.to.URL))
	return f.err
}

// restore makes the log at path and opens it.
func (s *session) restore(ctx context.Context, r restoration, path string) (log *sqllog.Log, err error) {
	if r.file != "" {
		return s.restoreFile(ctx, r.file, path)
	}
	store, err := s.openStore(ctx, r.store)
	if err != nil {
		return nil, err
	}
	defer closing(&err, func() error { return object.Close(store) })
	log, restored, err := s.download(ctx, s3snap.RestoreConfig{Store: store, Path: path, Target: r.target, NewCluster: true})
	if err == nil && restored.Head.ID == 0 {
		err = errors.Join(fmt.Errorf("%w: nothing was written by then", s3snap.ErrNoHistory), log.Close())
	}
	return log, err
}

func (s *session) restoreFile(ctx context.Context, file, path string) (*sqllog.Log, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cfg := sqllog.Config{Path: path, Logger: s.log}
	if _, err := s3snap.LoadSnapshot(ctx, contextReader{ctx, f}, cfg); err != nil {
		return nil, fmt.Errorf("restore %s: %w", file, err)
	}
	return sqllog.Open(ctx, cfg)
}

// seed begins the chain of a log on an empty prefix. A folder that was made for it goes again after an error.
func (s *session) seed(ctx context.Context, cfg object.Config, log *sqllog.Log) (err error) {
	if folder := folderOf(cfg.URL); folder != "" {
		created, missErr := missingFolders(folder)
		if missErr != nil {
			return missErr
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, removeUnused(folder, created))
			}
		}()
	}
	store, err := s.emptyStore(ctx, cfg)
	if err != nil {
		return err
	}
	defer closing(&err, func() error { return object.Close(store) })
	if err := s3snap.Seed(ctx, store, log); err != nil {
		return fmt.Errorf("write to %s: %w", cfg.URL, err)
	}
	return nil
}

// removeUnused removes the folder of a store, and those above it, which were created for it, unless there are objects.
func removeUnused(folder string, created []string) error {
	if len(created) == 0 {
		return nil
	}
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !strings.HasPrefix(entry.Name(), "."):
			if entry.IsDir() {
				return nil
			}
			return errFound
		case entry.IsDir() && path != folder:
			return fs.SkipDir
		}
		return nil
	})
	if errors.Is(err, errFound) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(folder), removeFolders(created))
}

// restored begins the facts about a restored log.
func (s *session) restored(ctx context.Context, log *sqllog.Log) (*facts, error) {
	last, err := lastWrite(ctx, log)
	if err != nil {
		return nil, err
	}
	rows, err := log.Rows(ctx)
	if err != nil {
		return nil, err
	}
	f := &facts{out: s.out}
	f.line("cluster", "%016x, which is new", log.Identity().Cluster)
	f.line("revision", "%d", log.Head().Revision)
	f.line("rows", "%d", rows)
	f.line("last write", "%s", utc(last))
	return f, f.err
}
