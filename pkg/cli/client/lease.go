package client

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/urfave/cli/v3"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

const leaseDescription = `A lease has an id of up to 16 hexadecimal digits. A server with --api=netsy grants leases only; they end by themselves.`

func newLease(c Config) *cli.Command {
	return &cli.Command{
		Name: "lease", Usage: "grant, renew and revoke leases", Description: leaseDescription, OnUsageError: c.UsageError, HideHelpCommand: true,
		Commands: []*cli.Command{newGrant(c), newRevoke(c), newKeepAlive(c), newTimeToLive(c), newLeaseList(c)},
		Action: func(_ context.Context, cmd *cli.Command) error {
			if arg := cmd.Args().First(); arg != "" {
				return usagef("there is no command %q; see %s --help", arg, cmd.FullName())
			}
			defer fmt.Fprintln(cmd.Root().Writer)
			return cli.ShowSubcommandHelp(cmd)
		},
	}
}

// leaseJSON is a lease in JSON: its id as a number, as in etcd, and in the digits by which it is known.
type leaseJSON struct {
	Header     *header  `json:"header,omitempty"`
	ID         int64    `json:"id"`
	Hex        string   `json:"hex"`
	TTL        int64    `json:"ttl"`
	GrantedTTL int64    `json:"granted_ttl,omitempty"`
	Keys       [][]byte `json:"keys,omitempty"`
}

// leaseID returns the id that is the only argument.
func (s *session) leaseID() (int64, error) {
	args, err := s.args(1, 1)
	if err != nil {
		return 0, err
	}
	return parseLease(args[0])
}

func newGrant(c Config) *cli.Command {
	id := ""
	return c.command(spec{
		name: "grant", usage: "make a lease", args: "TTL", description: "TTL is in seconds; less than 2 become 2.", formats: noTable,
		flags: []cli.Flag{&cli.StringFlag{Name: "id", Destination: &id, Usage: "the lease's `ID`; the server chooses it otherwise"}},
		run: func(ctx context.Context, s *session) error {
			args, err := s.args(1, 1)
			if err != nil {
				return err
			}
			r := &pb.LeaseGrantRequest{}
			if r.TTL, err = strconv.ParseInt(args[0], 10, 64); err != nil || r.TTL <= 0 {
				return usagef("TTL must be a number of seconds, not %q", args[0])
			}
			if id != "" {
				if r.ID, err = parseLease(id); err != nil {
					return err
				}
			}
			answer, err := s.grant(ctx, r)
			if err != nil {
				return err
			}
			if s.format == formatJSON {
				return s.writeJSON(leaseJSON{Header: headerOf(answer.GetHeader()), ID: answer.ID, Hex: leaseText(answer.ID), TTL: answer.TTL})
			}
			fmt.Fprintf(s.out, "lease %s granted with TTL(%ds)\n", leaseText(answer.ID), answer.TTL)
			return nil
		},
	})
}

func (s *servers) grant(ctx context.Context, r *pb.LeaseGrantRequest) (answer *pb.LeaseGrantResponse, err error) {
	err = s.write(ctx, func(ctx context.Context, conn *grpc.ClientConn) (err error) {
		answer, err = pb.NewLeaseClient(conn).LeaseGrant(ctx, r)
		return err
	})
	return answer, err
}

func newRevoke(c Config) *cli.Command {
	return c.command(spec{
		name: "revoke", usage: "end a lease, and delete its keys", args: "ID", formats: noTable,
		run: func(ctx context.Context, s *session) error {
			id, err := s.leaseID()
			if err != nil {
				return err
			}
			var answer *pb.LeaseRevokeResponse
			err = s.write(ctx, func(ctx context.Context, conn *grpc.ClientConn) (err error) {
				answer, err = pb.NewLeaseClient(conn).LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: id})
				return err
			})
			if err != nil {
				return err
			}
			if s.format == formatJSON {
				return s.writeJSON(map[string]any{"header": headerOf(answer.GetHeader())})
			}
			fmt.Fprintf(s.out, "lease %s revoked\n", leaseText(id))
			return nil
		},
	})
}

func newTimeToLive(c Config) *cli.Command {
	keys := false
	return c.command(spec{
		name: "timetolive", usage: "show how much time a lease has left", args: "ID", formats: noTable,
		flags: []cli.Flag{&cli.BoolFlag{Name: "keys", HideDefault: true, Destination: &keys, Usage: "and the keys that go with it"}},
		run: func(ctx context.Context, s *session) error {
			id, err := s.leaseID()
			if err != nil {
				return err
			}
			var answer *pb.LeaseTimeToLiveResponse
			err = s.read(ctx, func(ctx context.Context, conn *grpc.ClientConn) (err error) {
				answer, err = pb.NewLeaseClient(conn).LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: id, Keys: keys})
				return err
			})
			if err != nil {
				return err
			}
			return s.printTimeToLive(id, answer, keys)
		},
	})
}

func (s *session) printTimeToLive(id int64, answer *pb.LeaseTimeToLiveResponse, keys bool) error {
	switch {
	case s.format == formatJSON:
		return s.writeJSON(leaseJSON{headerOf(answer.GetHeader()), id, leaseText(id), answer.GetTTL(), answer.GetGrantedTTL(), answer.GetKeys()})
	case answer.GetTTL() < 0:
		fmt.Fprintf(s.out, "lease %s already expired\n", leaseText(id))
		return nil
	}
	fmt.Fprintf(s.out, "lease %s granted with TTL(%ds), remaining(%ds)\n", leaseText(id), answer.GetGrantedTTL(), answer.GetTTL())
	if keys {
		for _, key := range answer.GetKeys() {
			s.println(Escape(key))
		}
	}
	return nil
}

func newLeaseList(c Config) *cli.Command {
	return c.command(spec{
		name: "list", usage: "list the leases", formats: noTable,
		run: func(ctx context.Context, s *session) error {
			if _, err := s.args(0, 0); err != nil {
				return err
			}
			var answer *pb.LeaseLeasesResponse
			err := s.read(ctx, func(ctx context.Context, conn *grpc.ClientConn) (err error) {
				answer, err = pb.NewLeaseClient(conn).LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
				return err
			})
			if err != nil {
				return err
			}
			var ids []string
			for _, l := range answer.GetLeases() {
				ids = append(ids, leaseText(l.GetID()))
			}
			slices.Sort(ids)
			if s.format == formatJSON {
				return s.writeJSON(map[string]any{"header": headerOf(answer.GetHeader()), "leases": append([]string{}, ids...)})
			}
			for _, id := range ids {
				s.println(id)
			}
			return nil
		},
	})
}
