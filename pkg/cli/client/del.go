package client

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/pkg/cli/terminal"
)

const delDescription = `Prints how many keys were deleted. Several keys go in one revision. A server with --api=netsy takes one key at a time; there,
--one-by-one deletes the keys of a range each by itself.`

// deleteOptions are those of a delete.
type deleteOptions struct {
	span
	prevKV, oneByOne bool
}

func newDel(c Config) *cli.Command {
	o := &deleteOptions{}
	return c.command(spec{
		name: "del", usage: "delete keys", args: "KEY [RANGE_END]", description: delDescription, formats: noTable,
		flags: append(o.span.flags("delete"),
			&cli.BoolFlag{Name: "prev-kv", HideDefault: true, Destination: &o.prevKV, Usage: "print what was deleted"},
			&cli.BoolFlag{Name: "one-by-one", HideDefault: true, Destination: &o.oneByOne, Usage: "each key in a revision of its own"}),
		run: func(ctx context.Context, s *session) error {
			args, err := s.args(1, 2)
			if err != nil {
				return err
			}
			key, end, err := o.of(args)
			if err != nil {
				return err
			}
			r := &pb.DeleteRangeRequest{Key: key, RangeEnd: end, PrevKv: o.prevKV}
			if o.oneByOne && end != nil {
				return s.deleteOneByOne(ctx, r)
			}
			head, answer, err := s.del(ctx, r)
			if status.Code(err) == codes.InvalidArgument && end != nil {
				return fmt.Errorf("%w; --one-by-one deletes key by key", err)
			}
			if err != nil {
				return err
			}
			return s.printDelete(head, answer)
		},
	})
}

// deleteOneByOne deletes each key of a range that is there at the beginning.
func (s *session) deleteOneByOne(ctx context.Context, r *pb.DeleteRangeRequest) error {
	all := &pb.DeleteRangeResponse{}
	var head *pb.ResponseHeader
	read := &pb.RangeRequest{Key: r.Key, RangeEnd: r.RangeEnd, KeysOnly: true}
	err := s.pages(ctx, read, func(page *pb.RangeResponse, total int64) error {
		for _, kv := range page.Kvs {
			h, answer, err := s.del(ctx, &pb.DeleteRangeRequest{Key: kv.Key, PrevKv: r.PrevKv})
			if err != nil {
				return fmt.Errorf("%w; %d keys were deleted before", err, all.Deleted)
			}
			head = h
			all.Deleted += answer.GetDeleted()
			all.PrevKvs = append(all.PrevKvs, answer.GetPrevKvs()...)
			s.line.Show("deleting " + terminal.Bar(all.Deleted, total) + " " + terminal.Digits(all.Deleted) + " keys")
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.printDelete(head, all)
}

// deleteJSON is the answer to a delete in JSON.
type deleteJSON struct {
	Header  *header     `json:"header,omitempty"`
	Deleted int64       `json:"deleted"`
	PrevKVs []*keyValue `json:"prev_kvs,omitempty"`
}

func deleteJSONOf(head *pb.ResponseHeader, deleted int64, prev []*mvccpb.KeyValue) *deleteJSON {
	return &deleteJSON{headerOf(head), deleted, keyValuesOf(prev, keyValueOf)}
}

func (s *session) printDelete(head *pb.ResponseHeader, answer *pb.DeleteRangeResponse) error {
	if s.format == formatJSON {
		return s.writeJSON(deleteJSONOf(head, answer.GetDeleted(), answer.GetPrevKvs()))
	}
	fmt.Fprintln(s.out, answer.GetDeleted())
	for _, kv := range answer.GetPrevKvs() {
		s.pair(kv, kvOptions{})
	}
	return nil
}
