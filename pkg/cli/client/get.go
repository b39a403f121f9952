package client

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const getDescription = `As text, a key is on a line and its value on the next, both with escapes for what is not printable. A key that is not there is no
error: nothing is printed. --raw prints the value of one key as it is, and nothing else.`

var (
	sortTargets = map[string]pb.RangeRequest_SortTarget{
		"key": pb.RangeRequest_KEY, "version": pb.RangeRequest_VERSION, "create": pb.RangeRequest_CREATE,
		"modify": pb.RangeRequest_MOD, "mod": pb.RangeRequest_MOD, "value": pb.RangeRequest_VALUE,
	}
	sortOrders = map[string]pb.RangeRequest_SortOrder{
		"ascend": pb.RangeRequest_ASCEND, "asc": pb.RangeRequest_ASCEND, "descend": pb.RangeRequest_DESCEND, "desc": pb.RangeRequest_DESCEND,
	}
)

// rangeOptions are those of a read.
type rangeOptions struct {
	span
	revision, limit     int64
	sortBy, order       string
	serializable        bool
	keysOnly, countOnly bool
	valueOnly, raw      bool
}

func newGet(c Config) *cli.Command {
	o := &rangeOptions{}
	return c.command(spec{
		name: "get", usage: "read keys", args: "KEY [RANGE_END]", description: getDescription, flags: o.getFlags(),
		run: func(ctx context.Context, s *session) error {
			args, err := s.args(1, 2)
			if err != nil {
				return err
			}
			r, err := o.request(args)
			if err != nil {
				return err
			}
			answer, err := s.get(ctx, r)
			if err != nil {
				return err
			}
			return s.printRange(answer, o)
		},
	})
}

func (o *rangeOptions) getFlags() []cli.Flag {
	flag := func(to *bool, name, usage string) cli.Flag {
		return &cli.BoolFlag{Name: name, HideDefault: true, Destination: to, Usage: usage}
	}
	return append(o.span.flags("read"),
		&cli.Int64Flag{Name: "rev", Aliases: []string{"revision"}, HideDefault: true, Destination: &o.revision, Usage: "read as of `REVISION`, if it was not compacted"},
		&cli.Int64Flag{Name: "limit", HideDefault: true, Destination: &o.limit, Usage: "at most so many keys"},
		&cli.StringFlag{Name: "sort-by", Destination: &o.sortBy, Usage: "key, version, create, modify or value"},
		&cli.StringFlag{Name: "order", Destination: &o.order, Usage: "ascend or descend"},
		flag(&o.serializable, "serializable", "take what the node that is asked knows, which may be older than the newest write"),
		flag(&o.keysOnly, "keys-only", "keys without values"),
		flag(&o.countOnly, "count-only", "how many keys there are, and nothing else"),
		flag(&o.valueOnly, "print-value-only", "values without keys, as text"),
		flag(&o.raw, "raw", "the value of one key as it is, without a line feed"),
	)
}

// request makes the request of KEY [RANGE_END] and the flags.
func (o *rangeOptions) request(args []string) (*pb.RangeRequest, error) {
	key, end, err := o.of(args)
	if err != nil {
		return nil, err
	}
	switch {
	case o.keysOnly && o.countOnly:
		return nil, usagef("--keys-only and --count-only exclude each other")
	case o.raw && (end != nil || o.keysOnly || o.countOnly):
		return nil, usagef("--raw takes one key")
	case o.valueOnly && o.keysOnly:
		return nil, usagef("--print-value-only and --keys-only exclude each other")
	case o.limit < 0 || o.revision < 0:
		return nil, usagef("--limit and --rev must not be negative")
	}
	r := &pb.RangeRequest{
		Key: key, RangeEnd: end, Revision: o.revision, Limit: o.limit, Serializable: o.serializable, KeysOnly: o.keysOnly, CountOnly: o.countOnly,
	}
	return r, o.sort(r)
}

// sort fills in the order. An order without a target is one of keys; a target without an order ascends.
func (o *rangeOptions) sort(r *pb.RangeRequest) error {
	if o.sortBy == "" && o.order == "" {
		return nil
	}
	var ok bool
	if r.SortTarget, ok = sortTargets[strings.ToLower(o.sortBy)]; !ok && o.sortBy != "" {
		return usagef("--sort-by must be key, version, create, modify or value, not %q", o.sortBy)
	}
	if r.SortOrder, ok = sortOrders[strings.ToLower(o.order)]; !ok && o.order != "" {
		return usagef("--order must be ascend or descend, not %q", o.order)
	}
	if o.order == "" {
		r.SortOrder = pb.RangeRequest_ASCEND
	}
	return nil
}

// rangeJSON is the answer to a read in JSON.
type rangeJSON struct {
	Header *header     `json:"header,omitempty"`
	Kvs    []*keyValue `json:"kvs,omitempty"`
	More   bool        `json:"more,omitempty"`
	Count  int64       `json:"count"`
}

func rangeJSONOf(answer *pb.RangeResponse, keysOnly bool) *rangeJSON {
	one := keyValueOf
	if keysOnly {
		one = keyOf
	}
	return &rangeJSON{headerOf(answer.GetHeader()), keyValuesOf(answer.GetKvs(), one), answer.GetMore(), answer.GetCount()}
}

func (s *session) printRange(answer *pb.RangeResponse, o *rangeOptions) error {
	kvs := answer.GetKvs()
	what := kvOptions{keysOnly: o.keysOnly, valueOnly: o.valueOnly}
	switch {
	case o.raw:
		if len(kvs) > 0 {
			_, err := s.out.Write(kvs[0].GetValue())
			return err
		}
	case s.format == formatJSON:
		return s.writeJSON(rangeJSONOf(answer, o.keysOnly))
	case o.countOnly:
		fmt.Fprintln(s.out, answer.GetCount())
	case s.format == formatTable:
		return s.kvTable(kvs, what)
	default:
		for _, kv := range kvs {
			s.pair(kv, what)
		}
	}
	return nil
}
