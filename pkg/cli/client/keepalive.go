package client

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v3"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

func newKeepAlive(c Config) *cli.Command {
	once := false
	return c.command(spec{
		name: "keep-alive", usage: "renew a lease until it is interrupted", args: "ID", formats: noTable,
		description: "Renews three times within each TTL, at any endpoint that answers. Ends with an error when the lease is gone.",
		flags:       []cli.Flag{&cli.BoolFlag{Name: "once", HideDefault: true, Destination: &once, Usage: "renew it once"}},
		run: func(ctx context.Context, s *session) error {
			id, err := s.leaseID()
			if err != nil {
				return err
			}
			err = s.keepAlive(ctx, id, once)
			if ctx.Err() != nil {
				return nil // it was told to stop
			}
			return err
		},
	})
}

// keepAlive renews a lease, once or until the context ends. While no server answers it goes on for as long as the lease may
// live.
func (s *session) keepAlive(ctx context.Context, id int64, once bool) error {
	var until time.Time // the lease lives at least
	for {
		answer, err := s.renew(ctx, id)
		pause := firstPause
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && (once || !time.Now().Before(until) || !mayGoOn(err)):
			return err
		case err != nil:
			s.note("not renewed, trying again: %v", err)
			s.next()
		case answer.GetTTL() <= 0:
			return fmt.Errorf("lease %s expired or was revoked", leaseText(id))
		default:
			if err := s.printRenewed(answer); err != nil || once {
				return err
			}
			ttl := time.Duration(answer.GetTTL()) * time.Second
			until, pause = time.Now().Add(ttl), ttl/3
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// renew renews a lease once. It may be repeated.
func (s *servers) renew(ctx context.Context, id int64) (answer *pb.LeaseKeepAliveResponse, err error) {
	err = s.read(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		stream, err := pb.NewLeaseClient(conn).LeaseKeepAlive(ctx)
		if err != nil {
			return err
		}
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: id}); err == nil {
			_ = stream.CloseSend()
		}
		answer, err = stream.Recv()
		return err
	})
	return answer, err
}

func (s *session) printRenewed(answer *pb.LeaseKeepAliveResponse) error {
	id := answer.GetID()
	if s.format == formatJSON {
		if err := s.writeJSON(leaseJSON{Header: headerOf(answer.GetHeader()), ID: id, Hex: leaseText(id), TTL: answer.GetTTL()}); err != nil {
			return err
		}
		return s.out.Flush()
	}
	fmt.Fprintf(s.out, "lease %s keepalived with TTL(%d)\n", leaseText(id), answer.GetTTL())
	return s.out.Flush()
}
