package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/kinsy/kinsy/pkg/node"
)

// threeNodes is a cluster in this process.
type threeNodes struct {
	t     *testing.T
	dir   string
	store string
	nodes map[string]*node.Node // those that run
}

// startThree starts a cluster, and returns when all nodes vote and are healthy.
func startThree(t *testing.T) *threeNodes {
	t.Helper()
	clearEnvironment(t)
	dir := t.TempDir()
	c := &threeNodes{t: t, dir: dir, store: "file://" + filepath.Join(dir, "store"), nodes: map[string]*node.Node{}}
	t.Cleanup(func() {
		for name := range c.nodes {
			c.stop(name)
		}
	})
	c.start("n1", "n2", "n3")
	c.settled(3)
	return c
}

// start starts nodes at the same time.
func (c *threeNodes) start(names ...string) {
	c.t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, name := range names {
		wg.Go(func() {
			cfg := nodeConfig(filepath.Join(c.dir, name), c.store)
			cfg.Quorum, cfg.API = node.QuorumLocal, node.APINetsy
			cfg.ClusterID, cfg.NodeID, cfg.Version = "test", name, "1.2.3"
			cfg.PeerListenAddress, cfg.InsecurePeers = "127.0.0.1:0", true
			n, err := node.Start(c.t.Context(), cfg)
			if err != nil {
				c.t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			c.nodes[name] = n
		})
	}
	wg.Wait()
	if c.t.Failed() {
		c.t.FailNow()
	}
}

func (c *threeNodes) stop(name string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), processLimit)
	defer cancel()
	if err := c.nodes[name].Close(ctx); err != nil {
		c.t.Error(err)
	}
	delete(c.nodes, name)
}

// args are those of a command about the cluster.
func (c *threeNodes) args(command string, more ...string) []string {
	return append(append(strings.Fields(command), "--object-store", c.store, "--cluster-id", "test", "--insecure-peers"), more...)
}

// status asks for the state of all nodes.
func (c *threeNodes) status() (code int, rows []statusRow, stderr string) {
	c.t.Helper()
	code, stdout, stderr := kinsy(c.args("status", "--output", "json")...)
	if err := json.Unmarshal([]byte(stdout), &rows); err != nil {
		c.t.Fatalf("%v in %q, %s", err, stdout, stderr)
	}
	return code, rows, stderr
}

// settled waits until a number of nodes vote and are healthy, and returns the Primary's name and the others'.
func (c *threeNodes) settled(voters int) (primary string, others []string) {
	c.t.Helper()
	for deadline := time.Now().Add(processLimit); ; {
		code, rows, stderr := c.status()
		count := 0
		primary, others = "", nil
		for _, r := range rows {
			switch {
			case r.Role == "primary":
				primary = r.Name
			case r.Voter:
				others = append(others, r.Name)
			}
			if r.Voter {
				count++
			}
		}
		if code == 0 && count == voters {
			return primary, others
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("code %d, %+v, %s", code, rows, stderr)
		}
	}
}

// TestStatusAndMembers shows a cluster that is well, and one that lacks a node.
func TestStatusAndMembers(t *testing.T) {
	c := startThree(t)
	primary, others := c.settled(3)
	table := done(t, c.args("status")...)
	lines := strings.Split(strings.TrimSpace(table), "\n")
	if len(lines) != 4 || strings.Join(strings.Fields(lines[0]), " ") != "NAME VOTES ROLE EPOCH PRIMARY ELECTOR COMMITTED DURABLE UPLOADED LAG HEALTH VERSION ADDRESS WHY" {
		t.Errorf("status:\n%s", table)
	}
	for i, line := range lines[1:] {
		f := strings.Fields(line)
		if f[0] != fmt.Sprintf("n%d", i+1) || f[1] != "yes" || f[4] != primary || f[10] != "healthy" || f[11] != "1.2.3" || f[13] != "-" {
			t.Errorf("status line %q", line)
		}
		if role := f[2]; (role == "primary") != (f[0] == primary) || (f[9] == "-") != (f[0] == primary) {
			t.Errorf("role and lag in %q, the primary is %s", line, primary)
		}
	}
	list := done(t, append(strings.Fields("member list --object-store"), c.store)...)
	contains(t, list, "NAME", "MEMBER ID", "n1 ", "n2 ", "n3 ", "yes", "http://127.0.0.1:")
	var rows []memberRow
	if err := json.Unmarshal([]byte(done(t, c.args("member list", "--output", "json")...)), &rows); err != nil || len(rows) != 3 || !rows[2].Voter || rows[2].MemberID == "" {
		t.Errorf("%+v, %v", rows, err)
	}

	refused(t, "--output must be table or json", c.args("status", "--output", "xml")...)
	refused(t, "--peer-cert-file, --peer-key-file and --peer-ca-file are needed together", "status", "--object-store", c.store)
	refused(t, "and --cluster-id other of", "status", "--object-store", c.store, "--insecure-peers", "--cluster-id", "other")
	refused(t, "there is no cluster.json", "member", "list", "--object-store", "file://"+t.TempDir())

	lost := others[0]
	c.stop(lost)
	code, states, stderr := c.status()
	if code != 1 || !strings.Contains(stderr, "voter "+lost+" is not reached") {
		t.Errorf("code %d: %s", code, stderr)
	}
	for _, r := range states {
		if (r.Name == lost) != (r.Health == healthUnreachable) || r.Health == healthUnreachable && len(r.Why) == 0 {
			t.Errorf("%+v", r)
		}
	}
}

