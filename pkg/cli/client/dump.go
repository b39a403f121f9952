package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v3"

	"github.com/kinsy/kinsy/pkg/cli/newfile"
	"github.com/kinsy/kinsy/pkg/sqllog"
	"github.com/kinsy/kinsy/pkg/transfer"
)

const dumpDescription = `Writes all keys at one revision, as JSON lines: those of kinsy export, which kinsy load and kinsy import read, and which have the
revisions too. --format antietcd makes a dump of AntiEtcd instead. Leases are left out, and their keys are kept without them, unless
--with-lease is given; how long leases live is told by servers with --api=etcd, others need --lease-ttl. A temporary folder (TMPDIR)
takes what is read.`

// Values of --format of dump.
const (
	dumpLines    = "json"
	dumpAntiEtcd = "antietcd"
)

// dumper is kinsy dump.
type dumper struct {
	*session
	prefix, format, file string
	force, withLease     bool
	ttl                  int64
}

func newDump(c Config) *cli.Command {
	d := &dumper{}
	return c.command(spec{
		name: "dump", usage: "write all keys to a file", description: dumpDescription, formats: noTable,
		flags: []cli.Flag{
			&cli.StringFlag{Name: "prefix", Destination: &d.prefix, Usage: "only keys that begin with it"},
			&cli.StringFlag{Name: "format", Value: dumpLines, Destination: &d.format, Usage: dumpLines + " or " + dumpAntiEtcd},
			&cli.StringFlag{Name: "file", TakesFile: true, Destination: &d.file, Usage: "`FILE` to write", DefaultText: "standard output"},
			&cli.BoolFlag{Name: newfile.ForceFlag, HideDefault: true, Destination: &d.force, Usage: "replace the file if it exists"},
			newWithLeaseFlag(&d.withLease, "write leases, and which key goes with which"),
			&cli.Int64Flag{Name: "lease-ttl", HideDefault: true, Destination: &d.ttl, Usage: "`SECONDS` for leases whose time the server does not tell"},
		},
		run: func(ctx context.Context, s *session) error {
			d.session = s
			if _, err := s.args(0, 0); err != nil {
				return err
			}
			if d.format != dumpLines && d.format != dumpAntiEtcd {
				return usagef("--format must be %s or %s, not %q", dumpLines, dumpAntiEtcd, d.format)
			}
			if d.force && d.file == "" {
				return usagef("--%s needs --file", newfile.ForceFlag)
			}
			return d.run(ctx)
		},
	})
}

func newWithLeaseFlag(to *bool, usage string) cli.Flag {
	return &cli.BoolFlag{Name: "with-lease", HideDefault: true, Destination: to, Usage: usage}
}

func (d *dumper) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "kinsy-")
	if err != nil {
		return fmt.Errorf("create temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	log, err := d.fetch(ctx, dir)
	if err != nil {
		return describe(err)
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	var sum transfer.Summary
	write := func(w io.Writer) (err error) {
		sum, err = d.write(ctx, w, log)
		return err
	}
	if d.file == "" {
		err = write(d.out)
	} else {
		err = newfile.Stream(d.file, d.force, write)
	}
	if err != nil {
		return err
	}
	return d.report(sum)
}

// fetch reads the server into a log in a folder.
func (d *dumper) fetch(ctx context.Context, dir string) (*sqllog.Log, error) {
	conn, err := d.counted(ctx, "reading")
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	path := filepath.Join(dir, "log")
	config := sqllog.Config{Path: path, Logger: quiet()}
	loader, err := sqllog.NewLoader(ctx, config)
	if err != nil {
		return nil, err
	}
	options := transfer.FetchOptions{Dir: dir, Prefix: d.prefix, LeaseTTL: d.ttl}
	var sink transfer.Sink = loader
	if !d.withLease {
		sink, options.LeaseTTL = leaseless{loader}, 1
	}
	_, err = transfer.NewClient(conn).Fetch(ctx, sink, options)
	d.line.Clear()
	if errors.Is(err, transfer.ErrLeaseTTL) {
		err = fmt.Errorf("%w; give --lease-ttl, or leave --with-lease out", err)
	}
	if err = errors.Join(err, loader.Abort()); err != nil {
		return nil, err
	}
	return sqllog.Open(ctx, config)
}

func (d *dumper) write(ctx context.Context, w io.Writer, log *sqllog.Log) (transfer.Summary, error) {
	if d.format == dumpAntiEtcd {
		return writeAntiEtcd(ctx, w, log)
	}
	return transfer.WriteJSON(ctx, w, log, transfer.JSONOptions{})
}

// report says what was written, on standard output unless the keys went there.
func (d *dumper) report(sum transfer.Summary) error {
	if d.file == "" {
		d.note("%d keys and %d leases at revision %d", sum.Keys, sum.Leases, sum.Revision)
		return nil
	}
	if d.session.format == formatJSON {
		return d.writeJSON(map[string]any{"file": d.file, "keys": sum.Keys, "leases": sum.Leases, "revision": sum.Revision})
	}
	fmt.Fprintf(d.out, "OK, dumped %d keys and %d leases at revision %d\n", sum.Keys, sum.Leases, sum.Revision)
	return nil
}

// leaseless takes the leases out of what it hands on.
type leaseless struct{ transfer.Sink }

// Add hands the rows on.
func (l leaseless) Add(rows []sqllog.Row) error {
	kept := make([]sqllog.Row, 0, len(rows))
	for _, r := range rows {
		if r.Kind != sqllog.KindLease {
			r.Lease = 0
			kept = append(kept, r)
		}
	}
	return l.Sink.Add(kept)
}

// quiet is a log that says nothing; what fails is returned.
func quiet() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}
