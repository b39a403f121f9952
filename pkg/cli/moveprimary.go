package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v3"
	"google.golang.org/grpc/status"

	"github.com/kinsy/kinsy/pkg/peer"
)

// moveLimit bounds a hand-over.
const moveLimit = 10 * time.Second

const moveDescription = `The primary finishes what it has begun, uploads it, and hands over; writes wait meanwhile, for less than a second where all is well. NODE must
vote and follow. Where that fails the primary stays what it is. It works with any --api.`

func newMovePrimaryCommand() *cli.Command {
	settings, flags := newClusterFlags()
	return &cli.Command{
		Name: "move-primary", Usage: "make another node primary", ArgsUsage: "NODE", Description: moveDescription, OnUsageError: usageError, Flags: flags,
		Action: offline(func(ctx context.Context, s *session) error {
			name, err := s.onlyArgument("NODE")
			if err != nil {
				return err
			}
			return s.withCluster(ctx, settings, func(c *cluster) error {
				return c.withPeers(ctx, func(t *peer.Transport, all answers) error { return c.movePrimary(ctx, t, all, name) })
			})
		}),
	}
}

func (c *cluster) movePrimary(ctx context.Context, t *peer.Transport, all answers, name string) error {
	n, err := c.find(name)
	if err != nil {
		return err
	}
	from := all.primary()
	target, _ := all.of(n.ID)
	switch {
	case from == nil:
		return errors.New("there is no primary, see kinsy status")
	case target.err != nil:
		return fmt.Errorf("node %s is not reached: %w", name, target.err)
	case !c.IsMember(n.ID):
		return fmt.Errorf("node %s does not vote yet, see kinsy status", name)
	}
	f := &facts{out: c.s.out}
	if from.ID == n.ID {
		f.line("primary", "%s, as before", name)
		return f.err
	}
	ctx, cancel := context.WithTimeout(ctx, moveLimit)
	defer cancel()
	started := time.Now()
	now, err := t.HandOver(ctx, from.PeerAddress, n.ID)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the primary, %s, has not handed over within %s; see kinsy status", from.Name, moveLimit)
	case err != nil && errors.Is(err, peer.ErrRefused):
		return err
	case err != nil:
		return fmt.Errorf("the primary, %s, did not hand over: %s", from.Name, status.Convert(err).Message())
	case now != n.ID:
		return fmt.Errorf("the primary is %s now; see kinsy status", c.nameOf(now))
	}
	f.line("primary", "%s", name)
	f.line("before", "%s", from.Name)
	f.line("took", "%s", time.Since(started).Round(time.Millisecond))
	return f.err
}
