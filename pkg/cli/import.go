package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v3"

	"github.com/kinsy/kinsy/pkg/cli/newfile"
	"github.com/kinsy/kinsy/pkg/cli/terminal"
	"github.com/kinsy/kinsy/pkg/sqllog"
	"github.com/kinsy/kinsy/pkg/transfer"
)

const importDescription = `Into a folder, which must be empty or missing, everything goes with its revisions, and a node can be started on it. A running
server, kinsy or another one, gives the keys new revisions; it must have none, unless --force is given.
For an etcd snapshot the hash must be that of etcdutl hashkv FILE.`

// importer is what the flags of kinsy import say.
type importer struct {
	*session
	from, to *endpointSettings
	fetch    transfer.FetchOptions
}

func newImportCommand() *cli.Command {
	i := &importer{}
	var from, to []cli.Flag
	i.from, from = newEndpointFlags("from-endpoint", "from-", "`URL` of a running server to import from")
	i.to, to = newEndpointFlags("to-endpoint", "to-", "`URL` of a running server to import into")
	return &cli.Command{
		Name: "import", Usage: "take keys from JSON lines, an etcd snapshot or a running server", Description: importDescription,
		OnUsageError: usageError,
		Flags: append(append(append(from, to...), fetchFlags(&i.fetch)...),
			&cli.StringFlag{Name: "from-json", Usage: "`FILE` that kinsy export --format json has written; - for standard input", TakesFile: true},
			&cli.StringFlag{Name: "from-etcd-snapshot", Usage: "`FILE` that etcdctl snapshot save has written, or the database of a stopped etcd", TakesFile: true},
			newDataDirFlag("`FOLDER` to import into; it is empty or missing"),
			newForceFlag("write into a server that has keys, over those of the same name")),
		Action: offline(func(ctx context.Context, s *session) error {
			i.session = s
			source, to, err := i.check()
			if err != nil {
				return err
			}
			if to == "data-dir" {
				return i.toFolder(ctx, source, s.cmd.String(to))
			}
			return i.toEndpoint(ctx, source)
		}),
	}
}

// check reads the flags and returns those of the source and of the target.
func (i *importer) check() (from, to string, err error) {
	if err := i.flagsOnly(); err != nil {
		return "", "", err
	}
	if from, err = i.choose("from-json", "from-etcd-snapshot", "from-endpoint"); err != nil {
		return "", "", err
	}
	if to, err = i.choose("data-dir", "to-endpoint"); err != nil {
		return "", "", err
	}
	var errs []error
	if from != "from-endpoint" {
		errs = append(errs, i.useless("--from-endpoint", append(i.from.names(), "prefix", "lease-ttl")...))
	}
	if from == "from-json" {
		errs = append(errs, i.useless("--from-etcd-snapshot or --from-endpoint", "drop-auth"))
	}
	if to != "to-endpoint" {
		errs = append(errs, i.useless("--to-endpoint", append(i.to.names(), newfile.ForceFlag)...))
	}
	return from, to, errors.Join(errs...)
}

func (i *importer) toFolder(ctx context.Context, source, dir string) (err error) {
	folder, err := takeNewFolder(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.finish(err != nil)) }()
	i.fetch.Dir = dir
	sum, err := load(ctx, i.session, folder.path, func(sink transfer.Sink) (transfer.Summary, error) {
		return i.read(ctx, source, sink)
	})
	if err != nil {
		return err
	}
	log, err := sqllog.Open(ctx, sqllog.Config{Path: folder.path, Logger: i.log})
	if err != nil {
		return err
	}
	defer closing(&err, log.Close)
	hash, err := i.historyHash(ctx, log)
	if err != nil {
		return err
	}
	i.warn(sum)
	f := &facts{out: i.out}
	f.moved(sum, hash)
	f.line("cluster", "%016x, which is new", log.Identity().Cluster)
	f.line("log", "%s", folder.path)
	f.line("start it", "kinsy server --data-dir %s", quote(dir))
	return f.err
}

func (i *importer) toEndpoint(ctx context.Context, source string) (err error) {
	client, err := i.to.dial(ctx)
	if err != nil {
		return err
	}
	defer closing(&err, client.Close)
	pusher, err := client.Push(ctx, transfer.PushOptions{Force: i.cmd.Bool(newfile.ForceFlag)})
	if errors.Is(err, transfer.ErrNotEmpty) {
		return fmt.Errorf("--to-endpoint: %w; give --%s to write over keys of the same name", err, newfile.ForceFlag)
	}
	if err != nil {
		return fmt.Errorf("--to-endpoint: %w", err)
	}
	sum, err := i.read(ctx, source, pusher)
	if err != nil {
		return err
	}
	i.warn(sum)
	f := &facts{out: i.out}
	f.moved(sum, nil)
	f.line("server", "is at revision %d; keys have new revisions there", pusher.Revision())
	return f.err
}

// read gives a source to a sink.
func (i *importer) read(ctx context.Context, source string, sink transfer.Sink) (sum transfer.Summary, err error) {
	switch name := i.cmd.String(source); source {
	case "from-json":
		return i.readJSON(ctx, name, sink)
	case "from-etcd-snapshot":
		sum, err = transfer.ReadEtcdDB(ctx, name, sink, transfer.ReadOptions{DropAuth: i.fetch.DropAuth})
	default:
		return i.from.fetch(ctx, sink, i.fetch)
	}
	return sum, explain(err)
}

func (i *importer) readJSON(ctx context.Context, name string, sink transfer.Sink) (transfer.Summary, error) {
	var in io.Reader
	if name == "-" {
		r, stop := terminal.Interruptible(ctx, i.in)
		defer stop()
		in = r
	} else {
		f, err := os.Open(name)
		if err != nil {
			return transfer.Summary{}, err
		}
		defer f.Close()
		in = f
	}
	return transfer.ReadJSON(ctx, in, sink)
}
