package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/urfave/cli/v3"
	"google.golang.org/grpc"
)

const benchDescription = `LOAD is one of:

   put      each operation puts a key
   range    each operation reads a key, linearizably unless --serializable is given
   mixed    reads and puts, by --read-percent
   watch    puts, and watchers that follow all keys: the latency is from a put's beginning to the event

It runs for --duration, or until --total operations are done, and prints throughput and latencies. Its keys are below --prefix, in a
folder of their own that is removed at the end. The exit status is 1 if an operation failed.`

// The loads.
const (
	loadPut   = "put"
	loadRange = "range"
	loadMixed = "mixed"
	loadWatch = "watch"
)

// Defaults of kinsy bench.
const (
	benchPrefix   = "/kinsy-bench/"
	benchDuration = 10 * time.Second
	benchClients  = 50
	benchKeys     = 10_000
	benchSize     = 256
	benchReads    = 80
	benchWatchers = 10
	// clientsPerConnection is how many clients share a connection, if nothing else is said.
	clientsPerConnection = 10
)

// benchOptions are those of kinsy bench.
type benchOptions struct {
	clients, connections, size, keys, readPercent, watchers int
	duration                                                time.Duration
	total                                                   int64
	prefix                                                  string
	newKeys, serializable, keep                             bool
}

func newBench(c Config) *cli.Command {
	o := &benchOptions{}
	number := func(to *int, name string, value int, usage string) cli.Flag {
		return &cli.IntFlag{Name: name, Value: value, Destination: to, Usage: usage}
	}
	flag := func(to *bool, name, usage string) cli.Flag {
		return &cli.BoolFlag{Name: name, HideDefault: true, Destination: to, Usage: usage}
	}
	return c.command(spec{
		name: "bench", usage: "measure how fast a server is", args: "LOAD", description: benchDescription,
		flags: []cli.Flag{
			number(&o.clients, "clients", benchClients, "so many clients, each with one operation at a time"),
			&cli.IntFlag{Name: "connections", Destination: &o.connections, DefaultText: "one for ten clients", Usage: "that they share; they are spread over the endpoints"},
			&cli.DurationFlag{Name: "duration", Value: benchDuration, Destination: &o.duration, Usage: "how long"},
			&cli.Int64Flag{Name: "total", HideDefault: true, Destination: &o.total, Usage: "so many operations, instead of --duration"},
			number(&o.size, "size", benchSize, "bytes of a value"),
			number(&o.keys, "keys", benchKeys, "so many keys, of which each operation takes one at random"),
			flag(&o.newKeys, "new-keys", "each put makes a key that was not there"),
			number(&o.readPercent, "read-percent", benchReads, "reads among the operations of mixed"),
			number(&o.watchers, "watchers", benchWatchers, "watchers of watch, each with a stream of its own"),
			flag(&o.serializable, "serializable", "read what the node that is asked knows"),
			&cli.StringFlag{Name: "prefix", Value: benchPrefix, Destination: &o.prefix, Usage: "what the keys begin with"},
			flag(&o.keep, "keep", "leave the keys there"),
		},
		run: func(ctx context.Context, s *session) error {
			args, err := s.args(1, 1)
			if err != nil {
				return err
			}
			if err := o.check(args[0], s.cmd.IsSet("duration")); err != nil {
				return err
			}
			b := &bench{session: s, benchOptions: *o, load: args[0]}
			b.prefix = fmt.Sprintf("%s%016x/", o.prefix, rand.Uint64())
			return b.run(ctx)
		},
	})
}

func (o *benchOptions) check(load string, timed bool) error {
	switch load {
	case loadPut, loadRange, loadMixed, loadWatch:
	default:
		return usagef("LOAD must be %s, %s, %s or %s, not %q", loadPut, loadRange, loadMixed, loadWatch, load)
	}
	switch {
	case o.clients < 1 || o.connections < 0 || o.keys < 1 || o.watchers < 1 || o.total < 0:
		return usagef("--clients, --keys and --watchers must be above 0, --connections and --total not below")
	case o.size < stampBytes:
		return usagef("--size must be %d at least", stampBytes)
	case o.readPercent < 0 || o.readPercent > 100:
		return usagef("--read-percent must be from 0 to 100")
	case o.total > 0 && timed:
		return usagef("--total and --duration exclude each other")
	case o.total == 0 && o.duration <= 0:
		return usagef("--duration must be above 0")
	}
	return nil
}

// bench is one measurement.
type bench struct {
	*session
	benchOptions
	load  string
	conns []*grpc.ClientConn
}

func (b *bench) run(ctx context.Context) (err error) {
	defer func() {
		for _, conn := range b.conns {
			_ = conn.Close()
		}
	}()
	if err := b.open(ctx); err != nil {
		return err
	}
	if !b.keep {
		defer func() {
			b.line.Clear()
			// What was interrupted cleans up too.
			err = errors.Join(err, b.clean(context.WithoutCancel(ctx)))
		}()
	}
	if b.load == loadRange || b.load == loadMixed {
		if err := b.prepare(ctx); err != nil {
			return err
		}
	}
	var r result
	if b.load == loadWatch {
		r, err = b.measureWatch(ctx)
	} else {
		r, err = b.drive(ctx, b.load, b.limits(), b.operation())
	}
	b.line.Clear()
	if err != nil {
		return err
	}
	if err := b.report(r); err != nil {
		return err
	}
	if r.failed > 0 {
		return fmt.Errorf("%d operations failed, the first with: %w", r.failed, describe(r.err))
	}
	return nil
}

// open makes the connections, one endpoint after the other.
func (b *bench) open(ctx context.Context) error {
	n := b.connections
	if n == 0 {
		n = (b.clients + clientsPerConnection - 1) / clientsPerConnection
	}
	for range n {
		conn, err := b.connect(ctx)
		if err != nil {
			return describe(err)
		}
		b.conns, b.conn = append(b.conns, conn), nil // it is the bench's now
		b.at = (b.at + 1) % len(b.all)
	}
	return nil
}
