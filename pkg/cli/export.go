package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/urfave/cli/v3"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/cli/newfile"
	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
	"github.com/kinsy/kinsy/pkg/sqllog"
	"github.com/kinsy/kinsy/pkg/transfer"
)

// Values of --format of kinsy export.
const (
	formatJSON = "json"
	formatEtcd = "etcd"
)

const exportDescription = `json is one line for each lease and key, with its value and revisions; --all-revisions has a line for each change instead. etcd
is a database file that etcdutl snapshot restore takes, with all revisions. The source is the folder of a stopped node, what
object storage holds, or a running server, kinsy or another one. A temporary folder (TMPDIR) takes what is downloaded.`

// exporter is what the flags of kinsy export say.
type exporter struct {
	*session
	store    *storeSettings
	endpoint *endpointSettings
	fetch    transfer.FetchOptions
}

func newExportCommand() *cli.Command {
	e := &exporter{}
	var store, endpoint []cli.Flag
	e.store, store = newStoreFlags()
	e.endpoint, endpoint = newEndpointFlags("endpoint", "", "`URL` of a running server to export")
	return &cli.Command{
		Name: "export", Usage: "write all keys to a file of JSON lines or of etcd", Description: exportDescription, OnUsageError: usageError,
		Flags: append(append(append(store, endpoint...), fetchFlags(&e.fetch)...),
			newDataDirFlag("`FOLDER` of a stopped node to export"),
			&cli.StringFlag{Name: "format", Usage: formatJSON + " or " + formatEtcd},
			&cli.BoolFlag{Name: "all-revisions", Usage: "every change that is kept, not only the keys that exist", HideDefault: true},
			&cli.StringFlag{Name: "output", Usage: "`FILE` to write", DefaultText: "standard output for " + formatJSON, TakesFile: true},
			newForceFlag("replace the file if it exists")),
		Action: offline(func(ctx context.Context, s *session) error {
			e.session = s
			from, err := e.check()
			if err != nil {
				return err
			}
			return e.run(ctx, from)
		}),
	}
}

// check reads the flags and returns the one of the source.
func (e *exporter) check() (from string, err error) {
	if err := e.flagsOnly(); err != nil {
		return "", err
	}
	switch format := e.cmd.String("format"); {
	case format != formatJSON && format != formatEtcd:
		return "", fmt.Errorf("--format must be %s or %s", formatJSON, formatEtcd)
	case format == formatEtcd && !e.set("output"):
		return "", errors.New("--format etcd needs --output")
	}
	if err := e.useless("--output", outputForce(e.session)...); err != nil {
		return "", err
	}
	if from, err = e.choose("data-dir", "endpoint", "object-store"); err != nil || from == "endpoint" {
		return from, err
	}
	return from, e.useless("--endpoint", append(e.endpoint.names(), "prefix", "lease-ttl", "drop-auth")...)
}

func (e *exporter) run(ctx context.Context, from string) (err error) {
	dir, remove, err := tempFolder()
	if err != nil {
		return err
	}
	defer closing(&err, remove)
	log, release, warnings, err := e.open(ctx, from, dir)
	if err != nil {
		return err
	}
	defer closing(&err, release)
	defer closing(&err, log.Close)
	sum, err := e.write(ctx, log)
	if err != nil {
		return err
	}
	sum.Warnings = append(warnings, sum.Warnings...)
	return e.report(ctx, log, sum)
}

// open gives the source as a log.
func (e *exporter) open(ctx context.Context, from, dir string) (log *sqllog.Log, release func() error, warnings []string, err error) {
	path, release := filepath.Join(dir, "log"), func() error { return nil }
	switch from {
	case "data-dir":
		if path, release, err = lockFolder(e.cmd.String("data-dir")); err != nil {
			return nil, nil, nil, err
		}
	case "endpoint":
		e.fetch.Dir = dir
		sum, err := load(ctx, e.session, path, func(sink transfer.Sink) (transfer.Summary, error) {
			return e.endpoint.fetch(ctx, sink, e.fetch)
		})
		if err != nil {
			return nil, nil, nil, err
		}
		warnings = sum.Warnings
	default:
		err := e.withStore(ctx, e.store, func(store object.Store) error {
			log, _, err = e.download(ctx, s3snap.RestoreConfig{Store: store, Path: path})
			return err
		})
		return log, release, nil, err
	}
	log, err = sqllog.Open(ctx, sqllog.Config{Path: path, Logger: e.log})
	if err != nil {
		return nil, nil, nil, errors.Join(err, release())
	}
	return log, release, warnings, nil
}

func (e *exporter) write(ctx context.Context, log *sqllog.Log) (sum transfer.Summary, err error) {
	path, force := e.cmd.String("output"), e.cmd.Bool(newfile.ForceFlag)
	switch options := (transfer.JSONOptions{History: e.cmd.Bool("all-revisions")}); {
	case e.cmd.String("format") == formatEtcd:
		err = newfile.Write(path, force, func(temp string) (err error) {
			sum, err = transfer.WriteEtcdDB(ctx, temp, log)
			return err
		})
	case path != "":
		err = newfile.Stream(path, force, func(w io.Writer) (err error) {
			sum, err = transfer.WriteJSON(ctx, w, log, options)
			return err
		})
	default:
		sum, err = transfer.WriteJSON(ctx, e.out, log, options)
	}
	return sum, err
}

// report says what was written, on standard output unless the keys went there.
func (e *exporter) report(ctx context.Context, log *sqllog.Log, sum transfer.Summary) error {
	e.warn(sum)
	f := &facts{out: e.out}
	if path := e.cmd.String("output"); path != "" {
		f.line("file", "%s", path)
	} else {
		f.out = e.errs
	}
	var hash *pb.HashKVResponse
	if e.cmd.String("format") == formatEtcd || e.cmd.Bool("all-revisions") {
		var err error
		if hash, err = e.historyHash(ctx, log); err != nil {
			return err
		}
	}
	f.moved(sum, hash)
	return f.err
}

// load makes a new log of what fill gives.
func load(ctx context.Context, s *session, path string, fill func(transfer.Sink) (transfer.Summary, error)) (sum transfer.Summary, err error) {
	loader, err := sqllog.NewLoader(ctx, sqllog.Config{Path: path, Logger: s.log})
	if err != nil {
		return transfer.Summary{}, err
	}
	defer closing(&err, loader.Abort)
	return fill(loader)
}