// TestMovePrimary moves it, in the profile that has no MoveLeader.
func TestMovePrimary(t *testing.T) {
	c := startThree(t)
	before, others := c.settled(3)
	target := others[1]
	text := done(t, c.args("move-primary", target)...)
	if value(t, text, "primary") != target || value(t, text, "before") != before {
		t.Errorf("move-primary says\n%s", text)
	}
	if now, _ := c.settled(3); now != target {
		t.Errorf("primary is %s, not %s", now, target)
	}
	contains(t, done(t, c.args("move-primary", target)...), target+", as before")
	refused(t, `there is no node "n4", see kinsy member list`, c.args("move-primary", "n4")...)
	refused(t, "takes one NODE", c.args("move-primary")...)
	c.stop(before)
	refused(t, "node "+before+" is not reached", c.args("move-primary", before)...)
}

// TestMemberRemove takes the vote of a node away that is gone, and lets it join again.
func TestMemberRemove(t *testing.T) {
	c := startThree(t)
	_, others := c.settled(3)
	gone := others[0]
	refused(t, "node "+gone+" runs, at 127.0.0.1:", c.args("member remove", gone)...)
	refused(t, `there is no node "n4"`, c.args("member remove", "n4")...)
	refused(t, "takes one NAME", c.args("member remove")...)
	c.stop(gone)
	text := done(t, c.args("member remove", gone)...)
	if value(t, text, "removed") != gone || len(strings.Fields(value(t, text, "voters"))) != 2 {
		t.Errorf("member remove says\n%s", text)
	}
	primary, others := c.settled(2)
	c.start(gone)
	c.settled(3)
	c.stop(gone)
	c.stop(others[0])
	refused(t, "1 of the 2 other voters are healthy, and 2 must be", c.args("member remove", gone)...)
	c.stop(primary)
	refused(t, "there is no primary that could take the vote away", c.args("member remove", gone)...)
}

// TestMemberForce makes one node of three the only voter, with what it has.
func TestMemberForce(t *testing.T) {
	c := startThree(t)
	primary, others := c.settled(3)
	refused(t, "node n1 runs", c.args("member force", "--yes", "n1")...)
	c.stop(others[0])
	c.stop(others[1])
	c.stop(primary)
	kept := others[0]
	refused(t, `there is no node "n4"`, c.args("member force", "--yes", "n4")...)
	refused(t, "takes the NAME of each node", c.args("member force", "--yes")...)
	refused(t, "nothing was changed: "+kept+" would be all that votes, instead of n", c.args("member force", kept)...)
	text := done(t, c.args("member force", "--yes", kept)...)
	if value(t, text, "voters") != kept || len(strings.Fields(value(t, text, "before"))) != 3 {
		t.Errorf("member force says\n%s", text)
	}
	c.start(kept)
	deadline := time.Now().Add(processLimit)
	for {
		_, rows, stderr := c.status()
		i := 0
		for rows[i].Name != kept {
			i++
		}
		if rows[i].Role == "primary" && rows[i].Health == "healthy" && rows[i].Voter {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v, %s", rows, stderr)
		}
	}
	conn, err := grpc.NewClient(c.nodes[kept].Addrs()[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	create(t, conn, "after", "v")
}
