package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v3"

	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/peer"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
)

const statusDescription = `Every node that is registered in object storage is asked over its peer port, with the certificate of any node
(--peer-cert-file, --peer-key-file, --peer-ca-file) or by --insecure-peers. LAG is how many rows the primary has that the node has
not said to hold. The exit code is 1 when there is no primary or a voter is not healthy.`

func newStatusCommand() *cli.Command {
	settings, flags := newClusterFlags()
	return &cli.Command{
		Name: "status", Usage: "show how the nodes of a cluster are", Description: statusDescription, OnUsageError: usageError,
		Flags: append(flags, newOutputFlag()),
		Action: offline(func(ctx context.Context, s *session) error {
			if err := s.flagsOnly(); err != nil {
				return err
			}
			asJSON, err := s.json()
			if err != nil {
				return err
			}
			return s.withCluster(ctx, settings, func(c *cluster) error {
				return c.withPeers(ctx, func(_ *peer.Transport, all answers) error {
					rows := c.statusRows(all)
					print := printStatus
					if asJSON {
						print = printStatusJSON
					}
					return errors.Join(print(s.out, rows), c.verdict(all))
				})
			})
		}),
	}
}

// statusRow is one node as kinsy status shows it. What is not known is left out.
type statusRow struct {
	Name      string   `json:"name"`
	Disk      string   `json:"disk"`
	Voter     bool     `json:"voter"`
	Role      string   `json:"role,omitempty"`
	Epoch     int64    `json:"epoch,omitempty"`
	Primary   string   `json:"primary,omitempty"` // that the node hears
	Elector   bool     `json:"elector"`
	Committed int64    `json:"committed,omitempty"`
	Durable   int64    `json:"durable,omitempty"`
	Uploaded  int64    `json:"uploaded,omitempty"`
	Lag       *int64   `json:"lag,omitempty"`
	Health    string   `json:"health"`
	Why       []string `json:"why,omitempty"`
	Version   string   `json:"version,omitempty"`
	Address   string   `json:"address,omitempty"`
}

// What a node is said to be that does not say it itself.
const (
	healthUnreachable  = "unreachable"
	healthUnregistered = "unregistered"
)

var (
	roleNames = map[peerpb.Role]string{
		peerpb.Role_ROLE_REPLICA: "replica", peerpb.Role_ROLE_CANDIDATE: "candidate", peerpb.Role_ROLE_PRIMARY: "primary",
	}
	healthNames = map[peerpb.Health]string{
		peerpb.Health_HEALTH_UNKNOWN: "unknown", peerpb.Health_HEALTH_LOADING: "loading",
		peerpb.Health_HEALTH_HEALTHY: "healthy", peerpb.Health_HEALTH_DEGRADED: "degraded",
	}
)

func (c *cluster) statusRows(all answers) (rows []statusRow) {
	lags := map[elect.NodeID]*int64{}
	if p := all.primary(); p != nil {
		for _, r := range p.state.Replicas {
			lags[elect.NodeID(r.NodeId)] = &r.BehindRows
		}
	}
	for _, a := range all {
		row := statusRow{Name: a.Name, Disk: a.ID.String(), Voter: c.IsMember(a.ID), Version: a.Version, Address: a.PeerAddress}
		if a.err != nil {
			row.Health, row.Why = healthUnreachable, []string{a.err.Error()}
		} else {
			row.fill(c, a.state)
			row.Lag = lags[a.ID]
		}
		rows = append(rows, row)
	}
	for _, id := range c.strangers() {
		rows = append(rows, statusRow{Disk: id.String(), Voter: true, Health: healthUnregistered, Why: []string{"no node has this disk"}})
	}
	return rows
}

func (r *statusRow) fill(c *cluster, s *peerpb.NodeState) {
	r.Role, r.Epoch, r.Elector = roleNames[s.Role], s.Epoch, s.Elector
	r.Committed, r.Durable, r.Uploaded = s.Committed, s.Durable, s.Uploaded
	r.Health, r.Why, r.Version = healthNames[s.Health], s.Problems, s.Version
	if s.Primary != 0 {
		r.Primary = c.nameOf(elect.NodeID(s.Primary))
	}
}

// verdict says what is wrong with a cluster.
func (c *cluster) verdict(all answers) error {
	var errs []error
	if all.primary() == nil {
		errs = append(errs, errors.New("there is no primary"))
	}
	for _, a := range all {
		if !c.IsMember(a.ID) || a.healthy() {
			continue
		}
		if a.err != nil {
			errs = append(errs, fmt.Errorf("voter %s is not reached: %w", a.Name, a.err))
			continue
		}
		errs = append(errs, fmt.Errorf("voter %s is %s: %s", a.Name, healthNames[a.state.Health], strings.Join(a.state.Problems, "; ")))
	}
	for _, id := range c.strangers() {
		errs = append(errs, fmt.Errorf("voter %s is not registered: its node has another disk now, or was removed", id))
	}
	return errors.Join(errs...)
}

func printStatus(out io.Writer, rows []statusRow) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tVOTES\tROLE\tEPOCH\tPRIMARY\tELECTOR\tCOMMITTED\tDURABLE\tUPLOADED\tLAG\tHEALTH\tVERSION\tADDRESS\tWHY")
	for _, r := range rows {
		name := r.Name
		if name == "" {
			name = r.Disk
		}
		lag := ""
		if r.Lag != nil {
			lag = fmt.Sprint(*r.Lag)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, yes(r.Voter), orDash(r.Role), number(r.Epoch), orDash(r.Primary),
			yes(r.Elector), number(r.Committed), number(r.Durable), number(r.Uploaded), orDash(lag), r.Health, orDash(r.Version), orDash(r.Address),
			orDash(strings.Join(r.Why, "; ")))
	}
	return w.Flush()
}

func printStatusJSON(out io.Writer, rows []statusRow) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(rows)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func number(n int64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
