package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/kinsy/kinsy/pkg/cli/newfile"
	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/s3snap/rowfile"
	"github.com/kinsy/kinsy/pkg/sqllog"
)

// Values of --output of kinsy snapshot list.
const (
	outputTable = "table"
	outputJSON  = "json"
)

const saveDescription = `With --object-store alone the snapshot is of what object storage holds at its end, and is put there beside the others; nodes
may be running. With --output FILE it is written to a file instead, and object storage is only read. With --data-dir it is of
a log on this machine, whose node must be stopped. A temporary folder (TMPDIR) takes the log while it is made.`

func newSnapshotCommand() *cli.Command {
	return parent("snapshot", "save, list and verify snapshots", newSnapshotSaveCommand(), newSnapshotListCommand(), newSnapshotVerifyCommand())
}

func newSnapshotSaveCommand() *cli.Command {
	settings, flags := newStoreFlags()
	return &cli.Command{
		Name: "save", Usage: "take a snapshot without a node", Description: saveDescription, OnUsageError: usageError,
		Flags: append(flags,
			newDataDirFlag("`FOLDER` of a stopped node whose log is taken; needs --output"),
			&cli.StringFlag{Name: "output", Usage: "`FILE` to write the snapshot to, instead of object storage", TakesFile: true},
			newForceFlag("replace the file if it exists")),
		Action: offline(func(ctx context.Context, s *session) error {
			if err := s.flagsOnly(); err != nil {
				return err
			}
			from, err := s.choose("data-dir", "object-store")
			if err != nil {
				return err
			}
			switch {
			case from == "data-dir" && !s.set("output"):
				return errors.New("--data-dir needs --output")
			case from == "data-dir":
				return s.saveLocal(ctx, s.cmd.String("data-dir"))
			}
			if err := s.useless("--output", outputForce(s)...); err != nil {
				return err
			}
			return s.withStore(ctx, settings, func(store object.Store) error { return s.saveFromStore(ctx, store) })
		}),
	}
}

// outputForce names the flag that says nothing without --output.
func outputForce(s *session) []string {
	if s.set("output") {
		return nil
	}
	return []string{newfile.ForceFlag}
}

func (s *session) saveLocal(ctx context.Context, dir string) (err error) {
	path, release, err := lockFolder(dir)
	if err != nil {
		return err
	}
	defer closing(&err, release)
	log, err := sqllog.Open(ctx, sqllog.Config{Path: path, Logger: s.log})
	if err != nil {
		return err
	}
	defer closing(&err, log.Close)
	return s.saveFile(ctx, log)
}

func (s *session) saveFromStore(ctx context.Context, store object.Store) (err error) {
	dir, remove, err := tempFolder()
	if err != nil {
		return err
	}
	defer closing(&err, remove)
	path := filepath.Join(dir, "log")
	if !s.set("output") {
		m, err := s3snap.Save(ctx, store, path, s.log, restoringOn(s.line))
		if err != nil {
			return err
		}
		return s.saved(m, m.Object)
	}
	log, _, err := s.download(ctx, s3snap.RestoreConfig{Store: store, Path: path})
	if err != nil {
		return err
	}
	defer closing(&err, log.Close)
	return s.saveFile(ctx, log)
}

// saveFile writes a snapshot file and reads it back before it gets its name.
func (s *session) saveFile(ctx context.Context, log *sqllog.Log) error {
	if log.Head().ID == 0 {
		return errors.New("the log is empty, there is nothing to save")
	}
	var m s3snap.Manifest
	path := s.cmd.String("output")
	err := newfile.Write(path, s.cmd.Bool(newfile.ForceFlag), func(temp string) error {
		err := newfile.Stream(temp, false, func(w io.Writer) (err error) {
			m, err = s3snap.WriteSnapshot(ctx, w, s3snap.NewWriter(log.Identity()), log)
			return err
		})
		if err != nil {
			return err
		}
		m.Size, err = verifyFile(ctx, temp)
		return err
	})
	if err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return s.saved(m, path)
}

// verifyFile reads a file of rows to its end and returns its size.
func verifyFile(ctx context.Context, path string) (size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer closing(&err, f.Close)
	if err := rowfile.Describe(io.Discard, contextReader{ctx, f}, false); err != nil {
		return 0, fmt.Errorf("verify: %w", err)
	}
	return f.Seek(0, io.SeekCurrent)
}

