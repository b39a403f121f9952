package client

import (
	"context"
	"fmt"
	"strconv"

	"github.com/urfave/cli/v3"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

const compactDescription = `Forgets what was before REVISION: values that were replaced, keys that were deleted. A server with --api=netsy does not take this
command; it compacts by itself, by its --compact-interval and --compact-min-retain.`

func newCompact(c Config) *cli.Command {
	physical := false
	return c.command(spec{
		name: "compact", usage: "forget the history before a revision", args: "REVISION", description: compactDescription, formats: noTable,
		flags: []cli.Flag{&cli.BoolFlag{Name: "physical", HideDefault: true, Destination: &physical, Usage: "wait until it is removed from the disk"}},
		run: func(ctx context.Context, s *session) error {
			args, err := s.args(1, 1)
			if err != nil {
				return err
			}
			revision, err := parseRevision("REVISION", args[0])
			if err != nil {
				return err
			}
			var answer *pb.CompactionResponse
			err = s.write(ctx, func(ctx context.Context, conn *grpc.ClientConn) (err error) {
				answer, err = pb.NewKVClient(conn).Compact(ctx, &pb.CompactionRequest{Revision: revision, Physical: physical})
				return err
			})
			if err != nil {
				return err
			}
			if s.format == formatJSON {
				return s.writeJSON(map[string]any{"header": headerOf(answer.GetHeader()), "compact_revision": revision})
			}
			fmt.Fprintf(s.out, "compacted revision %d\n", revision)
			return nil
		},
	})
}

func parseRevision(name, text string) (int64, error) {
	revision, err := strconv.ParseInt(text, 10, 64)
	if err != nil || revision <= 0 {
		return 0, usagef("%s must be a revision, not %q", name, text)
	}
	return revision, nil
}
