package client

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/urfave/cli/v3"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/kinsy/kinsy/pkg/cli/terminal"
)

const putDescription = `The value is an argument, standard input where that is - , or a file. A value that begins with a dash follows --, as in
kinsy put -- KEY -5. Values from standard input and from files are taken as they are, with the line feed at their end.`

// putOptions are those of a put.
type putOptions struct {
	lease                    string
	valueFile                string
	prevKV                   bool
	ignoreValue, ignoreLease bool
	escaped                  bool
}

func newPut(c Config) *cli.Command {
	o := &putOptions{}
	return c.command(spec{
		name: "put", usage: "write a key", args: "KEY [VALUE | -]", description: putDescription, formats: noTable,
		flags: []cli.Flag{
			&cli.StringFlag{Name: "value-file", TakesFile: true, Destination: &o.valueFile, Usage: "`FILE` with the value"},
			newLeaseFlag(&o.lease),
			&cli.BoolFlag{Name: "prev-kv", HideDefault: true, Destination: &o.prevKV, Usage: "print what was there before"},
			&cli.BoolFlag{Name: "ignore-value", HideDefault: true, Destination: &o.ignoreValue, Usage: "keep the value, for a change of the lease"},
			&cli.BoolFlag{Name: "ignore-lease", HideDefault: true, Destination: &o.ignoreLease, Usage: "keep the lease"},
			newEscapedFlag(&o.escaped),
		},
		run: func(ctx context.Context, s *session) error {
			args, err := s.args(1, 2)
			if err != nil {
				return err
			}
			r, err := o.request(args, func() ([]byte, error) { return s.putValue(ctx, o, args) })
			if err != nil {
				return err
			}
			head, answer, err := s.put(ctx, r)
			if err != nil {
				return err
			}
			return s.printPut(head, answer)
		},
	})
}

func newLeaseFlag(to *string) cli.Flag {
	return &cli.StringFlag{Name: "lease", Destination: to, Usage: "`ID` of the lease that the key goes with, in hexadecimal digits"}
}

// parseLease reads the id of a lease.
func parseLease(text string) (int64, error) {
	id, err := strconv.ParseUint(text, 16, 64)
	if err != nil || id == 0 {
		return 0, usagef("%q is not the id of a lease: up to 16 hexadecimal digits", text)
	}
	return int64(id), nil
}

// request makes the request; value is called for the value where one is wanted.
func (o *putOptions) request(args []string, value func() ([]byte, error)) (*pb.PutRequest, error) {
	key, err := literal(args[0], o.escaped)
	if err != nil {
		return nil, err
	}
	r := &pb.PutRequest{Key: key, PrevKv: o.prevKV, IgnoreValue: o.ignoreValue, IgnoreLease: o.ignoreLease}
	switch {
	case len(key) == 0:
		return nil, usagef("the key is empty")
	case o.lease != "" && o.ignoreLease:
		return nil, usagef("--lease and --ignore-lease exclude each other")
	case o.ignoreValue && (len(args) > 1 || o.valueFile != ""):
		return nil, usagef("there is a value, and --ignore-value")
	case len(args) > 1 && o.valueFile != "":
		return nil, usagef("there is a value, and --value-file")
	case !o.ignoreValue && len(args) == 1 && o.valueFile == "":
		return nil, usagef("there is no value: give it as an argument, by - from standard input, or by --value-file")
	}
	if o.lease != "" {
		if r.Lease, err = parseLease(o.lease); err != nil {
			return nil, err
		}
	}
	if !o.ignoreValue {
		r.Value, err = value()
	}
	return r, err
}

// putValue reads the value from where the arguments say.
func (s *session) putValue(ctx context.Context, o *putOptions, args []string) ([]byte, error) {
	switch {
	case o.valueFile != "":
		return os.ReadFile(o.valueFile)
	case args[1] == "-":
		in, stop := terminal.Interruptible(ctx, s.in)
		defer stop()
		return io.ReadAll(in)
	}
	return literal(args[1], o.escaped)
}

// putJSON is the answer to a put in JSON.
type putJSON struct {
	Header *header   `json:"header,omitempty"`
	PrevKV *keyValue `json:"prev_kv,omitempty"`
}

func (s *session) printPut(head *pb.ResponseHeader, answer *pb.PutResponse) error {
	if s.format == formatJSON {
		return s.writeJSON(putJSON{headerOf(head), keyValueOf(answer.GetPrevKv())})
	}
	fmt.Fprintln(s.out, "OK")
	if prev := answer.GetPrevKv(); prev != nil {
		s.pair(prev, kvOptions{})
	}
	return nil
}
