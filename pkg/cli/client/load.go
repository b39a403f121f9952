package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v3"

	"github.com/kinsy/kinsy/pkg/cli/terminal"
	"github.com/kinsy/kinsy/pkg/sqllog"
	"github.com/kinsy/kinsy/pkg/transfer"
)

const loadDescription = `Writes the keys of FILE, or of standard input, over those of the same name. It takes what kinsy dump and kinsy export write, dumps
of AntiEtcd, and the JSON of etcdctl get. Keys get new revisions; they are written in Txns of up to 128 keys, and one by one where the
server has --api=netsy. Keys are written without leases unless --with-lease is given, which grants those that are missing.`

const (
	// defaultLeaseTTL is for leases of dumps that do not tell how long they live, in seconds.
	defaultLeaseTTL = 60
	// maxLoad bounds a dump that is no file of lines, in bytes.
	maxLoad = 1 << 30
)

// loading is kinsy load.
type loading struct {
	*session
	withLease bool
	ttl       int64
}

func newLoad(c Config) *cli.Command {
	l := &loading{}
	return c.command(spec{
		name: "load", usage: "write the keys of a file", args: "[FILE | -]", description: loadDescription, formats: noTable,
		flags: []cli.Flag{
			newWithLeaseFlag(&l.withLease, "put keys with their leases"),
			&cli.Int64Flag{Name: "lease-ttl", Value: defaultLeaseTTL, Destination: &l.ttl, Usage: "`SECONDS` for leases whose time the dump does not tell"},
		},
		run: func(ctx context.Context, s *session) error {
			l.session = s
			args, err := s.args(0, 1)
			if err != nil {
				return err
			}
			if l.ttl <= 0 {
				return usagef("--lease-ttl must be above 0")
			}
			if len(args) == 0 || args[0] == "-" {
				in, stop := terminal.Interruptible(ctx, s.in)
				defer stop()
				return l.run(ctx, in)
			}
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			return l.run(ctx, f)
		},
	})
}

func (l *loading) run(ctx context.Context, in io.Reader) (err error) {
	conn, err := l.counted(ctx, "loading")
	if err != nil {
		return err
	}
	defer conn.Close()
	pusher, err := transfer.NewClient(conn).Push(ctx, transfer.PushOptions{Force: true})
	if err != nil {
		return describe(err)
	}
	c := &counting{Sink: pusher}
	if !l.withLease {
		c.Sink = leaseless{pusher}
	}
	if err := l.read(ctx, in, c); err != nil {
		if openOutcome(err) || pusher.Revision() > 0 && c.keys > 0 {
			return fmt.Errorf("%w; some keys may be written", describe(err))
		}
		return describe(err)
	}
	l.line.Clear()
	if l.format == formatJSON {
		return l.writeJSON(map[string]any{"keys": c.keys, "revision": pusher.Revision()})
	}
	fmt.Fprintf(l.out, "OK, loaded %d values\n", c.keys)
	return nil
}

// read gives a dump of either kind to a sink.
func (l *loading) read(ctx context.Context, in io.Reader, sink transfer.Sink) error {
	r := bufio.NewReaderSize(in, 64<<10)
	first, err := r.Peek(r.Size())
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read dump: %w", err)
	}
	if isLines(first) {
		_, err := transfer.ReadJSON(ctx, r, sink)
		return err
	}
	text, err := io.ReadAll(io.LimitReader(r, maxLoad+1))
	if err != nil {
		return fmt.Errorf("read dump: %w", err)
	}
	if len(text) > maxLoad {
		return fmt.Errorf("the dump has more than %d bytes; JSON lines may have", maxLoad)
	}
	all, err := parseAntiEtcd(text)
	if err != nil {
		return err
	}
	if err := sink.Add(rowsOf(all, l.ttl)); err != nil {
		return err
	}
	return sink.Finish(sqllog.Head{}, sqllog.Compaction{})
}

// isLines reports whether a text begins as JSON lines do: an object on a line of its own, with their field.
func isLines(text []byte) bool {
	first, _, _ := bytes.Cut(bytes.TrimLeft(text, " \t\r\n"), []byte("\n"))
	return bytes.Contains(first, []byte(`"format"`)) && bytes.Contains(first, []byte(`"kinsy-json-`))
}

// counting counts the keys that it hands on.
type counting struct {
	transfer.Sink
	keys int64
}

// Add hands the rows on.
func (c *counting) Add(rows []sqllog.Row) error {
	for _, r := range rows {
		if r.Kind == sqllog.KindPut {
			c.keys++
		}
	}
	return c.Sink.Add(rows)
}
