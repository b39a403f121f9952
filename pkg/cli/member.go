package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer"
	"github.com/kinsy/kinsy/pkg/s3snap"
)

const removeDescription = `NAME is a node that is gone for good, or for long; one that runs is refused. Its registration is removed, and the primary then takes its
vote away, unless too few of the other voters are healthy. What was acknowledged stays. The node may join again, with its disk or an
empty one, by being started.`

const forceDescription = `May lose acknowledged writes. For when a majority of the voters' disks is lost for good, so that no primary can be elected. The nodes
that are named become the voters, and nobody else; what only others hold is gone. Every node must be stopped. Those that are named are
started after it; others join as new nodes.`

func newMemberCommand() *cli.Command {
	return parent("member", "list, remove and force the voters of a cluster", newMemberListCommand(), newMemberRemoveCommand(), newMemberForceCommand())
}

// memberRow is one node as kinsy member list shows it.
type memberRow struct {
	Name       string   `json:"name,omitempty"`
	MemberID   string   `json:"member_id,omitempty"` // etcd's, in hexadecimal digits
	Voter      bool     `json:"voter"`
	Disk       string   `json:"disk"`
	Address    string   `json:"address,omitempty"`
	ClientURLs []string `json:"client_urls,omitempty"`
	Version    string   `json:"version,omitempty"`
	Started    string   `json:"started,omitempty"`
}

func newMemberListCommand() *cli.Command {
	settings, flags := newClusterFlags()
	return &cli.Command{
		Name: "list", Usage: "list the nodes that object storage knows", OnUsageError: usageError, Flags: append(flags, newOutputFlag()),
		Action: offline(func(ctx context.Context, s *session) error {
			if err := s.flagsOnly(); err != nil {
				return err
			}
			asJSON, err := s.json()
			if err != nil {
				return err
			}
			return s.withCluster(ctx, settings, func(c *cluster) error {
				if asJSON {
					encoder := json.NewEncoder(s.out)
					encoder.SetIndent("", "  ")
					return encoder.Encode(c.memberRows())
				}
				return printMembers(s.out, c.memberRows())
			})
		}),
	}
}

func (c *cluster) memberRows() (rows []memberRow) {
	for _, n := range c.nodes {
		row := memberRow{
			Name: n.Name, Voter: c.IsMember(n.ID), Disk: n.ID.String(), Address: n.PeerAddress, ClientURLs: n.ClientURLs, Version: n.Version,
			Started: utc(time.UnixMilli(n.Started)),
		}
		if id := c.members[n.Name]; id != 0 {
			row.MemberID = fmt.Sprintf("%x", id)
		}
		rows = append(rows, row)
	}
	for _, id := range c.strangers() {
		rows = append(rows, memberRow{Voter: true, Disk: id.String()})
	}
	return rows
}

func printMembers(out io.Writer, rows []memberRow) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tMEMBER ID\tVOTES\tDISK\tADDRESS\tCLIENT URLS\tVERSION\tSTARTED")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", orDash(r.Name), orDash(r.MemberID), yes(r.Voter), r.Disk, orDash(r.Address),
			orDash(strings.Join(r.ClientURLs, ",")), orDash(r.Version), orDash(r.Started))
	}
	return w.Flush()
}

// Times of kinsy member remove.
const (
	removeLimit = time.Minute
	removeEvery = 200 * time.Millisecond
)

func newMemberRemoveCommand() *cli.Command {
	settings, flags := newClusterFlags()
	return &cli.Command{
		Name: "remove", Usage: "take the vote of a node away that is gone", ArgsUsage: "NAME", Description: removeDescription, OnUsageError: usageError,
		Flags: append(flags, &cli.DurationFlag{Name: "timeout", Usage: "how long to wait until the primary has done it", Value: removeLimit}),
		Action: offline(func(ctx context.Context, s *session) error {
			name, err := s.onlyArgument("NAME")
			if err != nil {
				return err
			}
			return s.withCluster(ctx, settings, func(c *cluster) error {
				n, err := c.find(name)
				if err != nil {
					return err
				}
				return c.withPeers(ctx, func(_ *peer.Transport, all answers) error {
					if err := c.mayRemove(n, all); err != nil {
						return err
					}
					return c.remove(ctx, n)
				})
			})
		}),
	}
}

