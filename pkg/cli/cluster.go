package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/kinsy/kinsy/pkg/cli/client"
	"github.com/kinsy/kinsy/pkg/elect"
	"github.com/kinsy/kinsy/pkg/node"
	"github.com/kinsy/kinsy/pkg/peer"
	"github.com/kinsy/kinsy/pkg/peer/peerpb"
	"github.com/kinsy/kinsy/pkg/s3snap"
	"github.com/kinsy/kinsy/pkg/s3snap/object"
)

// askLimit is how long a node may take to say how it is.
const askLimit = 2 * time.Second

// clusterSettings is what the flags of a command fill in that is about a cluster.
type clusterSettings struct {
	store *storeSettings
	node  node.Config // the id of the cluster and the files of the peer port
}

// newClusterFlags returns the flags by which a command finds a cluster.
func newClusterFlags() (*clusterSettings, []cli.Flag) {
	s := &clusterSettings{}
	store, flags := newStoreFlags(func(f *flagSet) {
		f.addClusterID(&s.node)
		f.addPeerTLS(&s.node)
	})
	s.store = store
	return s, flags
}

// cluster is a cluster as object storage tells of it.
type cluster struct {
	id       uint64
	control  *s3snap.Control
	settings *clusterSettings
	s        *session

	elect.Cluster
	nodes   []s3snap.Registration
	members map[string]uint64 // etcd's member ids by name
}

// withCluster reads what object storage tells of the cluster that the flags name, for f.
func (s *session) withCluster(ctx context.Context, settings *clusterSettings, f func(*cluster) error) error {
	return s.withStore(ctx, settings.store, func(store object.Store) error {
		c := &cluster{control: s3snap.NewControl(store, 0, 0, s.log), settings: settings, s: s}
		if err := c.read(ctx); err != nil {
			return err
		}
		return f(c)
	})
}

func (c *cluster) read(ctx context.Context) (err error) {
	if c.id, err = c.control.ClusterID(ctx); err != nil {
		return fmt.Errorf("find cluster: %w", err)
	}
	if given := c.settings.node.ClusterID; given != "" && peer.ClusterID(given) != c.id {
		return fmt.Errorf("object storage is of cluster %016x, and --cluster-id %s of %016x", c.id, given, peer.ClusterID(given))
	}
	if c.Cluster, err = c.control.Read(ctx); err != nil {
		return fmt.Errorf("read cluster: %w", err)
	}
	if c.nodes, err = c.control.Registrations(ctx); err != nil {
		return fmt.Errorf("read nodes: %w", err)
	}
	if c.members, err = c.control.MemberIDs(ctx); err != nil {
		return fmt.Errorf("read member ids: %w", err)
	}
	return nil
}

// find finds a node by its name.
func (c *cluster) find(name string) (s3snap.Registration, error) {
	for _, n := range c.nodes {
		if n.Name == name {
			return n, nil
		}
	}
	return s3snap.Registration{}, fmt.Errorf("there is no node %q, see kinsy member list", name)
}

// nameOf names a disk: by the node that has it, else by its id.
func (c *cluster) nameOf(id elect.NodeID) string {
	for _, n := range c.nodes {
		if n.ID == id {
			return n.Name
		}
	}
	return id.String()
}

// names names disks.
func (c *cluster) names(ids []elect.NodeID) (names []string) {
	for _, id := range ids {
		names = append(names, c.nameOf(id))
	}
	return names
}

// strangers are the voters that no registration names.
func (c *cluster) strangers() (ids []elect.NodeID) {
	for _, id := range c.Members {
		if c.nameOf(id) == id.String() {
			ids = append(ids, id)
		}
	}
	return ids
}

// answer is what a node said when it was asked how it is.
type answer struct {
	s3snap.Registration
	state *peerpb.NodeState // nil if err is not
	err   error
}

func (a answer) isPrimary() bool { return a.err == nil && a.state.Role == peerpb.Role_ROLE_PRIMARY }