func (s *session) saved(m s3snap.Manifest, where string) error {
	f := &facts{out: s.out}
	f.line("snapshot", "%s", where)
	f.line("id", "%d", m.ID)
	f.line("cluster", "%s", m.ClusterID)
	f.line("revision", "%d", m.Revision)
	f.line("compacted", "%s", compacted(m.CompactRevision))
	f.line("rows", "%d", m.Rows)
	f.line("bytes", "%d", m.Size)
	f.line("last write", "%s", utc(time.UnixMilli(m.LastWrittenAt)))
	return f.err
}

func newSnapshotListCommand() *cli.Command {
	settings, flags := newStoreFlags()
	return &cli.Command{
		Name: "list", Usage: "list the snapshots in object storage, the oldest first", OnUsageError: usageError,
		Flags: append(flags, &cli.StringFlag{Name: "output", Usage: "format: " + outputTable + " or " + outputJSON, Value: outputTable}),
		Action: offline(func(ctx context.Context, s *session) error {
			if err := s.flagsOnly(); err != nil {
				return err
			}
			format := s.cmd.String("output")
			if format != outputTable && format != outputJSON {
				return fmt.Errorf("--output must be %s or %s, not %q", outputTable, outputJSON, format)
			}
			return s.withStore(ctx, settings, func(store object.Store) error {
				all, err := s3snap.Snapshots(ctx, store)
				if err != nil {
					return err
				}
				if format == outputJSON {
					return printManifests(s.out, all)
				}
				return tabulate(s.out, all)
			})
		}),
	}
}

func printManifests(out io.Writer, all []s3snap.Manifest) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(all)
}

func tabulate(out io.Writer, all []s3snap.Manifest) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tREVISION\tCOMPACTED\tROWS\tBYTES\tTAKEN\tLAST WRITE")
	for _, m := range all {
		fmt.Fprintf(w, "%d\t%d\t%s\t%d\t%d\t%s\t%s\n", m.ID, m.Revision, compacted(m.CompactRevision), m.Rows, m.Size,
			utc(m.Created()), utc(time.UnixMilli(m.LastWrittenAt)))
	}
	return w.Flush()
}

func newSnapshotVerifyCommand() *cli.Command {
	settings, flags := newStoreFlags()
	return &cli.Command{
		Name: "verify", Usage: "download snapshots and check every byte", ArgsUsage: "[ID]", OnUsageError: usageError,
		Description: "Without ID every snapshot is verified, and every chunk from the oldest one on. The exit code is 1 when something is damaged.",
		Flags:       flags,
		Action: offline(func(ctx context.Context, s *session) error {
			args := s.cmd.Args()
			if args.Len() > 1 {
				return errors.New("kinsy snapshot verify takes one ID or none; see kinsy snapshot verify --help")
			}
			if !args.Present() {
				return s.withStore(ctx, settings, func(store object.Store) error { return s.verifyAll(ctx, store) })
			}
			id, err := strconv.ParseInt(args.First(), 10, 64)
			if err != nil {
				return fmt.Errorf("%q is not the ID of a snapshot, see kinsy snapshot list", args.First())
			}
			return s.withStore(ctx, settings, func(store object.Store) error { return s.verifyOne(ctx, store, id) })
		}),
	}
}

func (s *session) verifyAll(ctx context.Context, store object.Store) error {
	v, err := s3snap.Verify(ctx, store, func(m s3snap.Manifest) { s.sound(m) })
	if err != nil {
		return err
	}
	if v.Chunks == 0 {
		_, err = fmt.Fprintf(s.out, "chunks: none after row %d\n", v.From.ID)
		return err
	}
	_, err = fmt.Fprintf(s.out, "chunks: %d with %d rows, from row %d to row %d at revision %d, sound\n",
		v.Chunks, v.Rows, v.From.ID+1, v.End.ID, v.End.Revision)
	return err
}

func (s *session) verifyOne(ctx context.Context, store object.Store, id int64) error {
	all, err := s3snap.Snapshots(ctx, store)
	if err != nil {
		return err
	}
	for _, m := range all {
		if m.ID != id {
			continue
		}
		if err := s3snap.VerifySnapshot(ctx, store, m); err != nil {
			return fmt.Errorf("snapshot at %d: %w", id, err)
		}
		s.sound(m)
		return nil
	}
	return fmt.Errorf("there is no snapshot %d, see kinsy snapshot list", id)
}

func (s *session) sound(m s3snap.Manifest) {
	fmt.Fprintf(s.out, "snapshot %d: %d rows, %d bytes, sound\n", m.ID, m.Rows, m.Size)
}
