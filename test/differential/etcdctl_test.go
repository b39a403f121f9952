package differential

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// etcdctlTimeout bounds one run of etcdctl.
const etcdctlTimeout = 30 * time.Second

// buildEtcdctl builds etcdctl once.
var buildEtcdctl = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaries, "etcdctl")
	cmd := exec.Command("go", "build", "-o", path, "go.etcd.io/etcd/etcdctl/v3")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build etcdctl: %w\n%s", err, out)
	}
	return path, nil
})

// etcdctl runs one command against the server and returns its exit code and output.
func (p *peer) etcdctl(t *testing.T, stdin string, args ...string) (int, string) {
	t.Helper()
	path, err := buildEtcdctl()
	ok(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), etcdctlTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, append([]string{"--endpoints", p.addr}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil || (err != nil && cmd.ProcessState == nil) {
		t.Fatalf("etcdctl %v: %v\n%s", args, err, out)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// ctlCase is a command whose exit code and output must be the same on both servers.
type ctlCase struct {
	stdin string
	args  string // separated by blanks
	want  string // must be in the output
}

const leaseHex = "00000000000004d2" // 1234

var ctlCases = []ctlCase{
	{"", "put a 1", "OK"},
	{"", "put a 2 --prev-kv", "a\n1"},
	{"", "put b/1 x", "OK"},
	{"from stdin", "put b/2", "OK"},
	{"", "get a -w fields", `"ModRevision" : 3`},
	{"", "get b/ --prefix --keys-only", "b/1"},
	{"", "get a b/9 --order DESCEND --sort-by MODIFY --limit 2", "from stdin"},
	{"", "get --from-key a --count-only -w fields", `"Count" : 3`},
	{"", "get a --rev 2", "1"},
	{"", "get a --rev 99", "required revision is a future revision"},
	{"", "get nothing", ""},
	{"", "put nothing --ignore-value", "key not found"},
	{"mod(\"a\") = \"3\"\n\nput a 3\nget b/1\n\nput a 4\n\n", "txn", "SUCCESS"},
	{"val(\"a\") = \"nope\"\n\nput a 3\n\nget a\ndel b/2 --prev-kv\n\n", "txn", "FAILURE"},
	{"", "del b/ --prefix --prev-kv", "b/1"},
	{"", "del a", "1"},
	{"", "lease timetolive " + leaseHex, "already expired"},
	{"", "lease timetolive " + leaseHex + " --keys", "already expired"},
	{"", "lease list", "found 0 leases"},
	{"", "lease revoke " + leaseHex, "requested lease not found"},
	{"", "compaction 3", "compacted revision 3"},
	{"", "compaction 3", "required revision has been compacted"},
	{"", "get a --rev 2", "required revision has been compacted"},
	{"", "alarm list", ""},
	{"", "defrag", "Finished defragmenting"},
	{"", "endpoint health", "is healthy"},
	{"", "version", "3.7.3"},
}

// TestEtcdctl compares what etcdctl prints for both servers.
func TestEtcdctl(t *testing.T) {
	r := newPair(t)
	for _, c := range ctlCases {
		t.Run(c.args, func(t *testing.T) {
			var codes [2]int
			var outs [2]string
			for i, p := range r.peers {
				codes[i], outs[i] = p.etcdctl(t, c.stdin, strings.Fields(c.args)...)
				outs[i] = neutral(outs[i], p.addr)
			}
			if codes[0] != codes[1] || outs[0] != outs[1] {
				t.Errorf("etcd (exit code %d):\n%s\nsubject (exit code %d):\n%s", codes[0], outs[0], codes[1], outs[1])
			}
			if !strings.Contains(outs[0], c.want) {
				t.Errorf("etcd's output lacks %q:\n%s", c.want, outs[0])
			}
		})
	}
	for _, p := range r.peers {
		t.Run(p.name, func(t *testing.T) {
			t.Run("health", p.ctlHealth)
			t.Run("hashkv", p.ctlHash)
			t.Run("lease", p.ctlLease)
			t.Run("watch", p.ctlWatch)
			t.Run("lock", p.ctlLock)
		})
	}
}

// What etcdctl prints of a server's own: how long something took, ids in the fields output, its own log.
var (
	timings = regexp.MustCompile(`\d[0-9.]*(ns|µs|ms|s)\b`)
	ids     = regexp.MustCompile(`(?m)^("(?:ClusterID|MemberID|RaftTerm)" : )\d+$`)
	logged  = regexp.MustCompile(`(?m)^\{"level":.*\n`)
)

func neutral(out, addr string) string {
	out = logged.ReplaceAllString(strings.ReplaceAll(out, addr, "ADDR"), "")
	return ids.ReplaceAllString(timings.ReplaceAllString(out, "TIME"), "$1")
}

// ctlHealth checks the commands whose output is each server's own.
func (p *peer) ctlHealth(t *testing.T) {
	var status []struct {
		Endpoint string
		Status   struct {
			Header struct {
				MemberID uint64 `json:"member_id"`
			}
			Version string
			DBSize  int64 `json:"dbSize"`
			Leader  uint64
		}
	}
	code, out := p.etcdctl(t, "", "endpoint", "status", "-w", "json")
	if err := json.Unmarshal([]byte(out), &status); err != nil || code != 0 || len(status) != 1 {
		t.Fatalf("endpoint status: exit code %d, %v\n%s", code, err, out)
	}
	s := status[0].Status
	if s.Version < "3.5.13" || s.DBSize == 0 || s.Leader == 0 || s.Leader != s.Header.MemberID {
		t.Errorf("endpoint status: %s", out)
	}
	if code, out = p.etcdctl(t, "", "endpoint", "health"); code != 0 || !strings.Contains(out, "is healthy") {
		t.Errorf("endpoint health: exit code %d\n%s", code, out)
	}
	code, out = p.etcdctl(t, "", "member", "list", "-w", "table")
	if code != 0 || !strings.Contains(out, "started") || !strings.Contains(out, fmt.Sprintf("%x", s.Leader)) {
		t.Errorf("member list: exit code %d\n%s", code, out)
	}
}

func (p *peer) ctlHash(t *testing.T) {
	if code, out := p.etcdctl(t, "", "endpoint", "hashkv"); code != 0 || !strings.Contains(out, p.addr) {
		t.Errorf("endpoint hashkv: exit code %d\n%s", code, out)
	}
}

// ctlLease grants, uses and revokes a lease whose id the server chose.
func (p *peer) ctlLease(t *testing.T) {
	var granted struct{ ID int64 }
	_, out := p.etcdctl(t, "", "lease", "grant", "100", "-w", "json")
	if err := json.Unmarshal([]byte(out), &granted); err != nil {
		t.Fatalf("lease grant: %v\n%s", err, out)
	}
	id := fmt.Sprintf("%x", granted.ID)
	for _, c := range []ctlCase{
		{"", "put leased v --lease " + id, "OK"},
		{"", "lease timetolive --keys " + id, "attached keys([leased])"},
		{"", "lease keep-alive --once " + id, "keepalived with TTL(100)"},
		{"", "lease list", id},
		{"", "lease revoke " + id, "revoked"},
		{"", "get leased --count-only -w fields", `"Count" : 0`},
	} {
		if code, out := p.etcdctl(t, c.stdin, strings.Fields(c.args)...); code != 0 || !strings.Contains(out, c.want) {
			t.Errorf("%s: exit code %d, want %q\n%s", c.args, code, c.want, out)
		}
	}
}

// ctlWatch reads the history of a key with etcdctl watch.
func (p *peer) ctlWatch(t *testing.T) {
	path, err := buildEtcdctl()
	ok(t, err)
	_, out := p.etcdctl(t, "", "put", "watched", "first", "-w", "json")
	var put struct{ Header struct{ Revision int64 } }
	if err := json.Unmarshal([]byte(out), &put); err != nil {
		t.Fatalf("put: %v\n%s", err, out)
	}
	p.etcdctl(t, "", "put", "watched", "second")
	p.etcdctl(t, "", "del", "watched")
	ctx, cancel := context.WithTimeout(context.Background(), etcdctlTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--endpoints", p.addr, "watch", "watched", "--prev-kv", "--rev", fmt.Sprint(put.Header.Revision))
	want := "PUT\nwatched\nfirst\nPUT\nwatched\nfirst\nwatched\nsecond\nDELETE\nwatched\nsecond\nwatched\n"
	got := &prefixWriter{want: len(want), full: cancel}
	cmd.Stdout = got
	_ = cmd.Run() // ends by being cancelled
	if g := strings.ReplaceAll(got.buf.String(), "\n\n", "\n"); g != want {
		t.Errorf("etcdctl watch printed\n%q, want\n%q", g, want)
	}
}

// ctlLock runs a command under a lock, which needs leases, watches and Txns to work together.
func (p *peer) ctlLock(t *testing.T) {
	if code, out := p.etcdctl(t, "", "lock", "name", "echo", "held"); code != 0 || !strings.Contains(out, "held") {
		t.Errorf("lock: exit code %d\n%s", code, out)
	}
}

// prefixWriter collects output and calls full once enough of it has come.
type prefixWriter struct {
	buf  bytes.Buffer
	want int
	full func()
}

func (w *prefixWriter) Write(b []byte) (int, error) {
	n, err := w.buf.Write(b)
	if w.buf.Len() >= w.want {
		w.full()
	}
	return n, err
}

// TestEtcdctlNetsyProfile checks that the default profile reports its health and refuses what it must refuse.
func TestEtcdctlNetsyProfile(t *testing.T) {
	needKinsy(t)
	p := &peer{server: newKinsy(t, "netsy")}
	ok(t, p.start())
	t.Cleanup(func() { p.disconnect(); p.kill() })
	p.ctlHealth(t)
	for args, want := range map[string]string{
		"put a 1":      "--api=etcd",
		"del a":        "--api=etcd",
		"compaction 1": "--api=etcd",
		"defrag":       "--api=etcd",
	} {
		if code, out := p.etcdctl(t, "", strings.Fields(args)...); code == 0 || !strings.Contains(out, want) {
			t.Errorf("%s: exit code %d, want a refusal that names %s\n%s", args, code, want, out)
		}
	}
	if code, out := p.etcdctl(t, "version(\"a\") = \"0\"\n\nput a 1\n\nget a\n\n", "txn"); code != 0 || !strings.Contains(out, "SUCCESS") {
		t.Errorf("txn: exit code %d\n%s", code, out)
	}
	if code, out := p.etcdctl(t, "", "get", "a"); code != 0 || out != "a\n1\n" {
		t.Errorf("get: exit code %d\n%s", code, out)
	}
}