// mayRemove says why a node cannot be removed, and what helps.
func (c *cluster) mayRemove(n s3snap.Registration, all answers) error {
	it, _ := all.of(n.ID)
	if err := it.gone(); err != nil {
		return err
	}
	if !c.IsMember(n.ID) {
		return nil
	}
	rest := len(c.Members) - 1
	need := max(c.Rule.CommitNeed(rest), rest/2+1)
	if rest == 0 {
		return fmt.Errorf("node %s is the only voter: without its disk there is no cluster; start it, or see kinsy restore", n.Name)
	}
	if all.primary() == nil {
		return errors.New("there is no primary that could take the vote away; start the other nodes, or, if their disks are lost for good, see kinsy member force --help")
	}
	healthy := 0
	for _, a := range all {
		if a.ID != n.ID && c.IsMember(a.ID) && a.healthy() {
			healthy++
		}
	}
	if healthy < need {
		return fmt.Errorf("%d of the %d other voters are healthy, and %d must be to go on without node %s; see kinsy status", healthy, rest, need, n.Name)
	}
	return nil
}

// remove removes a node's registration, and waits until the Primary has taken its vote away.
func (c *cluster) remove(ctx context.Context, n s3snap.Registration) error {
	if err := c.control.Deregister(ctx, n); err != nil {
		return fmt.Errorf("remove registration: %w", err)
	}
	limit := c.s.cmd.Duration("timeout")
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(removeEvery)
	defer ticker.Stop()
	for now := c.Cluster; ; {
		if !now.IsMember(n.ID) && !now.Changing {
			f := &facts{out: c.s.out}
			f.line("removed", "%s", n.Name)
			f.line("voters", "%s", strings.Join(c.names(now.Members), " "))
			return f.err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("the registration of node %s is removed, but the primary has not taken its vote away within %s; it will once enough of the other voters are healthy, see kinsy status", n.Name, limit)
		}
		if there, err := c.control.Read(ctx); err == nil {
			now = there
		}
	}
}

func newMemberForceCommand() *cli.Command {
	settings, flags := newClusterFlags()
	return &cli.Command{
		Name: "force", Usage: "make nodes the only voters; may lose acknowledged writes", ArgsUsage: "NAME...", Description: forceDescription, OnUsageError: usageError,
		Flags: append(flags, &cli.BoolFlag{Name: "yes", HideDefault: true, Usage: "do it, although acknowledged writes may be lost"}),
		Action: offline(func(ctx context.Context, s *session) error {
			if !s.cmd.Args().Present() {
				return errors.New("kinsy member force takes the NAME of each node that is to vote; see kinsy member force --help")
			}
			return s.withCluster(ctx, settings, func(c *cluster) error { return c.force(ctx, s.cmd.Args().Slice()) })
		}),
	}
}

// force makes nodes the voters, if no node runs.
func (c *cluster) force(ctx context.Context, names []string) error {
	var voters []elect.NodeID
	for _, name := range names {
		n, err := c.find(name)
		if err != nil {
			return err
		}
		voters = append(voters, n.ID)
	}
	err := c.withPeers(ctx, func(_ *peer.Transport, all answers) error {
		var running []error
		for _, a := range all {
			running = append(running, a.gone())
		}
		return errors.Join(running...)
	})
	if err != nil {
		return err
	}
	if !c.s.cmd.Bool("yes") {
		slices.Sort(voters)
		return fmt.Errorf("nothing was changed: %s would be all that votes, instead of %s, and what only others hold would be lost; give --yes",
			strings.Join(c.names(slices.Compact(voters)), " "), strings.Join(c.names(c.Members), " "))
	}
	forced, err := c.control.Force(ctx, voters, c.Rule)
	if err != nil {
		return fmt.Errorf("force voters: %w", err)
	}
	f := &facts{out: c.s.out}
	f.line("before", "%s", strings.Join(c.names(c.Members), " "))
	f.line("voters", "%s", strings.Join(c.names(forced.Members), " "))
	f.line("epoch", "%d", forced.Epoch)
	f.line("next", "start them")
	return f.err
}