func (a answer) healthy() bool { return a.err == nil && a.state.Health == peerpb.Health_HEALTH_HEALTHY }

// answers are those of all nodes, in order of name.
type answers []answer

// primary is the Primary of the highest epoch; nil if none says that it is.
func (all answers) primary() (p *answer) {
	for i, a := range all {
		if a.isPrimary() && (p == nil || a.state.Epoch > p.state.Epoch) {
			p = &all[i]
		}
	}
	return p
}

// of is the answer of a disk.
func (all answers) of(id elect.NodeID) (answer, bool) {
	for _, a := range all {
		if a.ID == id {
			return a, true
		}
	}
	return answer{}, false
}

// withPeers connects to the nodes for the time of f, and asks all of them how they are first.
func (c *cluster) withPeers(ctx context.Context, f func(*peer.Transport, answers) error) (err error) {
	transport, err := peer.New(c.settings.peerConfig(c))
	if err != nil {
		return err
	}
	defer closing(&err, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), askLimit)
		defer cancel()
		return transport.Close(ctx)
	})
	all := make(answers, len(c.nodes))
	var wg sync.WaitGroup
	for i, n := range c.nodes {
		wg.Go(func() { all[i] = ask(ctx, transport, n) })
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return f(transport, all)
}

// clientName is what a command calls itself where there are no certificates.
const clientName = "kinsy-command"

func (s *clusterSettings) peerConfig(c *cluster) peer.Config {
	config := peer.Config{
		Name: clientName, Cluster: c.id, CertFile: s.node.PeerCertFile, KeyFile: s.node.PeerKeyFile, CAFile: s.node.PeerCAFile,
		Insecure: s.node.InsecurePeers, Logger: c.s.log,
	}
	// Who shows a certificate has its name. What is wrong with the files is said when they are loaded.
	if pair, err := tls.LoadX509KeyPair(s.node.PeerCertFile, s.node.PeerKeyFile); err == nil {
		if leaf, err := x509.ParseCertificate(pair.Certificate[0]); err == nil {
			config.Name = leaf.Subject.CommonName
		}
	}
	return config
}

// ask asks one node how it is. Another disk than the one that is registered is not that node.
func ask(ctx context.Context, transport *peer.Transport, n s3snap.Registration) answer {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	state, err := transport.State(ctx, n.PeerAddress)
	if err == nil && elect.NodeID(state.NodeId) != n.ID {
		err = fmt.Errorf("another disk answers at %s: %s of node %s", n.PeerAddress, elect.NodeID(state.NodeId), state.Name)
	}
	if err != nil {
		state = nil
	}
	return answer{Registration: n, state: state, err: err}
}

// gone reports whether a node does not run, as far as can be told from here; if not it says why it may.
func (a answer) gone() error {
	switch {
	case a.err == nil:
		return fmt.Errorf("node %s runs, at %s: stop it first", a.Name, a.PeerAddress)
	case errors.Is(a.err, peer.ErrRefused):
		return fmt.Errorf("node %s may run: %w", a.Name, a.err)
	}
	return nil
}

// onlyArgument returns the one argument of a command.
func (s *session) onlyArgument(what string) (string, error) {
	if s.cmd.Args().Len() != 1 {
		return "", client.Misuse(fmt.Errorf("%s takes one %s; see %[1]s --help", s.cmd.FullName(), what))
	}
	return s.cmd.Args().First(), nil
}

// newOutputFlag is the flag by which a list is a table or JSON.
func newOutputFlag() cli.Flag {
	return &cli.StringFlag{Name: "output", Usage: "format: " + outputTable + " or " + outputJSON, Value: outputTable}
}

// json reports whether --output asks for it.
func (s *session) json() (bool, error) {
	format := s.cmd.String("output")
	if format != outputTable && format != outputJSON {
		return false, client.Misuse(fmt.Errorf("--output must be %s or %s, not %q", outputTable, outputJSON, format))
	}
	return format == outputJSON, nil
}
